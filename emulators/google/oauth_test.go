package google

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

const verifier = "correct-horse-battery-staple-correct-horse-battery"

// login goes through consent and exchange.
func (r *rig) login(t *testing.T, answer Answer, opts ...oauth2.AuthCodeOption) *oauth2.Token {
	t.Helper()
	config := oauthConfig(r)
	target := must(r.Authorize(config.AuthCodeURL("state-1", append(opts, oauth2.S256ChallengeOption(verifier))...), answer))(t)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	return must(config.Exchange(ctx, target.Query().Get("code"), oauth2.VerifierOption(verifier)))(t)
}

// post sends a form and returns the status and the JSON answer.
func (r *rig) post(t *testing.T, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	resp := must(r.http.PostForm(r.base+path, form))(t)
	defer resp.Body.Close()
	body := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func TestConsentPage(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Users = append(s.Users, User{Email: "eve@example.org", Sub: "77"}) })
	authURL := oauthConfig(r).AuthCodeURL("st&te", oauth2.AccessTypeOffline)
	resp := must(r.http.Get(authURL))(t)
	page := string(must(io.ReadAll(resp.Body))(t))
	for _, want := range []string{"demo@example.com", "eve@example.org", cloudPlatform, `name="scope"`, `value="deny"`, "Aurora"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	hidden := regexp.MustCompile(`name="request" value="([^"]*)"`).FindStringSubmatch(page)
	if hidden == nil {
		t.Fatal("the page has no hidden field request")
	}
	query := strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(hidden[1])
	form := url.Values{"request": {query}, "user": {"eve@example.org"}, "scope": {"openid", cloudPlatform}, "action": {"allow"}}
	resp = must(r.http.PostForm(r.base+authPath, form))(t)
	target := must(resp.Location())(t)
	q := target.Query()
	if resp.StatusCode != http.StatusFound || q.Get("code") == "" || q.Get("state") != "st&te" || q.Get("scope") != "openid "+cloudPlatform {
		t.Errorf("allowing answers %d %v", resp.StatusCode, q)
	}
	form.Set("action", "deny")
	resp = must(r.http.PostForm(r.base+authPath, form))(t)
	if q := must(resp.Location())(t).Query(); q.Get("error") != "access_denied" || q.Has("code") {
		t.Errorf("denying answers %v", q)
	}
	hinted := string(must(io.ReadAll(must(r.http.Get(authURL + "&login_hint=77"))(t).Body))(t))
	if strings.Contains(hinted, demo) || !strings.Contains(hinted, "eve@example.org") {
		t.Error("login_hint does not choose the user")
	}
}

func TestAuthorizationRequests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change url.Values
		client func(*Client)
		want   string
		page   bool // else at the callback
	}{
		"is good":                              {want: ""},
		"with an unknown client":               {change: url.Values{"client_id": {"x"}}, want: "invalid_client", page: true},
		"with another redirect URI":            {change: url.Values{"redirect_uri": {"https://evil.example/callback"}}, want: "redirect_uri_mismatch", page: true},
		"with a trailing slash":                {change: url.Values{"redirect_uri": {"http://127.0.0.1:8080/callback/"}}, want: "redirect_uri_mismatch", page: true},
		"with another loopback port":           {change: url.Values{"redirect_uri": {"http://127.0.0.1:39999/callback"}}, want: ""},
		"with another loopback host":           {change: url.Values{"redirect_uri": {"http://localhost:8080/callback"}}, want: "redirect_uri_mismatch", page: true},
		"with a port, strictly":                {change: url.Values{"redirect_uri": {"http://127.0.0.1:39999/callback"}}, client: func(c *Client) { c.AnyLoopbackPort = false }, want: "redirect_uri_mismatch", page: true},
		"for a token":                          {change: url.Values{"response_type": {"token"}}, want: "unsupported_response_type", page: true},
		"without scope":                        {change: url.Values{"scope": {""}}, want: "invalid_request", page: true},
		"for an unknown scope":                 {change: url.Values{"scope": {"cloud-platform"}}, want: "invalid_scope", page: true},
		"with a plain challenge":               {change: url.Values{"code_challenge": {verifier}, "code_challenge_method": {"plain"}}, want: "invalid_request", page: true},
		"with a challenge of no method":        {change: url.Values{"code_challenge": {challenge(verifier)}}, want: "invalid_request", page: true},
		"with a parameter twice":               {change: url.Values{"scope": {"openid", "email"}}, want: "invalid_request", page: true},
		"with a bad prompt":                    {change: url.Values{"prompt": {"none consent"}}, want: "invalid_request", page: true},
		"under an administrator's policy":      {client: func(c *Client) { c.AuthError = "admin_policy_enforced" }, want: "admin_policy_enforced"},
		"of another organization's client":     {client: func(c *Client) { c.AuthError = "org_internal" }, want: "org_internal"},
		"of a deleted client, shown on a page": {client: func(c *Client) { c.AuthError, c.AuthErrorPage = "deleted_client", true }, want: "deleted_client", page: true},
		"silently, never consented":            {change: url.Values{"prompt": {"none"}}, want: "consent_required"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) {
				if test.client != nil {
					test.client(&s.Clients[0])
				}
			})
			u := must(url.Parse(oauthConfig(r).AuthCodeURL("s", oauth2.AccessTypeOffline)))(t)
			q := u.Query()
			for name, values := range test.change {
				q[name] = values
			}
			u.RawQuery = q.Encode()
			resp := must(r.http.Get(u.String()))(t)
			body := string(must(io.ReadAll(resp.Body))(t))
			switch {
			case test.page:
				if resp.StatusCode < 400 || !strings.Contains(body, test.want) || resp.Header.Get("Location") != "" {
					t.Errorf("answers %d to %q: %s", resp.StatusCode, resp.Header.Get("Location"), body)
				}
			case test.want != "":
				if got := must(resp.Location())(t).Query().Get("error"); got != test.want {
					t.Errorf("redirects with error %q, want %q", got, test.want)
				}
			case resp.StatusCode != http.StatusOK:
				t.Errorf("answers %d: %s", resp.StatusCode, body)
			}
		})
	}
}

