package oauth

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
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
func signed(key *rsa.PrivateKey, claims map[string]any) string { return signedAs("k", key, claims) }

func signedAs(kid string, key *rsa.PrivateKey, claims map[string]any) string {
	text := segment(map[string]string{"alg": "RS256", "kid": kid, "typ": "JWT"}) + "." + segment(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func certs() string { return certsOf("k", signingKey) }

func certsOf(kid string, key *rsa.PrivateKey) string {
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":%q,"n":%q,"e":%q}]}`, kid,
		base64.RawURLEncoding.EncodeToString(key.N.Bytes()), base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()))
}

const (
	state = "the-state"
	code  = "4/0AeanS0-very-secret"
)

// good is a token answer and the claims in it, to be spoilt by tests.
func good() (answer, claims map[string]any) {
	return map[string]any{
			"access_token": "ya29.access-very-secret", "refresh_token": "1//refresh-very-secret", "expires_in": 3599, "token_type": "Bearer",
			"scope": "openid " + ScopeEmail + " " + ScopeCloudPlatform,
		}, map[string]any{
			"iss": "https://accounts.google.com", "aud": clientID, "azp": clientID, "sub": "104523178234567890123",
			"email": "dana@example.com", "email_verified": true, "nonce": theProof.nonce(),
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
		{name: "not yet good", spoil: func(_, c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }, want: connect.Invalid, message: notWho},
		{name: "signed with the client's secret", spoil: func(a, c map[string]any) {
			text := segment(map[string]string{"alg": "HS256", "kid": "k"}) + "." + segment(c)
			mac := hmac.New(sha256.New, []byte(secret))
			_, _ = mac.Write([]byte(text))
			a["id_token"] = text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}, want: connect.Invalid, message: notWho},
		{name: "a claim of another type", spoil: func(_, c map[string]any) { c["email_verified"] = "true" }, want: connect.Invalid, message: notWho},
		{name: "nobody", spoil: func(_, c map[string]any) { delete(c, "sub") }, want: connect.Invalid, message: notWho},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/oauth2/v3/certs" {
						return reply(200, certs())
					}
					body, _ := io.ReadAll(r.Body)
					form, _ := url.ParseQuery(string(body))
					want := url.Values{
						"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {theProof.verifier()},
						"redirect_uri": {"http://127.0.0.1:8080/callback"}, "client_id": {clientID}, "client_secret": {secret},
					}
					if diff := cmp.Diff(want, form); diff != "" {
						t.Errorf("sent (-want +got):\n%s", diff)
					}
					answer, claims := good()
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
				got, err := c.Exchange(t.Context(), code, theProof)
				if connect.CodeOf(err) != test.want || connect.ReasonOf(err) != test.reason || err != nil && connect.MessageOf(err) != test.message {
					t.Errorf("got %v, want %q %q %q", err, test.want, test.reason, test.message)
				}
				if err != nil {
					if got.Token.Access != "" || got.Token.Refresh != "" || got.Email != "" {
						t.Errorf("an error and a grant: %+v", got)
					}
					if leak := connecttest.Leaked(connecttest.PrintedError(err), "very-secret"); leak != "" {
						t.Errorf("the error holds a secret: %s", leak)
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
	ok := func() string {
		answer, claims := good()
		answer["id_token"] = signed(signingKey, claims)
		encoded, _ := json.Marshal(answer)
		return string(encoded)
	}
	busy := func() (*http.Response, error) { return reply(503, "busy") }
	lost := func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	tokens := func() (*http.Response, error) { return reply(200, ok()) }
	keys := func() (*http.Response, error) { return reply(200, certs()) }
	used := func() (*http.Response, error) {
		return reply(400, `{"error":"invalid_grant","error_description":"Bad Request"}`)
	}
	restricted := func() (*http.Response, error) {
		return reply(400, `{"error":"admin_policy_enforced","error_description":"Access to your account data is restricted by policies within your organization."}`)
	}
	stranger := func() (*http.Response, error) {
		return reply(401, `{"error":"invalid_client","error_description":"Unauthorized"}`)
	}
	refused := func() (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	type answers []func() (*http.Response, error)
	tests := []struct {
		name         string
		token, certs answers
		want         connect.Code
		message      string
	}{
		{"busy for a moment", answers{busy, lost, tokens}, answers{busy, lost, keys}, "", ""},
		{"busy", answers{busy}, answers{keys}, connect.Unavailable, "Google's login is busy."},
		{"without keys", answers{tokens}, answers{busy}, connect.Unavailable, "Google could not be reached."},
		{"without a network", answers{refused}, answers{keys}, connect.Unavailable, "Google could not be reached."},
		{"restricted by an administrator", answers{restricted}, answers{keys}, connect.NeedsReauth, textAdminPolicy},
		{"a client that is not known", answers{stranger}, answers{keys}, connect.Internal, "Google does not accept Aurora's login. Tell Aurora's support."},
		{"a code that is used", answers{used}, answers{keys}, connect.Invalid, "This login can no longer be completed. Connect again."},
		{"an answer that is lost", answers{lost, used}, answers{keys}, connect.Invalid, "This login can no longer be completed. Connect again."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := map[string]int{}
				c := newClient(t, func(r *http.Request) (*http.Response, error) {
					from := map[string]answers{"/token": test.token, "/oauth2/v3/certs": test.certs}[r.URL.Path]
					asked[r.URL.Path]++
					return from[min(asked[r.URL.Path], len(from))-1]()
				})
				_, err := c.Exchange(t.Context(), code, theProof)
				if connect.CodeOf(err) != test.want || err != nil && connect.MessageOf(err) != test.message {
					t.Errorf("got %v, want %q %q", err, test.want, test.message)
				}
			})
		})
	}
}

// TestKeysRotate: keys are read once, and again when Google signs with one that
// was not among them. A key that Google no longer names is not taken.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	newKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		asked, published, idToken := 0, certs(), ""
		c := newClient(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/oauth2/v3/certs" {
				asked++
				return reply(200, published)
			}
			answer, _ := good()
			answer["id_token"] = idToken
			encoded, _ := json.Marshal(answer)
			return reply(200, string(encoded))
		})
		steps := []struct {
			name      string
			kid       string
			key       *rsa.PrivateKey
			published string
			want      connect.Code
			asked     int // since the beginning
		}{
			{"the first login reads the keys", "k", signingKey, certs(), "", 1},
			{"the second does not", "k", signingKey, certs(), "", 1},
			{"a new key is looked for", "new", newKey, certsOf("new", newKey), "", 2},
			{"and remembered", "new", newKey, certsOf("new", newKey), "", 2},
			{"one that is gone is looked for and refused", "k", signingKey, certsOf("new", newKey), connect.Invalid, 3},
		}
		for _, step := range steps {
			_, claims := good()
			published, idToken = step.published, signedAs(step.kid, step.key, claims)
			_, err := c.Exchange(t.Context(), code, theProof)
			if connect.CodeOf(err) != step.want || asked != step.asked {
				t.Errorf("%s: asked %d times, want %d; %v, want %q", step.name, asked, step.asked, err, step.want)
			}
			synctest.Wait() // the keys are remembered in the background
		}
	})
}
