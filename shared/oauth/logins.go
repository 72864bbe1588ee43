package oauth

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// LoginKey is the key that the secrets of logins are derived from. The function
// that begins a login and the one that completes it run in two processes and
// share it.
type LoginKey struct {
	// Version names the key among the ones before and after it, such as the number
	// of a secret's version; empty for a key that has no others.
	Version string
	// Value is base64 of at least 32 random bytes (connect.Key).
	Value connect.Secret
}

// LoginOptions make Logins. All but Other are required.
type LoginOptions struct {
	ClientID    string
	RedirectURL string // one of the OAuth client's, to the letter
	AuthURL     string // the consent page
	Key         LoginKey
	// Other returns the key of another version, for a login that began before the
	// key was rotated, or on an instance that has a newer one. nil: there is none.
	Other func(ctx context.Context, version string) (connect.Secret, error)
}

// Logins begins logins at Google and, when one comes back, proves that it is the
// same. It knows the login key and no secret of the OAuth client.
//
// The PKCE verifier and the nonce of a login are derived from its state and the
// key. Neither alone is enough: the state passes through the browser and is stored
// only as a hash, and the key never leaves the platform. They are not stored, so
// a copy of the database completes no login.
type Logins struct {
	config  *oauth2.Config
	version string
	key     func() []byte // a function, because fmt prints unexported fields
	other   func(ctx context.Context, version string) (connect.Secret, error)
	others  sync.Map // version -> func() []byte
}

// NewLogins makes Logins. It makes no call. It refuses a missing client ID, URL or
// key, and a key that is shorter than 32 bytes.
func NewLogins(o LoginOptions) (*Logins, error) {
	if o.ClientID == "" || o.RedirectURL == "" || o.AuthURL == "" {
		return nil, errors.New("logins: client ID, redirect URL and consent page are required")
	}
	key, err := connect.Key(o.Key.Value)
	if err != nil {
		return nil, fmt.Errorf("login key %w", err)
	}
	return &Logins{
		config: &oauth2.Config{
			ClientID: o.ClientID, RedirectURL: o.RedirectURL, Scopes: scopes(), Endpoint: oauth2.Endpoint{AuthURL: o.AuthURL},
		},
		version: o.Key.Version, key: func() []byte { return key }, other: o.Other,
	}, nil
}

// NewState returns a random state of 256 bits, in base64url.
func NewState() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)
}

// Begin returns where the user consents, and the version of the login key, which
// Proof needs. The user consents to offline access, and anew each time, because
// Google returns a refresh token only with a new consent.
func (l *Logins) Begin(state string) (address, keyVersion string) {
	proof := prove(l.key(), state)
	return l.config.AuthCodeURL(state, oauth2.AccessTypeOffline, oauth2.ApprovalForce,
		oauth2.S256ChallengeOption(proof.verifier()), oidc.Nonce(proof.nonce())), l.version
}

// Proof returns what proves at Google that a code belongs to the login of a state.
// The version is the one that Begin returned. Its errors are Invalid if there is no
// such key any more, and Unavailable if it cannot be read.
func (l *Logins) Proof(ctx context.Context, state, keyVersion string) (Proof, error) {
	key, err := l.keyOf(ctx, keyVersion)
	if err != nil {
		return Proof{}, err
	}
	return prove(key, state), nil
}

// keyOf returns the key of a version. Versions do not change, so each is read once.
func (l *Logins) keyOf(ctx context.Context, version string) ([]byte, error) {
	if version == l.version {
		return l.key(), nil
	}
	if known, ok := l.others.Load(version); ok {
		return known.(func() []byte)(), nil //nolint:errcheck // keyOf alone stores
	}
	gone := func(cause error) error {
		return connect.Errorf(connect.Invalid, "This login can no longer be completed. Connect again.").Because(fmt.Errorf("login key, version %q: %w", version, cause))
	}
	// The version comes out of the database and becomes part of a secret's name.
	if l.other == nil || version == "" || strings.Trim(version, "0123456789") != "" {
		return nil, gone(errors.New("it is not known here"))
	}
	value, err := l.other(ctx, version)
	switch {
	case connect.CodeOf(err) == connect.Unavailable:
		return nil, err
	case err != nil: // destroyed or disabled
		return nil, gone(err)
	}
	key, err := connect.Key(value)
	if err != nil {
		return nil, gone(err)
	}
	l.others.Store(version, func() []byte { return key })
	return key, nil
}

// Proof proves that a code and an id_token belong to one login.
type Proof struct{ derive func(purpose string) string }

// prove derives the proof of a state.
func prove(key []byte, state string) Proof {
	return Proof{func(purpose string) string {
		derived, err := hkdf.Key(sha256.New, key, []byte(state), purpose, 32)
		if err != nil {
			panic(err) // only for more bytes than HKDF can give
		}
		return base64.RawURLEncoding.EncodeToString(derived)
	}}
}

// verifier is the PKCE code verifier (https://www.rfc-editor.org/rfc/rfc7636).
func (p Proof) verifier() string { return p.derive("gcpconnect pkce verifier") }

// nonce ties an id_token to the login that asked for it.
func (p Proof) nonce() string { return p.derive("gcpconnect oidc nonce") }