// Fact (OAuth): once a challenge was sent the verifier is mandatory; a
// verifier without a challenge gives invalid_grant.
func TestExchange(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		noChallenge bool
		form        url.Values
		wait        time.Duration
		twice       bool
		want        string
		status      int
	}{
		"gives tokens":                        {status: 200},
		"is good once":                        {twice: true, want: "invalid_grant", status: 400},
		"is too late after ten minutes":       {wait: 10 * time.Minute, want: "invalid_grant", status: 400},
		"needs the verifier":                  {form: url.Values{"code_verifier": nil}, want: "invalid_grant", status: 400},
		"needs the right verifier":            {form: url.Values{"code_verifier": {verifier + "x"}}, want: "invalid_grant", status: 400},
		"wants no verifier without challenge": {noChallenge: true, want: "invalid_grant", status: 400},
		"needs the secret":                    {form: url.Values{"client_secret": {"wrong"}}, want: "invalid_client", status: 401},
		"needs the same redirect URI":         {form: url.Values{"redirect_uri": {"http://127.0.0.1:8081/callback"}}, want: "redirect_uri_mismatch", status: 400},
		"knows its own codes":                 {form: url.Values{"code": {"4/0nothing"}}, want: "invalid_grant", status: 400},
		"knows no password grant":             {form: url.Values{"grant_type": {"password"}}, want: "unsupported_grant_type", status: 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			config := oauthConfig(r)
			opts := []oauth2.AuthCodeOption{oauth2.AccessTypeOffline}
			if !test.noChallenge {
				opts = append(opts, oauth2.S256ChallengeOption(verifier))
			}
			target := must(r.Authorize(config.AuthCodeURL("s", opts...), Answer{}))(t)
			r.clock.Advance(test.wait)
			form := url.Values{
				"grant_type": {"authorization_code"}, "code": {target.Query().Get("code")}, "redirect_uri": {config.RedirectURL},
				"client_id": {config.ClientID}, "client_secret": {config.ClientSecret}, "code_verifier": {verifier},
			}
			for name, values := range test.form {
				form[name] = values
			}
			if test.twice {
				r.post(t, "/token", form)
			}
			status, body := r.post(t, "/token", form)
			if got, _ := body["error"].(string); status != test.status || got != test.want {
				t.Errorf("answers %d %v, want %d %q", status, body, test.status, test.want)
			}
		})
	}
}

// Fact (OAuth): a refresh token comes on the first exchange only, unless
// consent is prompted.
func TestRefreshTokenComesOnceUnlessConsentIsAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	got := []bool{
		r.login(t, Answer{}).RefreshToken != "", // online
		r.login(t, Answer{}, oauth2.AccessTypeOffline).RefreshToken != "",
		r.login(t, Answer{}, oauth2.AccessTypeOffline).RefreshToken != "",
		r.login(t, Answer{}, oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent")).RefreshToken != "",
	}
	if diff := cmp.Diff([]bool{false, true, false, true}, got); diff != "" {
		t.Errorf("refresh tokens (-want +got):\n%s", diff)
	}
}

