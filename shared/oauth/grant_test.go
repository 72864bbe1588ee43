package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
)

var signingKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

func segment(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// signed is a JWT with RS256 of a key that calls itself ours.
func signed(key *rsa.PrivateKey, claims map[string]any) string {
	text := segment(map[string]string{"alg": "RS256", "kid": "k", "typ": "JWT"}) + "." + segment(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func certs() string {
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"k","n":%q,"e":%q}]}`,
		base64.RawURLEncoding.EncodeToString(signingKey.N.Bytes()), base64.RawURLEncoding.EncodeToString(big.NewInt(int64(signingKey.E)).Bytes()))
}

const (
	state = "the-state"
	code  = "4/0AeanS0-very-secret"
)

// good is a token answer and the claims in it, to be spoilt by tests.
func good(c *Client) (answer, claims map[string]any) {
	return map[string]any{
			"access_token": "ya29.access-very-secret", "refresh_token": "1//refresh-very-secret", "expires_in": 3599, "token_type": "Bearer",
			"scope": "openid " + ScopeEmail + " " + ScopeCloudPlatform,
		}, map[string]any{
			"iss": "https://accounts.google.com", "aud": clientID, "azp": clientID, "sub": "104523178234567890123",
			"email": "dana@example.com", "email_verified": true, "nonce": c.nonce(state),
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const notWho = "Google's answer does not say who consented. Connect again."
	tests := []struct {
		name    string
		spoil   func(answer, claims map[string]any)
		key     *rsa.PrivateKey
		want    connect.Code
		reason  string
		message string
	}{
		{name: "a good grant"},
		{name: "the other spelling of the issuer", spoil: func(_, c map[string]any) { c["iss"] = "accounts.google.com" }},
		{name: "the short name of a scope", spoil: func(a, _ map[string]any) { a["scope"] = "openid email " + ScopeCloudPlatform }},
		{name: "a scope unticked", spoil: func(a, _ map[string]any) { a["scope"] = "openid " + ScopeEmail }, want: connect.Forbidden, reason: ReasonScopeMissing,
			message: "These permissions were not granted: " + ScopeCloudPlatform + ". Connect again and leave every box ticked."},
		{name: "no refresh token", spoil: func(a, _ map[string]any) { delete(a, "refresh_token") }, want: connect.NeedsReauth, message: "No refresh token available. Please re-authenticate."},
		{name: "no id_token", spoil: func(a, _ map[string]any) { a["id_token"] = "" }, want: connect.Invalid, message: notWho},
		{name: "no JWT", spoil: func(a, _ map[string]any) { a["id_token"] = "id-token-very-secret" }, want: connect.Invalid, message: notWho},
		{name: "another key", key: other, want: connect.Invalid, message: notWho},
		{name: "no signature", spoil: func(a, c map[string]any) {
			a["id_token"] = segment(map[string]string{"alg": "none"}) + "." + segment(c) + "."
		}, want: connect.Invalid, message: notWho},
		{name: "another issuer", spoil: func(_, c map[string]any) { c["iss"] = "https://login.example.com" }, want: connect.Invalid, message: notWho},
		{name: "another audience", spoil: func(_, c map[string]any) { c["aud"] = "other-client" }, want: connect.Invalid, message: notWho},
		{name: "another party", spoil: func(_, c map[string]any) { c["azp"] = "other-client" }, want: connect.Invalid, message: notWho},
		{name: "another login", spoil: func(_, c map[string]any) { c["nonce"] = "other" }, want: connect.Invalid, message: notWho},
		{name: "no nonce", spoil: func(_, c map[string]any) { delete(c, "nonce") }, want: connect.Invalid, message: notWho},
		{name: "expired", spoil: func(_, c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() }, want: connect.Invalid, message: notWho},
		{name: "an email that is not verified", spoil: func(_, c map[string]any) { c["email_verified"] = false }, want: connect.Invalid, message: notWho},
		{name: "no email", spoil: func(_, c map[string]any) { delete(c, "email") }, want: connect.Invalid, message: notWho},
		{name: "nobody", spoil: func(_, c map[string]any) { delete(c, "sub") }, want: connect.Invalid, message: notWho},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c *Client
				c = newClient(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/oauth2/v3/certs" {
						return reply(200, certs())
					}
					body, _ := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(body))
					want := url.Values{
						"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {c.pkceVerifier(state)},
						"redirect_uri": {"http://127.0.0.1:8080/callback"}, "client_id": {clientID}, "client_secret": {secret},
					}
					if diff := cmp.Diff(want, form); diff != "" {
						t.Errorf("sent (-want +got):\n%s", diff)
					}
					answer, claims := good(c)
					if test.spoil != nil {
						test.spoil(answer, claims)
					}
					if _, given := answer["id_token"]; !given {
						key := test.key
						if key == nil {
							key = signingKey
						}
						answer["id_token"] = signed(key, claims)
					}
					encoded, _ := json.Marshal(answer)
					return reply(200, string(encoded))
				})
				got, err := c.Exchange(t.Context(), code, state)
				if connect.CodeOf(err) != test.want || connect.ReasonOf(err) != test.reason || err != nil && connect.MessageOf(err) != test.message {
					t.Errorf("got %v, want %q %q %q", err, test.want, test.reason, test.message)
				}
				if err != nil {
					if got.Token.Access != "" || got.Token.Refresh != "" || got.Email != "" {
						t.Errorf("an error and a grant: %+v", got)
					}
					if strings.Contains(fmt.Sprintf("%+v %#v", err, err), "very-secret") {
						t.Errorf("the error holds a secret: %+v", err)
					}
					return
				}
				if got.Token.Access != "ya29.access-very-secret" || got.Token.Refresh != "1//refresh-very-secret" || len(got.Token.Scopes) != 3 || time.Until(got.Token.Expiry) < 58*time.Minute ||
					got.Email != "dana@example.com" || got.Subject != "104523178234567890123" {
					t.Errorf("grant %+v", got)
				}
			})
		})
	}
}

// TestExchangeWithATroubledGoogle: what fails before the answer is tried
// again, the keys included.
func TestExchangeWithATroubledGoogle(t *testing.T) {
	t.Parallel()
	ok := func(c *Client) string {
		answer, claims := good(c)
		answer["id_token"] = signed(signingKey, claims)
		encoded, _ := json.Marshal(answer)
		return string(encoded)
	}
	busy := func(*Client) (*http.Response, error) { return reply(503, "busy") }
	lost := func(*Client) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	tokens := func(c *Client) (*http.Response, error) { return reply(200, ok(c)) }
	keys := func(*Client) (*http.Response, error) { return reply(200, certs()) }
	used := func(*Client) (*http.Response, error) {
		return reply(400, `{"error":"invalid_grant","error_description":"Bad Request"}`)
	}
	type answers []func(*Client) (*http.Response, error)
	tests := []struct {
		name         string
		token, certs answers
		want         connect.Code
		message      string
	}{
		{"busy for a moment", answers{busy, lost, tokens}, answers{busy, lost, keys}, "", ""},
		{"busy", answers{busy}, answers{keys}, connect.Unavailable, "Google's login is busy."},
		{"without keys", answers{tokens}, answers{busy}, connect.Unavailable, "Google could not be reached."},
		{"a code that is used", answers{used}, answers{keys}, connect.Invalid, "This login can no longer be completed. Connect again."},
		{"an answer that is lost", answers{lost, used}, answers{keys}, connect.Invalid, "This login can no longer be completed. Connect again."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := map[string]int{}
				var c *Client
				c = newClient(t, func(r *http.Request) (*http.Response, error) {
					from := map[string]answers{"/token": test.token, "/oauth2/v3/certs": test.certs}[r.URL.Path]
					asked[r.URL.Path]++
					return from[min(asked[r.URL.Path], len(from))-1](c)
				})
				_, err := c.Exchange(t.Context(), code, state)
				if connect.CodeOf(err) != test.want || err != nil && connect.MessageOf(err) != test.message {
					t.Errorf("got %v, want %q %q", err, test.want, test.message)
				}
			})
		})
	}
}

// TestErrorsHoldNoSecret has everything on the way repeat what was sent, and
// looks for it in the errors however they are printed.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	echoes := map[string]func(sent string) (*http.Response, error){
		"in the description": func(sent string) (*http.Response, error) {
			encoded, _ := json.Marshal(map[string]string{"error": "invalid_client", "error_description": "You sent " + sent})
			return reply(401, string(encoded))
		},
		"in a dead grant": func(sent string) (*http.Response, error) {
			encoded, _ := json.Marshal(map[string]string{"error": "invalid_grant", "error_description": sent, "error_uri": "http://x.test/?" + sent})
			return reply(400, string(encoded))
		},
		"in a page": func(sent string) (*http.Response, error) {
			return reply(403, "<html>"+sent, "Content-Type", "text/html")
		},
		"in a busy page": func(sent string) (*http.Response, error) { return reply(502, sent) },
		"in a success":   func(sent string) (*http.Response, error) { return reply(200, sent) },
		"in a header": func(sent string) (*http.Response, error) {
			return reply(302, "", "Location", "http://thief.test/?"+sent)
		},
		"in the transport": func(sent string) (*http.Response, error) { return nil, errors.New("proxy refused " + sent) },
		"in a broken success": func(sent string) (*http.Response, error) {
			return reply(200, `{"access_token":"`+sent+`","expires_in":"x"}`)
		},
	}
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(body))
					sent := string(body)
					for value := range maps.Values(form) {
						sent += " " + value[0]
					}
					return echo(sent)
				})
				token := connect.Token{Access: "ya29.access-very-secret", Refresh: "1//refresh-very-secret"}
				_, exchanged := c.Exchange(t.Context(), code, state)
				_, refreshed := c.Refresh(t.Context(), token)
				revoked := c.Revoke(t.Context(), token)
				for _, err := range []error{exchanged, refreshed, revoked} {
					if err == nil {
						continue // a revocation that succeeds
					}
					e, ok := errors.AsType[*connect.Error](err)
					if !ok {
						t.Fatalf("%v has no class", err)
					}
					encoded, marshalErr := json.Marshal(e)
					if marshalErr != nil {
						t.Fatal(marshalErr)
					}
					text := string(encoded)
					for cause := err; cause != nil; cause = errors.Unwrap(cause) {
						text += fmt.Sprintf("%v %+v %#v %q", cause, cause, cause, cause)
					}
					for _, hidden := range []string{code, secret, c.pkceVerifier(state), token.Access.Reveal(), token.Refresh.Reveal()} {
						if strings.Contains(text, hidden) || strings.Contains(text, url.QueryEscape(hidden)) {
							t.Errorf("holds %s: %s", hidden, text)
						}
					}
				}
			})
		})
	}
}
