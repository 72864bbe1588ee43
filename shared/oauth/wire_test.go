package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

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
	http   *http.Client
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
	return wire{s, client, browser}
}

// consent answers the consent page as the demonstration's user, and returns
// what the browser brings back.
func (w wire) consent(t *testing.T, state string, without ...string) url.Values {
	t.Helper()
	u, err := url.Parse(w.client.AuthURL(state))
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
	state := w.client.NewState()
	back := w.consent(t, state, without...)
	if back.Get("state") != state {
		t.Fatalf("came back with state %q", back.Get("state"))
	}
	return w.client.Exchange(t.Context(), connect.Secret(back.Get("code")), state)
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
	mine, yours := w.client.NewState(), w.client.NewState()
	code := connect.Secret(w.consent(t, yours).Get("code"))
	if _, err := w.client.Exchange(t.Context(), code, mine); connect.CodeOf(err) != connect.Invalid {
		t.Errorf("with another login's state: %v", err)
	}
	code = connect.Secret(w.consent(t, mine).Get("code"))
	if _, err := w.client.Exchange(t.Context(), code, mine); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Exchange(t.Context(), code, mine); connect.CodeOf(err) != connect.Invalid {
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