// Fact (OAuth): users can untick scopes.
func TestGranularConsentLeavesOutWhatIsUnticked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.login(t, Answer{Without: []string{cloudPlatform}})
	if got := token.Extra("scope"); got != "openid https://www.googleapis.com/auth/userinfo.email" {
		t.Errorf("scope is %q", got)
	}
	_, err := r.with(token.AccessToken).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes."})
}

func TestAccessTokensExpireByTheClock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.login(t, Answer{}, oauth2.AccessTypeOffline)
	if token.Extra("expires_in") != 3599.0 {
		t.Errorf("expires_in is %v", token.Extra("expires_in"))
	}
	r.clock.Advance(time.Hour)
	_, err := r.with(token.AccessToken).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{Code: 401, Status: "UNAUTHENTICATED", Reason: "ACCESS_TOKEN_EXPIRED"})

	config := oauthConfig(r)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	fresh := must(config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token())(t)
	must(r.with(fresh.AccessToken).v1.Projects.List().Do())(t)
	if fresh.RefreshToken != token.RefreshToken {
		t.Error("a refresh must not bring another refresh token")
	}
}

// Fact (OAuth): refresh tokens die by revocation, by the 101st token of an
// account and client, by session control (invalid_rapt) and by disuse: all
// answer invalid_grant.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		do      func(*testing.T, *rig, *oauth2.Token)
		subtype string
	}{
		"after the user revokes access": {do: func(t *testing.T, r *rig, token *oauth2.Token) {
			if status, body := r.post(t, "/revoke", url.Values{"token": {token.RefreshToken}}); status != 200 {
				t.Errorf("revoke answers %d %v", status, body)
			}
			_, err := r.with(token.AccessToken).v1.Projects.List().Do()
			mustRefuse(t, err, refusal{Code: 401, Status: "UNAUTHENTICATED", Reason: "ACCESS_TOKEN_EXPIRED"})
			if status, body := r.post(t, "/revoke", url.Values{"token": {token.RefreshToken}}); status != 400 || body["error"] != "invalid_token" {
				t.Errorf("a second revoke answers %d %v", status, body)
			}
		}},
		"when an administrator revokes": {do: func(t *testing.T, r *rig, _ *oauth2.Token) {
			if err := r.RevokeUser(demo); err != nil {
				t.Error(err)
			}
		}},
		"when the session ended": {subtype: "invalid_rapt", do: func(t *testing.T, r *rig, _ *oauth2.Token) {
			if err := r.SetRefreshError(demo, "invalid_rapt"); err != nil {
				t.Error(err)
			}
		}},
		"after six months unused": {do: func(t *testing.T, r *rig, _ *oauth2.Token) { r.clock.Advance(181 * 24 * time.Hour) }},
		"when Google takes it back without a reason": {do: func(t *testing.T, r *rig, _ *oauth2.Token) {
			if err := r.SetRefreshError(demo, "invalid_grant"); err != nil {
				t.Error(err)
			}
		}},
		"when another of the user's tokens is revoked": {do: func(t *testing.T, r *rig, _ *oauth2.Token) {
			other := r.login(t, Answer{})
			r.post(t, "/revoke", url.Values{"token": {other.AccessToken}})
		}},
		"when a hundred newer ones exist": {do: func(t *testing.T, r *rig, _ *oauth2.Token) {
			for range maxRefreshTokens {
				r.login(t, Answer{}, oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent"))
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			token := r.login(t, Answer{}, oauth2.AccessTypeOffline)
			test.do(t, r, token)
			ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
			_, err := oauthConfig(r).TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
			var refused *oauth2.RetrieveError
			if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" {
				t.Fatalf("refresh: %v", err)
			}
			var body oauthError
			if err := json.Unmarshal(refused.Body, &body); err != nil || body.Subtype != test.subtype {
				t.Errorf("error_subtype is %q, want %q (%v)", body.Subtype, test.subtype, err)
			}
		})
	}
}

// refresh is what becomes of a refresh token: "" when it lives, or the error
// and its subtype.
func (r *rig) refresh(t *testing.T, config *oauth2.Config, token string) string {
	t.Helper()
	_, body := r.post(t, "/token", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {config.ClientID}, "client_secret": {config.ClientSecret},
	})
	kind, _ := body["error"].(string)
	subtype, _ := body["error_subtype"].(string)
	return strings.TrimSpace(kind + " " + subtype)
}

