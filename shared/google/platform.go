package google

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// Platform is the identity that the program runs as: the service account of
// the Cloud Run service, or what else Application Default Credentials find
// (https://cloud.google.com/docs/authentication/application-default-credentials).
// They are looked for when a token is first needed: most functions need none.
type Platform struct {
	transport http.RoundTripper
	key       []byte

	mu          sync.Mutex
	credentials *auth.Credentials
}

var _ setup.TokenSource = (*Platform)(nil)

// NewPlatform returns the identity that the program runs as.
func NewPlatform(transport http.RoundTripper) *Platform { return &Platform{transport: transport} }

// NewPlatformWithKey returns the identity of a service account's key, as JSON,
// wherever the program runs. It refuses an empty key, which would stand for the
// identity that the program runs as.
func NewPlatformWithKey(key []byte, transport http.RoundTripper) (*Platform, error) {
	if len(key) == 0 {
		return nil, errors.New("the service account's key is required")
	}
	return &Platform{transport: transport, key: key}, nil
}

// Format keeps tokens and key out of print.
func (p *Platform) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "the platform's identity") }

// Token implements setup.TokenSource. It fails with Precondition when the
// program has no identity, or one that Google does not take.
func (p *Platform) Token(ctx context.Context) (connect.Secret, error) {
	found, err := p.find()
	if err != nil {
		return "", connect.Errorf(connect.Precondition, "The platform has no identity at Google.").Because(err)
	}
	token, err := found.Token(ctx)
	if failed, ok := errors.AsType[*auth.Error](err); ok && !failed.Temporary() {
		return "", connect.Errorf(connect.Precondition, "Google does not take the platform's identity.").Because(err)
	}
	if err != nil {
		return "", connect.Errorf(connect.Unavailable, "Google gave the platform no token.").Because(err)
	}
	return connect.Secret(token.Value), nil
}

// Renew implements setup.TokenSource.
func (p *Platform) Renew(ctx context.Context, rejected connect.Secret) (connect.Secret, error) {
	p.mu.Lock()
	p.credentials = nil // with the token that they keep
	p.mu.Unlock()
	token, err := p.Token(ctx)
	if err == nil && token == rejected {
		return "", connect.Errorf(connect.Precondition, "Google does not take the platform's token.")
	}
	return token, err
}

func (p *Platform) find() (*auth.Credentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.credentials != nil {
		return p.credentials, nil
	}
	options := &credentials.DetectOptions{
		Scopes: []string{cloudPlatform}, Client: &http.Client{Transport: p.transport},
		DisableAsyncRefresh: true, // Cloud Run gives no CPU between requests
		Logger:              slog.New(slog.DiscardHandler),
	}
	var err error
	if p.key != nil {
		p.credentials, err = credentials.NewCredentialsFromJSON(credentials.ServiceAccount, p.key, options)
	} else {
		p.credentials, err = credentials.DetectDefault(options)
	}
	return p.credentials, err
}
