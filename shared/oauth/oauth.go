// Package oauth is the login at Google: where the user consents, what the code
// that comes back is worth, how a token is renewed and how it is given up.
//
// It follows https://developers.google.com/identity/protocols/oauth2/web-server
// and https://developers.google.com/identity/openid-connect/openid-connect.
// It has two halves, which run in different functions: Logins begins a login and
// proves what comes back, with the login key; Client works with tokens, with the
// OAuth client's secret. No error of this package holds a code, a token or a
// secret, nor the body of an answer: errors.go takes care of that in one place.
package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"gcpconnect/shared/calls"
	"gcpconnect/shared/connect"
)

// The scopes that a connection needs; each is required. Google lets users
// untick single ones.
const (
	ScopeCloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	ScopeEmail         = "https://www.googleapis.com/auth/userinfo.email"
	ScopeOpenID        = oidc.ScopeOpenID
)

func scopes() []string { return []string{ScopeCloudPlatform, ScopeEmail, ScopeOpenID} }

// Endpoints are where Google's authorization server is.
type Endpoints struct {
	Auth   string // consent page
	Token  string
	Revoke string
	Certs  string // keys that id_tokens are signed with
	Issuer string // of id_tokens; empty: Google's
}

const googleIssuer = "https://accounts.google.com"

// GoogleEndpoints are Google's own
// (https://accounts.google.com/.well-known/openid-configuration).
func GoogleEndpoints() Endpoints {
	return Endpoints{ //nolint:gosec // addresses, of which one has "token" in it
		Auth:   "https://accounts.google.com/o/oauth2/v2/auth",
		Token:  "https://oauth2.googleapis.com/token",
		Revoke: "https://oauth2.googleapis.com/revoke",
		Certs:  "https://www.googleapis.com/oauth2/v3/certs",
		Issuer: googleIssuer,
	}
}

// EndpointsUnder are those of a Google that is emulated under one address.
func EndpointsUnder(base string) Endpoints {
	base = strings.TrimSuffix(base, "/")
	return Endpoints{
		Auth: base + "/o/oauth2/v2/auth", Token: base + "/token", Revoke: base + "/revoke",
		Certs: base + "/oauth2/v3/certs", Issuer: googleIssuer,
	}
}

// Options make a Client. The first four are required.
type Options struct {
	ClientID     string
	ClientSecret connect.Secret
	RedirectURL  string // must be one of the OAuth client's, to the letter
	Endpoints    Endpoints
	HTTPClient   *http.Client // only its Transport is used; nil: the default one
	Logger       *slog.Logger // nil: slog's default
	Watch        *calls.Watch // of requests about tokens; nil: none
}

// Client is Aurora as Google's authorization server knows it.
type Client struct {
	id, redirectURL string
	// secret is behind a function because fmt prints fields that are not
	// exported without asking their types.
	secret    func() string
	endpoints Endpoints
	http      *http.Client
	verifier  *oidc.IDTokenVerifier
	log       *slog.Logger
	watch     *calls.Watch
}

// requestTimeout bounds one request to the authorization server.
const requestTimeout = 15 * time.Second

// New makes a Client. It makes no call: the keys of id_tokens are read when
// the first one comes.
func New(opts Options) (*Client, error) {
	if opts.ClientID == "" || opts.ClientSecret == "" || opts.RedirectURL == "" {
		return nil, errors.New("client ID, client secret and redirect URL are required")
	}
	if e := opts.Endpoints; e.Token == "" || e.Revoke == "" || e.Certs == "" {
		return nil, errors.New("endpoints of the authorization server are required")
	}
	if opts.Endpoints.Issuer == "" {
		opts.Endpoints.Issuer = googleIssuer
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	client := &http.Client{
		Timeout: requestTimeout,
		// Google's token endpoint does not redirect. Secrets are not to follow
		// who does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if opts.HTTPClient != nil {
		client.Transport = opts.HTTPClient.Transport
	}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), opts.Endpoints.Certs)
	return &Client{
		id: opts.ClientID, redirectURL: opts.RedirectURL, secret: opts.ClientSecret.Reveal,
		endpoints: opts.Endpoints, http: client, log: opts.Logger, watch: opts.Watch,
		// Of Google's issuer it takes both spellings that Google documents.
		verifier: oidc.NewVerifier(opts.Endpoints.Issuer, keys, &oidc.Config{ClientID: opts.ClientID}),
	}, nil
}

// config is what x/oauth2 works with. Google takes the secret in the body.
func (c *Client) config() *oauth2.Config {
	return &oauth2.Config{
		ClientID: c.id, ClientSecret: c.secret(), RedirectURL: c.redirectURL, Scopes: scopes(),
		Endpoint: oauth2.Endpoint{TokenURL: c.endpoints.Token, AuthStyle: oauth2.AuthStyleInParams},
	}
}

// with makes x/oauth2 use c's HTTP client.
func (c *Client) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, c.http)
}