var askAgain = oauth2.SetAuthURLParam("prompt", "consent")

// Fact (OAuth): the 101st token for one account and client kills the oldest,
// and that only; nothing says so. Another client's tokens are counted apart.
func TestTheHundredAndFirstRefreshTokenKillsTheOldest(t *testing.T) {
	t.Parallel()
	r := newRig(t, twoClients)
	config := oauthConfig(r)
	var tokens []string
	other := r.loginTo(t, otherClient(config)).RefreshToken
	for range maxRefreshTokens {
		tokens = append(tokens, r.login(t, Answer{}, oauth2.AccessTypeOffline, askAgain).RefreshToken)
	}
	if consents := r.Snapshot().Consents; len(consents) != 1 || consents[0].RefreshTokens != maxRefreshTokens+1 {
		t.Errorf("alive are %+v, want one client's hundred and the other's one", consents)
	}
	if got := r.refresh(t, config, tokens[0]); got != "" {
		t.Errorf("with a hundred, the oldest: %s", got)
	}
	last := r.login(t, Answer{}, oauth2.AccessTypeOffline, askAgain)
	got := []string{r.refresh(t, config, tokens[0]), r.refresh(t, config, tokens[1]), r.refresh(t, config, last.RefreshToken), r.refresh(t, otherClient(config), other)}
	if diff := cmp.Diff([]string{"invalid_grant", "", "", ""}, got); diff != "" {
		t.Errorf("the oldest, the next, the last, another client's (-want +got):\n%s", diff)
	}
}

// Fact (OAuth): a refresh token lives for six months of disuse, and for 7 days
// when the consent screen is in Testing, used or not. Time-based access says
// its end in refresh_token_expires_in.
func TestRefreshTokensDieOfAge(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	tests := map[string]struct {
		change func(*Scenario)
		uses   []time.Duration // before the last try
		last   time.Duration
		want   string
		says   any
	}{
		"used every five months":     {uses: []time.Duration{150 * day, 300 * day, 450 * day}, last: 600 * day},
		"used too late":              {uses: []time.Duration{150 * day}, last: 331 * day, want: "invalid_grant"},
		"in Testing, on the 7th day": {change: func(s *Scenario) { s.Clients[0].RefreshLifetime = Duration(7 * day) }, uses: []time.Duration{3 * day}, last: 7*day - 1},
		"in Testing, after seven":    {change: func(s *Scenario) { s.Clients[0].RefreshLifetime = Duration(7 * day) }, uses: []time.Duration{3 * day}, last: 7 * day, want: "invalid_grant"},
		"granted for an hour, before": {change: func(s *Scenario) {
			s.Clients[0].RefreshLifetime, s.Clients[0].TimeBasedAccess = Duration(time.Hour), true
		}, last: 59 * time.Minute, says: 3599.0},
		"granted for an hour, after": {change: func(s *Scenario) {
			s.Clients[0].RefreshLifetime, s.Clients[0].TimeBasedAccess = Duration(time.Hour), true
		}, last: time.Hour, want: "invalid_grant", says: 3599.0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) {
				if test.change != nil {
					test.change(s)
				}
			})
			began := r.clock.Now()
			token := r.login(t, Answer{}, oauth2.AccessTypeOffline)
			if got := token.Extra("refresh_token_expires_in"); got != test.says {
				t.Errorf("refresh_token_expires_in is %v, want %v", got, test.says)
			}
			for _, use := range test.uses {
				r.clock.set(began.Add(use))
				if got := r.refresh(t, oauthConfig(r), token.RefreshToken); got != "" {
					t.Errorf("after %v: %s", use, got)
				}
			}
			r.clock.set(began.Add(test.last))
			if got := r.refresh(t, oauthConfig(r), token.RefreshToken); got != test.want {
				t.Errorf("after %v: %q, want %q", test.last, got, test.want)
			}
		})
	}
}

