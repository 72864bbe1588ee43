package google

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const (
	workers = "workers-project"
	worker  = "worker@" + workers + ".iam.gserviceaccount.com"
)

// newAssertionRig has a service account.
func newAssertionRig(t *testing.T) *rig {
	t.Helper()
	return newRig(t, func(s *Scenario) {
		s.Projects = append(s.Projects, Project{
			ID: workers, Number: "777777777777", Bindings: []Binding{{Role: "roles/viewer", Members: []string{"serviceAccount:" + worker}}},
			ServiceAccounts: []ServiceAccount{{AccountID: "worker"}, {AccountID: "retired", Disabled: true}},
			EnabledAPIs:     &[]string{"iam.googleapis.com"},
		})
	})
}

// A key gets tokens of its account, with Google's own library.
func TestKeysGiveTokensOfTheirAccounts(t *testing.T) {
	t.Parallel()
	r := newAssertionRig(t)
	if _, err := r.AccountKey("nobody@" + workers + ".iam.gserviceaccount.com"); err == nil {
		t.Error("an account that is not there has a key")
	}
	r.clock.set(time.Now()) // the library takes no other clock
	key := must(r.AccountKey(worker))(t)
	config := must(google.JWTConfigFromJSON(key, cloudPlatform))(t)
	config.TokenURL = r.base + "/token"
	token := must(config.TokenSource(context.WithValue(t.Context(), oauth2.HTTPClient, r.http)).Token())(t)
	if left := time.Until(token.Expiry); token.AccessToken == "" || left > time.Hour || left < 50*time.Minute {
		t.Errorf("the token is good for %v", left)
	}
	made := must(r.with(token.AccessToken).iam.Projects.ServiceAccounts.Get("projects/" + workers + "/serviceAccounts/" + worker).Do())(t)
	if made.Email != worker {
		t.Errorf("the account sees %s as itself", made.Email)
	}
}

func TestAssertionsAreRefused(t *testing.T) {
	t.Parallel()
	r := newAssertionRig(t)
	foreign := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	now := r.clock.Now()
	type claims struct {
		jwt.Claims
		Scope string `json:"scope,omitempty"`
	}
	good := func() claims {
		return claims{jwt.Claims{
			Issuer: worker, Audience: jwt.Audience{r.base + "/token"}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
		}, cloudPlatform}
	}
	for name, c := range map[string]struct {
		change func(*claims)
		key    *rsa.PrivateKey
		raw    string
		want   string // the error; none: it is taken
	}{
		"good":                    {},
		"signed by another":       {key: foreign, want: "invalid_grant"},
		"no JWT":                  {raw: "x.y.z", want: "invalid_grant"},
		"an account that is none": {change: func(c *claims) { c.Issuer = "nobody@" + workers + ".iam.gserviceaccount.com" }, want: "invalid_grant"},
		"a disabled account":      {change: func(c *claims) { c.Issuer = "retired@" + workers + ".iam.gserviceaccount.com" }, want: "disabled_client"},
		"another audience":        {change: func(c *claims) { c.Audience = jwt.Audience{"https://elsewhere.example"} }, want: "invalid_grant"},
		"expired": {change: func(c *claims) {
			c.IssuedAt, c.Expiry = jwt.NewNumericDate(now.Add(-2*time.Hour)), jwt.NewNumericDate(now.Add(-time.Hour))
		}, want: "invalid_grant"},
		"from the future": {change: func(c *claims) {
			c.IssuedAt, c.Expiry = jwt.NewNumericDate(now.Add(time.Hour)), jwt.NewNumericDate(now.Add(2*time.Hour))
		}, want: "invalid_grant"},
		"for more than an hour": {change: func(c *claims) { c.Expiry = jwt.NewNumericDate(now.Add(2 * time.Hour)) }, want: "invalid_grant"},
		"without an end":        {change: func(c *claims) { c.Expiry = nil }, want: "invalid_grant"},
		"without a scope":       {change: func(c *claims) { c.Scope = "" }, want: "invalid_scope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims, key, raw := good(), accountKey(), c.raw
			if c.change != nil {
				c.change(&claims)
			}
			if c.key != nil {
				key = c.key
			}
			if raw == "" {
				signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, nil))(t)
				raw = must(jwt.Signed(signer).Claims(claims).Serialize())(t)
			}
			status, answer := r.post(t, "/token", url.Values{"grant_type": {grantAssertion}, "assertion": {raw}})
			got, _ := answer["error"].(string)
			if got != c.want || (status == 200) != (c.want == "") || (answer["access_token"] != nil) != (c.want == "") {
				t.Errorf("answered %d %v, want %q", status, answer, c.want)
			}
		})
	}
}

// Where refresh tokens rotate each works once, and its successor lives.
func TestRotatedRefreshTokensWorkOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Clients[0].RotateRefresh = true })
	config := oauthConfig(r)
	token := r.login(t, Answer{}, oauth2.AccessTypeOffline).RefreshToken
	seen := map[string]bool{}
	for range 3 {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {config.ClientID}, "client_secret": {config.ClientSecret}}
		status, answer := r.post(t, "/token", form)
		next, _ := answer["refresh_token"].(string)
		if status != 200 || next == "" || seen[next] || next == token {
			t.Fatalf("answered %d with another token: %t", status, next != token)
		}
		seen[next] = true
		if status, answer := r.post(t, "/token", form); status != 400 || answer["error"] != "invalid_grant" {
			t.Errorf("a used token was answered %d %v", status, answer["error"])
		}
		token = next
	}
}
