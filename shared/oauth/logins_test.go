package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
)

// Keys as `openssl rand -base64 32` makes them.
const (
	loginKey = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="
	newerKey = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE="
)

// theProof is that of the login that the tests of Exchange complete.
var theProof = prove([]byte("login-key-of-thirty-two-bytes-12"), state)

func newLogins(t *testing.T, key connect.Secret, change ...func(*LoginOptions)) *Logins {
	t.Helper()
	o := LoginOptions{
		ClientID: clientID, RedirectURL: "http://127.0.0.1:8080/callback", AuthURL: EndpointsUnder("http://google.test").Auth,
		Key: LoginKey{Version: "1", Value: key},
	}
	for _, f := range change {
		f(&o)
	}
	l, err := NewLogins(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func proofOf(t *testing.T, l *Logins, state, version string) Proof {
	t.Helper()
	p, err := l.Proof(t.Context(), state, version)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewLogins_RefusesMissingOptionsAndShortKeys(t *testing.T) {
	t.Parallel()
	good := LoginOptions{ClientID: "i", RedirectURL: "r", AuthURL: "a", Key: LoginKey{Value: loginKey}}
	if _, err := NewLogins(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*LoginOptions){
		"no client ID": func(o *LoginOptions) { o.ClientID = "" }, "no redirect URL": func(o *LoginOptions) { o.RedirectURL = "" },
		"no consent page": func(o *LoginOptions) { o.AuthURL = "" }, "no key": func(o *LoginOptions) { o.Key.Value = "" },
		"a short key":             func(o *LoginOptions) { o.Key.Value = "c2hvcnQ=" },
		"a key that is no base64": func(o *LoginOptions) { o.Key.Value = "this is not base64, and long enough for a key" },
	} {
		opts := good
		spoil(&opts)
		_, err := NewLogins(opts)
		if err == nil {
			t.Errorf("made logins with %s", name)
		} else if v := opts.Key.Value.Reveal(); v != "" && strings.Contains(err.Error(), v) {
			t.Errorf("with %s the error holds the key: %v", name, err)
		}
	}
}

func TestNewState_IsRandom(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		s := NewState()
		random, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(random) != 32 || seen[s] {
			t.Errorf("state %q: %v", s, err)
		}
		seen[s] = true
	}
}

func TestLogins_Begin(t *testing.T) {
	t.Parallel()
	l := newLogins(t, loginKey)
	const state = "state-1"
	address, version := l.Begin(state)
	proof := proofOf(t, l, state, version)
	challenge := sha256.Sum256([]byte(proof.verifier()))
	want := url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {"http://127.0.0.1:8080/callback"},
		"scope": {ScopeCloudPlatform + " " + ScopeEmail + " openid"}, "state": {state}, "access_type": {"offline"}, "prompt": {"consent"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"}, "nonce": {proof.nonce()},
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" || u.Path != "/o/oauth2/v2/auth" || version != "1" {
		t.Errorf("%s, key version %q (-want +got):\n%s", u, version, diff)
	}
}

// Another instance with the same key derives the same proof of a state; any other
// state or key gives another.
func TestLogins_ProofIsDerived(t *testing.T) {
	t.Parallel()
	l, same, other := newLogins(t, loginKey), newLogins(t, loginKey+"\n"), newLogins(t, newerKey)
	a := proofOf(t, l, "a", "1")
	if again := proofOf(t, same, "a", "1"); a.verifier() != again.verifier() || a.nonce() != again.nonce() {
		t.Error("another instance derives another proof")
	}
	seen := map[string]string{}
	for name, value := range map[string]string{
		"verifier": a.verifier(), "nonce": a.nonce(),
		"another state's": proofOf(t, l, "b", "1").verifier(), "another state's nonce": proofOf(t, l, "b", "1").nonce(),
		"another key's": proofOf(t, other, "a", "1").verifier(), "another key's nonce": proofOf(t, other, "a", "1").nonce(),
	} {
		if len(value) != 43 { // 32 bytes; RFC 7636 wants 43 to 128 characters
			t.Errorf("%s has %d characters", name, len(value))
		}
		if before := seen[value]; before != "" {
			t.Errorf("%s is %s", name, before)
		}
		seen[value] = name
	}
}

// The key can be rotated between the start of a login and its callback, and either
// of the two instances can be the older one.
func TestLogins_ProofSurvivesRotationOfTheKey(t *testing.T) {
	t.Parallel()
	keys, reads := map[string]connect.Secret{"1": loginKey, "2": newerKey, "4": "c2hvcnQ="}, 0
	store := func(version string) func(*LoginOptions) {
		return func(o *LoginOptions) {
			o.Key.Version = version
			o.Other = func(_ context.Context, version string) (connect.Secret, error) {
				reads++
				if version == "5" {
					return "", connect.Errorf(connect.Unavailable, "Secret Manager did not answer.")
				}
				if key, ok := keys[version]; ok {
					return key, nil
				}
				return "", connect.Errorf(connect.Precondition, "Version %s is destroyed.", version)
			}
		}
	}
	older, newer := newLogins(t, loginKey, store("1")), newLogins(t, newerKey, store("2"))
	for name, pair := range map[string][2]*Logins{"the callback has a newer key": {older, newer}, "the callback has an older key": {newer, older}} {
		_, version := pair[0].Begin("s")
		want := proofOf(t, pair[0], "s", version)
		for range 3 {
			if got := proofOf(t, pair[1], "s", version); got.verifier() != want.verifier() || got.nonce() != want.nonce() {
				t.Errorf("%s: another proof", name)
			}
		}
	}
	if reads != 2 {
		t.Errorf("keys were read %d times, want once by each instance", reads)
	}
	for version, want := range map[string]connect.Code{
		"3": connect.Invalid, "4": connect.Invalid, "5": connect.Unavailable, "": connect.Invalid, "latest": connect.Invalid, "1/../../s": connect.Invalid,
	} {
		if _, err := newer.Proof(t.Context(), "s", version); connect.CodeOf(err) != want {
			t.Errorf("a login of key version %q: %v, want %s", version, err, want)
		}
	}
	if _, err := newLogins(t, loginKey).Proof(t.Context(), "s", "2"); connect.CodeOf(err) != connect.Invalid {
		t.Errorf("a login of a version that cannot be looked up: %v, want Invalid", err)
	}
}
