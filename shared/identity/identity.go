// Package identity finds out whose a bearer token is: an ID token that
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
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"

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

// Options say whose tokens are good. Issuer is required.
type Options struct {
	Issuer string // iss
	Keys   string // URL of the issuer's keys; empty: as the issuer's discovery document says
	// Checked says that Cloud Run's invoker check stands before this service:
	// it lets in what it has verified only, and takes the signature out of it.
	// Such tokens are then believed. Without that check anybody could make them.
	Checked   bool
	Transport http.RoundTripper
}

// SignatureRemoved is what Cloud Run's invoker check puts in the place of a
// token's signature
// (https://cloud.google.com/run/docs/authenticating/service-to-service).
const SignatureRemoved = "SIGNATURE_REMOVED_BY_GOOGLE"

// Issuer is an issuer of tokens. It reads its keys when they are first needed and
// when a token names one that it does not know.
type Issuer struct {
	name, keys string
	checked    bool
	client     *http.Client
	finding    singleflight.Group
	verifier   atomic.Pointer[oidc.IDTokenVerifier] // nil until it was found
}

// Verifier verifies tokens of one issuer for some audiences.
type Verifier struct {
	issuer    *Issuer
	audiences []string
}

// New returns an Issuer. It makes no call. It refuses an empty issuer, which would
// accept a token that names none.
func New(o Options) (*Issuer, error) {
	if o.Issuer == "" {
		return nil, errors.New("the issuer of tokens is required")
	}
	client := &http.Client{Transport: o.Transport, Timeout: requestTimeout}
	return &Issuer{name: o.Issuer, keys: o.Keys, checked: o.Checked, client: client}, nil
}

// For returns a Verifier of tokens for one of these audiences. Verifiers share the
// issuer's keys. It refuses an empty audience, which would accept a token that
// names none, and no audience at all.
func (i *Issuer) For(audiences ...string) (*Verifier, error) {
	if len(audiences) == 0 || slices.Contains(audiences, "") {
		return nil, fmt.Errorf("audiences of tokens of %s are required, none of them empty: %q", i.name, audiences)
	}
	return &Verifier{i, slices.Clone(audiences)}, nil
}

// Identity is the caller that a token identifies.
type Identity struct {
	Subject  string // unique within the issuer
	Email    string // as the issuer says it; believe it if Verified
	Verified bool   // the issuer verified the email
}

// Verify returns the caller that a token identifies: Unauthenticated for one that is not good,
// Unavailable when the issuer's keys cannot be read. Its errors do not hold the
// token.
func (v *Verifier) Verify(ctx context.Context, token connect.Secret) (*Identity, error) {
	if len(token) > maxToken {
		return nil, bad(errors.New("it is too long"))
	}
	verifier, err := v.verifier(ctx, token)
	if err != nil {
		return nil, connect.Errorf(connect.Unavailable, "Who calls cannot be verified at present. Try again in a moment.").Because(err)
	}
	verified, err := verifier.Verify(ctx, token.Reveal())
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "failed to verify signature: fetching keys"): // go-oidc has words for it only; none of the token's come so early
		return nil, connect.Errorf(connect.Unavailable, "Who calls cannot be verified at present. Try again in a moment.").Because(plain(err, token))
	case err != nil:
		return nil, bad(plain(err, token))
	case !slices.ContainsFunc(verified.Audience, func(a string) bool { return slices.Contains(v.audiences, a) }):
		return nil, bad(fmt.Errorf("it is for %q", verified.Audience))
	case verified.Subject == "":
		return nil, bad(errors.New("it is of nobody"))
	}
	var claims struct {
		Email    string `json:"email"`
		Verified any    `json:"email_verified"` // some issuers write it as a text
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, bad(plain(err, token))
	}
	return &Identity{Subject: verified.Subject, Email: claims.Email, Verified: claims.Verified == true || claims.Verified == "true"}, nil
}

// verifier returns what verifies the token.
func (v *Verifier) verifier(ctx context.Context, token connect.Secret) (*oidc.IDTokenVerifier, error) {
	if v.issuer.checked && strings.HasSuffix(token.Reveal(), "."+SignatureRemoved) {
		config := config()
		config.InsecureSkipSignatureCheck = true // Cloud Run has done it
		return oidc.NewVerifier(v.issuer.name, nil, config), nil
	}
	return v.issuer.find(ctx)
}

func config() *oidc.Config {
	return &oidc.Config{
		SkipClientIDCheck: true,                                              // Verify checks the audience
		Now:               func() time.Time { return time.Now().Add(-skew) }, // nbf has a leeway of its own
	}
}

// find returns the issuer's verifier, and asks for its discovery document if
// need be: one caller for all who wait, each as long as its own time allows.
// Keys outlive the call that found them.
func (i *Issuer) find(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if found := i.verifier.Load(); found != nil {
		return found, nil
	}
	asked := i.finding.DoChan("", func() (any, error) { return nil, i.ask(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("find the issuer %s: %w", i.name, ctx.Err())
	case answer := <-asked:
		if answer.Err != nil {
			return nil, answer.Err
		}
		return i.verifier.Load(), nil
	}
}

// ask makes the issuer's verifier.
func (i *Issuer) ask(ctx context.Context) error {
	ctx = oidc.ClientContext(ctx, i.client)
	if i.keys != "" {
		i.verifier.Store(oidc.NewVerifier(i.name, oidc.NewRemoteKeySet(ctx, i.keys), config()))
		return nil
	}
	provider, err := oidc.NewProvider(ctx, i.name)
	if err != nil {
		return fmt.Errorf("find the issuer %s: %w", i.name, err)
	}
	i.verifier.Store(provider.Verifier(config()))
	return nil
}

func bad(err error) error {
	return connect.Errorf(connect.Unauthenticated, "The token is not good: it is expired, or not meant for this service. Log in again.").Because(err)
}

// plain is an error without the token, and without what it wraps.
func plain(err error, token connect.Secret) error {
	text := err.Error()
	for _, part := range append(strings.Split(token.Reveal(), "."), token.Reveal()) {
		if len(part) > 8 {
			text = strings.ReplaceAll(text, part, "[redacted]")
		}
	}
	return errors.New(text)
}
