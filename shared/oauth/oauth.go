// Package oauth is the login at Google: where the user consents, what the code
// that comes back is worth, and how a token is renewed.
//
// It follows https://developers.google.com/identity/protocols/oauth2/web-server
// and https://developers.google.com/identity/openid-connect/openid-connect.
// Nothing of a login that must stay secret is ever stored: the PKCE verifier
// and the nonce are derived from the state when it comes back.
package oauth

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// Scopes are what a connection needs; each is required.
var Scopes = []string{
	"https://www.googleapis.com/auth/cloud-platform",
	"https://www.googleapis.com/auth/userinfo.email",
	oidc.ScopeOpenID,
}

// ReasonScopeMissing is the reason of an error about a scope that the user
// did not grant.
const ReasonScopeMissing = "SCOPE_MISSING"

// The reasons of a refresh token's death.
const (
	ReasonInvalidGrant = "invalid_grant" // revoked, expired, unused, or pushed out by newer ones
	ReasonInvalidRapt  = "invalid_rapt"  // the organization's session length has passed
)

// The words that users of the original know.
const textNoToken = "No refresh token available. Please re-authenticate."

// Endpoints are where Google's authorization server is.
type Endpoints struct {
	Auth   string // consent page
	Token  string
	Certs  string // keys that id_tokens are signed with
	Issuer string // of id_tokens
}

const googleIssuer = "https://accounts.google.com"

// GoogleEndpoints are Google's own, as its discovery document lists them.
func GoogleEndpoints() Endpoints {
	return Endpoints{
		Auth:   "https://accounts.google.com/o/oauth2/v2/auth",
		Token:  "https://oauth2.googleapis.com/token", //nolint:gosec // an address, no credential
		Certs:  "https://www.googleapis.com/oauth2/v3/certs",
		Issuer: googleIssuer,
	}
}

// EndpointsUnder are those of a Google that is emulated under one address.
func EndpointsUnder(base string) Endpoints {
	base = strings.TrimSuffix(base, "/")
	return Endpoints{Auth: base + "/o/oauth2/v2/auth", Token: base + "/token", Certs: base + "/oauth2/v3/certs", Issuer: googleIssuer}
}

// Options make a Client.
type Options struct {
	ClientID     string
	ClientSecret connect.Secret
	RedirectURL  string // must be one of the OAuth client's, to the letter
	Endpoints    Endpoints
	HTTPClient   *http.Client // nil: one with a timeout
	Logger       *slog.Logger // nil: slog's default
}

// Client is Aurora as Google's authorization server knows it.
type Client struct {
	config   oauth2.Config
	http     *http.Client
	verifier *oidc.IDTokenVerifier
	issuer   string
	log      *slog.Logger
}

// requestTimeout bounds one request to the authorization server.
const requestTimeout = 15 * time.Second

// New makes a Client. It makes no call: the keys of id_tokens are read when
// the first one comes.
func New(opts Options) (*Client, error) {
	if opts.ClientID == "" || opts.ClientSecret == "" || opts.RedirectURL == "" {
		return nil, errors.New("client ID, client secret and redirect URL are needed")
	}
	client := &http.Client{Timeout: requestTimeout}
	if opts.HTTPClient != nil {
		client.Transport = opts.HTTPClient.Transport
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), opts.Endpoints.Certs)
	return &Client{
		config: oauth2.Config{
			ClientID: opts.ClientID, ClientSecret: opts.ClientSecret.Reveal(), RedirectURL: opts.RedirectURL, Scopes: Scopes,
			Endpoint: oauth2.Endpoint{AuthURL: opts.Endpoints.Auth, TokenURL: opts.Endpoints.Token, AuthStyle: oauth2.AuthStyleInParams},
		},
		http: client,
		// The issuer is checked below: Google documents two spellings of it.
		verifier: oidc.NewVerifier(opts.Endpoints.Issuer, keys, &oidc.Config{ClientID: opts.ClientID, SkipIssuerCheck: true}),
		issuer:   opts.Endpoints.Issuer,
		log:      opts.Logger,
	}, nil
}

// String shows which client c is, and no secret.
func (c *Client) String() string { return "OAuth client " + c.config.ClientID }

// NewState returns a random state of 256 bits.
func (c *Client) NewState() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)
}

// derive makes a secret of a login from its state and the client's secret.
// Neither alone is enough: the state passes through the browser and is stored
// only as a hash, the client's secret never leaves the platform. What is
// derived need not be stored, so that a copy of the database completes no
// login. When the client's secret changes, logins under way expire.
func (c *Client) derive(state, purpose string) string {
	key, err := hkdf.Key(sha256.New, []byte(c.config.ClientSecret), []byte(state), purpose, 32)
	if err != nil {
		panic(err) // only for more bytes than HKDF can give
	}
	return base64.RawURLEncoding.EncodeToString(key)
}

func (c *Client) pkceVerifier(state string) string {
	return c.derive(state, "gcpconnect pkce verifier")
}
func (c *Client) nonce(state string) string { return c.derive(state, "gcpconnect oidc nonce") }

