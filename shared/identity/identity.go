// Package identity finds out whom a bearer token is of: an ID token that
// Google signed for a service account, or one that another issuer signed for
// a user.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"gcpconnect/shared/connect"
)

const (
	// requestTimeout bounds the reading of keys.
	requestTimeout = 10 * time.Second
	// skew is how far clocks may be apart.
	skew = 30 * time.Second
	// maxToken is more than issuers put into an ID token.
	maxToken = 16 << 10
)

// Options say whose tokens are good.
type Options struct {
	Issuer    string   // iss
	Keys      string   // URL of the issuer's keys; empty: as the issuer's discovery document says
	Audiences []string // aud: one of these
	Transport http.RoundTripper
}

// Verifier verifies tokens of one issuer. It reads the issuer's keys when they
// are first needed and when a token names one that it does not know.
type Verifier struct {
	opts   Options
	client *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer was found
}

// New returns a Verifier. It makes no call.
func New(o Options) *Verifier {
	return &Verifier{opts: o, client: &http.Client{Transport: o.Transport, Timeout: requestTimeout}}
}

// Identity is whom a token is of.
type Identity struct {
	Subject  string // unique within the issuer
	Email    string // as the issuer says it; believe it if Verified
	Verified bool   // the issuer verified the email
}

// Verify returns whom a token is of: Unauthenticated for one that is not good,
// Unavailable when the issuer's keys cannot be read. Its errors do not hold the
// token.
func (v *Verifier) Verify(ctx context.Context, token connect.Secret) (*Identity, error) {
	if len(token) > maxToken {
		return nil, bad(errors.New("it is too long"))
	}
	verifier, err := v.find(ctx)
	if err != nil {
		return nil, connect.Errorf(connect.Unavailable, "Who calls cannot be verified at present. Try again in a moment.").Because(err)
	}
	verified, err := verifier.Verify(ctx, token.Reveal())
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"): // go-oidc has words for it only
		return nil, connect.Errorf(connect.Unavailable, "Who calls cannot be verified at present. Try again in a moment.").Because(v.plain(err, token))
	case err != nil:
		return nil, bad(v.plain(err, token))
	case !slices.ContainsFunc(verified.Audience, func(a string) bool { return slices.Contains(v.opts.Audiences, a) }):
		return nil, bad(fmt.Errorf("it is for %q", verified.Audience))
	case verified.Subject == "":
		return nil, bad(errors.New("it is of nobody"))
	}
	var claims struct {
		Email    string `json:"email"`
		Verified any    `json:"email_verified"` // some issuers write it as a text
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, bad(v.plain(err, token))
	}
	return &Identity{Subject: verified.Subject, Email: claims.Email, Verified: claims.Verified == true || claims.Verified == "true"}, nil
}

// find returns the issuer's verifier, and asks for its discovery document if
// need be. Keys outlive the call that found them.
func (v *Verifier) find(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verifier != nil {
		return v.verifier, nil
	}
	config := &oidc.Config{
		SkipClientIDCheck: true,                                              // Verify checks the audience
		Now:               func() time.Time { return time.Now().Add(-skew) }, // nbf has a leeway of its own
	}
	if v.opts.Keys != "" {
		keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), v.client), v.opts.Keys)
		v.verifier = oidc.NewVerifier(v.opts.Issuer, keys, config)
		return v.verifier, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), v.client), v.opts.Issuer)
	if err != nil {
		return nil, fmt.Errorf("find the issuer %s: %w", v.opts.Issuer, err)
	}
	v.verifier = provider.Verifier(config)
	return v.verifier, nil
}

func bad(err error) error {
	return connect.Errorf(connect.Unauthenticated, "The token is not good: it is expired, or not meant for this service. Log in again.").Because(err)
}

// plain is an error without the token, and without what it wraps.
func (v *Verifier) plain(err error, token connect.Secret) error {
	text := err.Error()
	for _, part := range append(strings.Split(token.Reveal(), "."), token.Reveal()) {
		if len(part) > 8 {
			text = strings.ReplaceAll(text, part, "[redacted]")
		}
	}
	return errors.New(text)
}
