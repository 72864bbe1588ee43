package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/oauth"
)

const demo = "demo@example.com"

// wire is an emulated Google, over HTTP, and its client.
type wire struct {
	*emulated.Server
	client *oauth.Client
	logins *oauth.Logins
	http   *http.Client
}

// loginsOf begins and proves logins at a Google.
func loginsOf(t *testing.T, s *emulated.Scenario, base string) *oauth.Logins {
	t.Helper()
	l, err := oauth.NewLogins(oauth.LoginOptions{
		ClientID: s.Clients[0].ID, RedirectURL: s.Clients[0].RedirectURIs[0], AuthURL: oauth.EndpointsUnder(base).Auth,
		Key: oauth.LoginKey{Value: "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// begin returns the address of the consent page for a state.
func (w wire) begin(state string) string {
	address, _ := w.logins.Begin(state)
	return address
}

// proof returns the proof of a state.
func (w wire) proof(t *testing.T, state string) oauth.Proof {
	t.Helper()
	p, err := w.logins.Proof(t.Context(), state, "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func serve(t *testing.T, change ...func(*emulated.Scenario)) wire {
	t.Helper()
	scenario := emulated.DefaultScenario()
	scenario.Latencies, scenario.Propagation, scenario.Quotas = emulated.Latencies{}, emulated.Propagation{}, false
	for _, f := range change {
		f(scenario)
	}
	s, err := emulated.NewServer(emulated.Options{Scenario: scenario, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	browser := server.Client()
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client, err := oauth.New(oauth.Options{
		ClientID: scenario.Clients[0].ID, ClientSecret: connect.Secret(scenario.Clients[0].Secret),
		RedirectURL: scenario.Clients[0].RedirectURIs[0], Endpoints: oauth.EndpointsUnder(server.URL), HTTPClient: browser,
	})
	if err != nil {
		t.Fatal(err)
	}
	return wire{s, client, loginsOf(t, scenario, server.URL), browser}
}

// consent answers the consent page as the demonstration's user, and returns
// what the browser brings back.
func (w wire) consent(t *testing.T, state string, without ...string) url.Values {
	t.Helper()
	u, err := url.Parse(w.begin(state))
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"request": {u.RawQuery}, "user": {demo}, "action": {"allow"}}
	for scope := range strings.FieldsSeq(u.Query().Get("scope")) {
		if !strings.Contains(strings.Join(without, " "), scope) {
			form.Add("scope", scope)
		}
	}
	u.RawQuery = ""
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := w.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	back, err := response.Location()
	if err != nil {
		t.Fatalf("status %d: %v", response.StatusCode, err)
	}
	return back.Query()
}

func (w wire) login(t *testing.T, without ...string) (oauth.Grant, error) {
	t.Helper()
	state := oauth.NewState()
	back := w.consent(t, state, without...)
	if back.Get("state") != state {
		t.Fatalf("came back with state %q", back.Get("state"))
	}
	return w.client.Exchange(t.Context(), connect.Secret(back.Get("code")), w.proof(t, state))
}

func TestWireLogin(t *testing.T) {
	t.Parallel()
	w := serve(t)
	grant, err := w.login(t)
	if err != nil {
		t.Fatal(err)
	}
	if grant.Email != demo || grant.Subject != "104523178234567890123" || grant.Token.Access == "" || grant.Token.Refresh == "" || len(grant.Token.Scopes) != 3 {
		t.Errorf("grant %+v", grant)
	}

	fresh, err := w.client.Refresh(t.Context(), grant.Token)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Access == grant.Token.Access || fresh.Refresh != grant.Token.Refresh || !cmp.Equal(fresh.Scopes, grant.Token.Scopes) {
		t.Errorf("refreshed: new access token %v, same refresh token %v", fresh.Access != grant.Token.Access, fresh.Refresh == grant.Token.Refresh)
	}

	if err := w.SetRefreshError(demo, "invalid_rapt"); err != nil {
		t.Fatal(err)
	}
	_, err = w.client.Refresh(t.Context(), grant.Token)
	if connect.CodeOf(err) != connect.NeedsReauth || connect.ReasonOf(err) != oauth.ReasonInvalidRapt {
		t.Errorf("a session that ended: %v", err)
	}
	if err := w.SetRefreshError(demo, ""); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the second finds it done
		if err := w.client.Revoke(t.Context(), grant.Token); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.client.Refresh(t.Context(), grant.Token)
	if connect.CodeOf(err) != connect.NeedsReauth || connect.ReasonOf(err) != oauth.ReasonInvalidGrant {
		t.Errorf("a revoked token: %v", err)
	}
}

func TestWireACodeIsOfOneLogin(t *testing.T) {
	t.Parallel()
	w := serve(t)
	mine, yours := oauth.NewState(), oauth.NewState()
	code := connect.Secret(w.consent(t, yours).Get("code"))
	if _, err := w.client.Exchange(t.Context(), code, w.proof(t, mine)); connect.CodeOf(err) != connect.Invalid {
		t.Errorf("with another login's state: %v", err)
	}
	code = connect.Secret(w.consent(t, mine).Get("code"))
	if _, err := w.client.Exchange(t.Context(), code, w.proof(t, mine)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Exchange(t.Context(), code, w.proof(t, mine)); connect.CodeOf(err) != connect.Invalid {
		t.Errorf("a second time: %v", err)
	}
}

func TestWireGrantsThatAreNotEnough(t *testing.T) {
	t.Parallel()
	_, err := serve(t).login(t, oauth.ScopeCloudPlatform)
	if connect.CodeOf(err) != connect.Forbidden || connect.ReasonOf(err) != oauth.ReasonScopeMissing || !strings.Contains(connect.MessageOf(err), oauth.ScopeCloudPlatform) {
		t.Errorf("a scope unticked: %v", err)
	}
	_, err = serve(t, func(s *emulated.Scenario) { s.Clients[0].NoRefreshToken = true }).login(t)
	if connect.CodeOf(err) != connect.NeedsReauth || connect.MessageOf(err) != "No refresh token available. Please re-authenticate." {
		t.Errorf("no refresh token: %v", err)
	}
}

func TestWireATroubledGoogle(t *testing.T) {
	t.Parallel()
	w := serve(t)
	for _, fault := range []emulated.Fault{
		{Method: "oauth.token", Code: 503, Count: 1}, {Method: "oauth.certs", Reset: true, Count: 1},
	} {
		if err := w.AddFault(fault); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.login(t); err != nil {
		t.Error(err)
	}
}

func TestWireAnotherSecret(t *testing.T) {
	t.Parallel()
	w := serve(t)
	grant, err := w.login(t)
	if err != nil {
		t.Fatal(err)
	}
	scenario := w.Scenario()
	scenario.Clients[0].Secret = "changed"
	if err := w.Load(scenario); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Refresh(t.Context(), grant.Token); connect.CodeOf(err) != connect.Internal {
		t.Errorf("the old secret: %v", err)
	}
}

// TestWireRevokingEndsAllOfOneAccount: what Google revokes is the account's
// grant to the platform, not a token.
func TestWireRevokingEndsAllOfOneAccount(t *testing.T) {
	t.Parallel()
	w := serve(t)
	one, err := w.login(t)
	if err != nil {
		t.Fatal(err)
	}
	two, err := w.login(t)
	if err != nil {
		t.Fatal(err)
	}
	if one.Token.Refresh == two.Token.Refresh || one.Subject != two.Subject {
		t.Fatal("two logins of one account are to have a refresh token each")
	}
	if err := w.client.Revoke(t.Context(), connect.Token{Access: one.Token.Access}); err != nil { // the access token does it too
		t.Fatal(err)
	}
	for name, token := range map[string]connect.Token{"the revoked": one.Token, "the other": two.Token} {
		if _, err := w.client.Refresh(t.Context(), token); connect.ReasonOf(err) != oauth.ReasonInvalidGrant {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := w.login(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Refresh(t.Context(), again.Token); err != nil {
		t.Errorf("after a new consent: %v", err)
	}
	if err := w.RevokeUser(demo); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Refresh(t.Context(), again.Token); connect.CodeOf(err) != connect.NeedsReauth {
		t.Errorf("after the user took it back: %v", err)
	}
}

// TestWireTheConsentPageTakesTheAddress: the address is one that Google does not
// refuse, and a user who declines brings no code.
func TestWireTheConsentPageTakesTheAddress(t *testing.T) {
	t.Parallel()
	w := serve(t)
	state := oauth.NewState()
	back, err := w.Authorize(w.begin(state), emulated.Answer{User: demo, Deny: true})
	if err != nil {
		t.Fatal(err)
	}
	if q := back.Query(); q.Get("error") != "access_denied" || q.Get("state") != state || q.Has("code") {
		t.Errorf("came back with %s", q.Encode())
	}
}

// TestWireTime: a code is good for minutes, and a refresh token for seven days
// while the consent screen is in testing.
func TestWireTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scenario := emulated.DefaultScenario()
		scenario.Clients[0].RefreshLifetime = emulated.Duration(7 * 24 * time.Hour)
		s, err := emulated.NewServer(emulated.Options{Scenario: scenario, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		client, err := oauth.New(oauth.Options{
			ClientID: scenario.Clients[0].ID, ClientSecret: connect.Secret(scenario.Clients[0].Secret), RedirectURL: scenario.Clients[0].RedirectURIs[0],
			Endpoints: oauth.EndpointsUnder("http://google.test"), HTTPClient: &http.Client{Transport: handed{s}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w := wire{s, client, loginsOf(t, scenario, "http://google.test"), &http.Client{Transport: handed{s}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
		state := oauth.NewState()
		code := connect.Secret(w.consent(t, state).Get("code"))
		time.Sleep(time.Hour)
		if _, err := client.Exchange(t.Context(), code, w.proof(t, state)); connect.CodeOf(err) != connect.Invalid {
			t.Errorf("an old code: %v", err)
		}

		grant, err := w.login(t)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(grant.Token.Expiry); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the access token is good for %v", left)
		}
		time.Sleep(6 * 24 * time.Hour)
		fresh, err := client.Refresh(t.Context(), grant.Token)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(fresh.Expiry); left < 59*time.Minute || left > time.Hour {
			t.Errorf("the refreshed access token is good for %v", left)
		}
		time.Sleep(25 * time.Hour)
		if _, err := client.Refresh(t.Context(), fresh); connect.CodeOf(err) != connect.NeedsReauth || connect.ReasonOf(err) != oauth.ReasonInvalidGrant {
			t.Errorf("a refresh token of more than seven days: %v", err)
		}
	})
}

// handed hands requests to a handler with no network between, so that all time
// that passes is that of a testing/synctest bubble.
type handed struct{ http.Handler }

func (h handed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}