// Fact (OAuth): Workspace session control (16 h by default) applies to every
// app with the cloud-platform scope: refresh then fails with invalid_grant and
// error_subtype invalid_rapt. Access tokens live on, and a new consent helps.
func TestSessionsOfAWorkspaceEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Users[0].SessionLength = Duration(16 * time.Hour) })
	config := oauthConfig(r)
	cloud := r.login(t, Answer{}, oauth2.AccessTypeOffline).RefreshToken
	plain := r.login(t, Answer{Without: []string{cloudPlatform}}, oauth2.AccessTypeOffline, askAgain).RefreshToken
	r.clock.Advance(16*time.Hour - time.Minute)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	access := must(config.TokenSource(ctx, &oauth2.Token{RefreshToken: cloud}).Token())(t).AccessToken
	r.clock.Advance(time.Minute)
	renewed := r.login(t, Answer{}, oauth2.AccessTypeOffline, askAgain).RefreshToken
	got := []string{r.refresh(t, config, cloud), r.refresh(t, config, plain), r.refresh(t, config, renewed)}
	if diff := cmp.Diff([]string{"invalid_grant invalid_rapt", "", ""}, got); diff != "" {
		t.Errorf("with cloud-platform, without, consented anew (-want +got):\n%s", diff)
	}
	must(r.with(access).v1.Projects.List().Do())(t)
}

// twoClients adds a second client to the first one's project, and a third to
// another project.
func twoClients(s *Scenario) {
	second, third := s.Clients[0], s.Clients[0]
	second.ID, second.Secret = "second.apps.googleusercontent.com", "second-secret"
	third.ID, third.Secret, third.Project = "third.apps.googleusercontent.com", "third-secret", staging
	s.Clients = append(s.Clients, second, third)
	s.Users = append(s.Users, User{Email: "eve@example.org", Sub: "77"})
}

func otherClient(c *oauth2.Config) *oauth2.Config {
	other := *c
	other.ClientID, other.ClientSecret = "second.apps.googleusercontent.com", "second-secret"
	return &other
}

// loginTo consents to a client, as the scenario's first user unless another
// is named.
func (r *rig) loginTo(t *testing.T, config *oauth2.Config, user ...string) *oauth2.Token {
	t.Helper()
	answer := Answer{User: strings.Join(user, "")}
	target := must(r.Authorize(config.AuthCodeURL("s", oauth2.AccessTypeOffline, oauth2.S256ChallengeOption(verifier)), answer))(t)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	return must(config.Exchange(ctx, target.Query().Get("code"), oauth2.VerifierOption(verifier)))(t)
}

// Fact (OAuth): revoke is per user and per client project: it removes all
// scopes and all tokens of that user for every client in the project, codes
// that are under way included. Other users and other projects' clients keep
// theirs, and the user can consent again.
func TestRevokingTakesAllClientsOfTheProject(t *testing.T) {
	t.Parallel()
	r := newRig(t, twoClients)
	first := oauthConfig(r)
	second, third := otherClient(first), *first
	third.ClientID, third.ClientSecret = "third.apps.googleusercontent.com", "third-secret"

	a, b, c := r.loginTo(t, first), r.loginTo(t, second), r.loginTo(t, &third)
	eve := r.loginTo(t, first, "eve@example.org")
	underWay := must(r.Authorize(second.AuthCodeURL("s"), Answer{User: demo}))(t).Query().Get("code")
	if code, body := r.post(t, "/revoke", url.Values{"token": {a.RefreshToken}}); code != http.StatusOK {
		t.Fatalf("revoke answers %d %v", code, body)
	}
	got := []string{r.refresh(t, first, a.RefreshToken), r.refresh(t, second, b.RefreshToken), r.refresh(t, &third, c.RefreshToken), r.refresh(t, first, eve.RefreshToken)}
	if diff := cmp.Diff([]string{"invalid_grant", "invalid_grant", "", ""}, got); diff != "" {
		t.Errorf("the client's, its project's other's, another project's, another user's (-want +got):\n%s", diff)
	}
	for name, token := range map[string]string{"the client's": a.AccessToken, "the other client's": b.AccessToken} {
		_, err := r.with(token).v1.Projects.List().Do()
		if refused(err).Reason != "ACCESS_TOKEN_EXPIRED" {
			t.Errorf("%s access token: %v", name, err)
		}
	}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
	if _, err := second.Exchange(ctx, underWay); err == nil {
		t.Error("a code from before the revocation is exchanged")
	}
	if anew := r.loginTo(t, first); anew.RefreshToken == "" || r.refresh(t, first, anew.RefreshToken) != "" {
		t.Error("after a new consent there is no refresh token that works")
	}
}

// Fact (OAuth): a revocation takes all grants of that user to every client of
// the project.
func TestRevokingOneLoginKillsTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, second := r.login(t, Answer{}), r.login(t, Answer{})
	r.post(t, "/revoke", url.Values{"token": {first.AccessToken}})
	_, err := r.with(second.AccessToken).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{Code: 401, Status: "UNAUTHENTICATED", Reason: "ACCESS_TOKEN_EXPIRED"})
}