// AuthURL returns where the user consents: to offline access, and anew each
// time, because Google gives a refresh token only with a new consent.
func (c *Client) AuthURL(state string) string {
	return c.config.AuthCodeURL(state, oauth2.AccessTypeOffline, oauth2.ApprovalForce,
		oauth2.S256ChallengeOption(c.pkceVerifier(state)), oidc.Nonce(c.nonce(state)))
}

// Grant is what a consent came to.
type Grant struct {
	Token   connect.Token
	Email   string // verified by Google
	Subject string // Google's stable ID of the account
	Name    string
}

// Exchange turns a code into a grant and verifies who gave it. Its errors are
// Forbidden with ReasonScopeMissing when a required scope was unticked,
// NeedsReauth when Google gave no refresh token, Unavailable when Google
// cannot be reached, and Invalid for a code or an id_token that is not good.
// The tokens of a grant that is not accepted are dropped and not revoked:
// revoking is per Google account and would end its other connections too.
func (c *Client) Exchange(ctx context.Context, code connect.Secret, state string) (Grant, error) {
	token, err := c.config.Exchange(c.with(ctx), code.Reveal(), oauth2.VerifierOption(c.pkceVerifier(state)))
	if err != nil {
		return Grant{}, classify("exchange the code", err)
	}
	granted := strings.Fields(extra(token, "scope"))
	if missing := missingScopes(granted); len(missing) > 0 {
		return Grant{}, &connect.Error{
			Code: connect.Forbidden, Reason: ReasonScopeMissing,
			Message: "These permissions were not granted: " + strings.Join(missing, ", ") + ". Connect again and leave every box ticked.",
		}
	}
	identity, err := c.identify(ctx, extra(token, "id_token"), c.nonce(state))
	if err != nil {
		return Grant{}, err
	}
	if token.RefreshToken == "" {
		return Grant{}, connect.Errorf(connect.NeedsReauth, textNoToken)
	}
	return Grant{
		Token: connect.Token{
			Access: connect.Secret(token.AccessToken), Refresh: connect.Secret(token.RefreshToken), Expiry: token.Expiry, Scopes: granted,
		},
		Email: identity.Email, Subject: identity.subject, Name: identity.Name,
	}, nil
}

// extra is a further field of a token answer.
func extra(t *oauth2.Token, field string) string {
	value, _ := t.Extra(field).(string)
	return value
}

// missingScopes are the required scopes that are not among the granted. Google
// answers "email" by its long name, and tolerating both costs nothing.
func missingScopes(granted []string) []string {
	var missing []string
	for _, scope := range Scopes {
		short := scope == "https://www.googleapis.com/auth/userinfo.email" && slices.Contains(granted, "email")
		if !short && !slices.Contains(granted, scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// identity is who an id_token is about.
type identity struct {
	subject  string
	Email    string `json:"email"`
	Verified bool   `json:"email_verified"`
	Name     string `json:"name"`
}

// identify verifies an id_token: signature, issuer, audience, expiry, nonce,
// and that Google verified the email, which grants are made to.
func (c *Client) identify(ctx context.Context, raw, nonce string) (identity, error) {
	refuse := func(err error) (identity, error) {
		return identity{}, connect.Errorf(connect.Invalid, "Google's answer does not say who consented. Connect again.").Because(err)
	}
	token, err := c.verifier.Verify(ctx, raw)
	if err != nil {
		// The verifier's errors describe the token and never hold it.
		if unreachable(err) {
			return identity{}, connect.Errorf(connect.Unavailable, "Google could not be reached.").Because(errors.New("read Google's keys"))
		}
		return refuse(fmt.Errorf("verify id_token: %w", err))
	}
	if token.Issuer != c.issuer && "https://"+token.Issuer != c.issuer {
		return refuse(fmt.Errorf("id_token is of issuer %q", token.Issuer))
	}
	if token.Nonce != nonce {
		return refuse(errors.New("id_token is of another login"))
	}
	who := identity{subject: token.Subject}
	if err := token.Claims(&who); err != nil {
		return refuse(fmt.Errorf("read claims: %w", err))
	}
	if who.Email == "" || !who.Verified {
		return refuse(errors.New("email is not verified"))
	}
	return who, nil
}

// unreachable reports whether the keys could not be read.
func unreachable(err error) bool {
	_, isURL := errors.AsType[*url.Error](err)
	return isURL || strings.Contains(err.Error(), "fetching keys")
}

// Refresh returns a new access token. Google may rotate the refresh token: the
// new one, if there is one, takes the old one's place. NeedsReauth with a
// reason says that the refresh token is dead.
func (c *Client) Refresh(ctx context.Context, t connect.Token) (connect.Token, error) {
	if t.Refresh == "" {
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, textNoToken)
	}
	fresh, err := c.config.TokenSource(c.with(ctx), &oauth2.Token{RefreshToken: t.Refresh.Reveal()}).Token()
	if err != nil {
		return connect.Token{}, classify("refresh the token", err)
	}
	t.Access, t.Refresh, t.Expiry = connect.Secret(fresh.AccessToken), connect.Secret(fresh.RefreshToken), fresh.Expiry
	return t, nil
}

// with makes x/oauth2 use c's HTTP client.
func (c *Client) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, c.http)
}