func TestIDTokenVerifies(t *testing.T) {
	t.Parallel()
	scenario := DefaultScenario()
	scenario.Latencies = Latencies{}
	r := serveRig(t, Options{Scenario: scenario, Issuer: "http://google.test", PublicURL: "http://google.test"}, nil)
	token := r.login(t, Answer{}, oauth2.SetAuthURLParam("nonce", "n-1"))
	ctx := oidc.ClientContext(t.Context(), r.http)
	provider := must(oidc.NewProvider(ctx, r.base))(t)
	raw, _ := token.Extra("id_token").(string)
	id := must(provider.Verifier(&oidc.Config{ClientID: oauthConfig(r).ClientID}).Verify(ctx, raw))(t)
	if id.Nonce != "n-1" || id.Subject != scenario.Users[0].Sub {
		t.Errorf("nonce %q, subject %q", id.Nonce, id.Subject)
	}
	if err := id.VerifyAccessToken(token.AccessToken); err != nil {
		t.Error(err)
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
		HD       string `json:"hd"`
	}
	if err := id.Claims(&claims); err != nil || claims.Email != demo || !claims.Verified || claims.HD != "example.com" {
		t.Errorf("claims %+v, %v", claims, err)
	}
	info := must(provider.UserInfo(ctx, oauth2.StaticTokenSource(token)))(t)
	if info.Email != demo || info.Subject != id.Subject {
		t.Errorf("userinfo %+v", info)
	}
}

func TestMetadataServerSpeaksForThePlatform(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	get := func(path, flavor string) (int, string) {
		req := must(http.NewRequestWithContext(t.Context(), "GET", r.base+"/computeMetadata/v1/"+path, nil))(t)
		req.Header.Set("Metadata-Flavor", flavor)
		resp := must(r.http.Do(req))(t)
		return resp.StatusCode, string(must(io.ReadAll(resp.Body))(t))
	}
	if status, email := get("instance/service-accounts/default/email", "Google"); status != 200 || email != runner {
		t.Errorf("email: %d %q", status, email)
	}
	if status, _ := get("instance/service-accounts/default/token", ""); status != 403 {
		t.Errorf("a request without the header is answered %d", status)
	}
	_, body := get("instance/service-accounts/default/token", "Google")
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &token); err != nil {
		t.Fatal(err)
	}
	if listed := must(r.with(token.AccessToken).v3.Projects.Search().Do())(t); len(listed.Projects) != 0 {
		t.Errorf("the platform's account sees %d projects", len(listed.Projects))
	}
}

func TestSilentAuthorizationAfterConsent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.login(t, Answer{})
	resp := must(r.http.Get(oauthConfig(r).AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none"))))(t)
	if q := must(resp.Location())(t).Query(); q.Get("code") == "" {
		t.Errorf("redirects with %v", q)
	}
}

func TestScopesGrantedBeforeAreIncludedOnRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.login(t, Answer{})
	only := []string{"openid", "email"}
	apart := r.login(t, Answer{Without: only})
	together := r.login(t, Answer{Without: only}, oauth2.SetAuthURLParam("include_granted_scopes", "true"))
	if got := apart.Extra("scope"); got != cloudPlatform {
		t.Errorf("apart: %q", got)
	}
	if got := together.Extra("scope"); got != cloudPlatform+" openid https://www.googleapis.com/auth/userinfo.email" {
		t.Errorf("together: %q", got)
	}
}

// TestSecretsStayOutOfTheLog: whatever happens, no token, code or secret is
// logged.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	scenario := DefaultScenario()
	scenario.Latencies = Latencies{}
	s := must(NewServer(Options{Scenario: scenario, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}))(t)
	token := must(s.MintToken(demo))(t)
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/cloudresourcemanager/v1/projects?access_token="+token, nil)
	s.ServeHTTP(w, req)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"1//0very-secret"}, "client_id": {scenario.Clients[0].ID}, "client_secret": {scenario.Clients[0].Secret}}
	req = httptest.NewRequestWithContext(t.Context(), "POST", "/token", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.ServeHTTP(httptest.NewRecorder(), req)
	if w.Code != http.StatusOK || log.Len() == 0 {
		t.Errorf("answer %d, log %q", w.Code, log.String())
	}
	for _, secret := range []string{token, "very-secret", scenario.Clients[0].Secret} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds a secret: %s", log.String())
		}
	}
}
