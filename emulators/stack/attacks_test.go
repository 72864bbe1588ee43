package stack_test

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

// The victim is the owner of every project; the attacker has a Google account
// too, and sees one project of its own.
const (
	victim        = "user-1"
	attacker      = "attacker"
	attackerEmail = "attacker@evil.example"
	ownedByEvil   = "evil-project"
)

// An attack runs against a whole system, and fails the test if it comes to
// anything.
type attack struct {
	name        string
	run         func(*system)
	environment map[string]string
	callers     bool // they show tokens, which takes the real services
}

// backendAccount is Aurora's backend where callers show tokens.
const backendAccount = "backend@aurora-platform.iam.gserviceaccount.com"

// attacks are all of them; each runs in memory, but those of callers with
// tokens, and over the real services.
func attacks() []attack {
	secure := map[string]string{"NEXT_PUBLIC_BACKEND_URL": "https://backend.example"}
	backend := map[string]string{"AUTH": "backend", "BACKEND_SERVICE_ACCOUNTS": backendAccount, "HOST": "127.0.0.1"}
	return append(confirmAttacks(), []attack{
		{name: "session fixation", run: sessionFixation},
		{name: "session fixation of a browser with a login of its own", run: sessionFixationAmongTabs},
		{name: "replay of a callback", run: replay},
		{name: "ten callbacks at once", run: replayAtOnce},
		{name: "guessed states", run: guessedStates},
		{name: "injected codes", run: injectedCodes},
		{name: "forged cookies", run: forgedCookies},
		{name: "forged cookies over HTTPS", run: forgedCookies, environment: secure},
		{name: "id_tokens of another", run: foreignIDTokens},
		{name: "open redirect", run: openRedirect},
		{name: "another user's data", run: otherUsersData},
		{name: "another user's data by one who is connected", run: otherUsersDataConnected},
		{name: "forged tasks", run: forgedTasks},
		{name: "tasks of another generation", run: foreignTasks},
		{name: "headers of proxies", run: proxyHeaders},
		{name: "headers of proxies over HTTPS", run: proxyHeaders, environment: secure},
		{name: "pages of other origins", run: foreignPages},
		{name: "forged tasks where callers show tokens", run: forgedTasksWithTokens, environment: backend, callers: true},
		{name: "a forged backend", run: forgedBackend, environment: backend, callers: true},
	}...)
}

// evil is a Google with two projects of the victim and one of the attacker,
// and with another OAuth client, of the attacker's.
func evil() *google.Scenario {
	return scenario(2, func(s *google.Scenario) {
		s.Users = append(s.Users, google.User{Email: attackerEmail, Sub: "100000000000000000666", Domain: "evil.example"})
		mine := s.Projects[1]
		mine.ID, mine.Number, mine.Name = ownedByEvil, "200000000666", "Evil"
		mine.Bindings = []google.Binding{{Role: "roles/owner", Members: []string{"user:" + attackerEmail}}}
		s.Projects = append(s.Projects, mine)
		s.Clients[0].RedirectURIs = append(s.Clients[0].RedirectURIs, "https://backend.example/callback")
		s.Clients = append(s.Clients, google.Client{
			ID: "evil.apps.googleusercontent.com", Secret: "evil-secret", RedirectURIs: []string{"http://127.0.0.1:1/evil"}, Project: ownedByEvil,
		})
	})
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks() {
		if a.callers {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			m := new(middle)
			between := func(next http.RoundTripper) http.RoundTripper { m.next = next; return m }
			runOver(t, between, evil(), a.environment, func(y *system) {
				y.middle = m
				a.run(y)
			})
		})
	}
}

func TestAttacksOnRealServices(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			environment := shared.environment()
			maps.Copy(environment, a.environment)
			m := &middle{next: &http.Transport{MaxIdleConnsPerHost: 100}}
			runReal(t, stack.Options{Environment: environment, Network: m}, evil(), func(y *system) {
				y.middle = m
				a.run(y)
			})
		})
	}
	t.Run("another user than the token's", func(t *testing.T) {
		t.Parallel()
		otherSubject(t, shared)
	})
}

// state is what an attack must leave as it was.
type state struct {
	Writes, Deletes           int64 // of documents
	Tasks                     int64
	TokenWrites, TokenDeletes int64 // in the Vault
	Exchanges                 int   // of codes and refresh tokens at Google
	Projects                  []google.ProjectSnapshot
	Consents                  []google.ConsentSnapshot
}

// state returns it when all that was begun is done.
func (y *system) state() state {
	y.t.Helper()
	if err := y.Idle(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
	c, at := y.Counts(), y.Google.Snapshot()
	return state{c.Writes, c.Deletes, c.Tasks, c.TokenWrites, c.TokenDeletes, y.Google.CallCounts().ByMethod["oauth.token"], at.Projects, at.Consents}
}

// spent is what an attack may use up, to no avail.
type spent struct {
	logins int64 // begun
	used   int64 // used up and forgotten
	codes  int   // offered to Google
	tokens bool  // given by Google for them, and dropped
}

// unharmed fails unless the state is as it was before, but for what was spent.
func (y *system) unharmed(before state, but spent) {
	y.t.Helper()
	after := y.state()
	before.Writes += but.logins + but.used
	before.Deletes += but.used
	before.Exchanges += but.codes
	if but.tokens {
		before.Consents = after.Consents
	}
	if diff := cmp.Diff(before, after); diff != "" {
		y.t.Errorf("the state changed (-before +after):\n%s", diff)
	}
}

// unconnected fails if one of the users is connected.
func (y *system) unconnected(users ...string) {
	y.t.Helper()
	for _, user := range users {
		if answer := y.send(http.MethodGet, "/api/gcp/connection", "", "X-User-ID", user); answer.Status != 200 || !strings.Contains(string(answer.Body), `"isConnected":false`) {
			y.t.Errorf("the connection of %s is %d %s", user, answer.Status, answer.Body)
		}
	}
}

// send makes a request with no cookies but those among the headers, which are
// pairs and may repeat.
func (y *system) send(method, path, body string, header ...string) *demo.Answer {
	y.t.Helper()
	r, err := http.NewRequestWithContext(y.t.Context(), method, y.URL+path, strings.NewReader(body))
	if err != nil {
		y.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := y.Client().Do(r)
	if err != nil {
		y.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		y.t.Fatal(err)
	}
	return &demo.Answer{Status: resp.StatusCode, Header: resp.Header, Body: content}
}

// victim connects the victim, and returns the setup when it has succeeded.
func (y *system) victim() (task string) {
	y.t.Helper()
	login, task, err := y.user.Connect(y.t.Context(), demo.Choice{Account: owner})
	if err != nil || login != "gcp_setup_pending" {
		y.t.Fatal(login, err)
	}
	y.wantSuccess(y.await(task), 2, 2)
	return task
}

// begin begins a login and returns the address of the consent page, and the
// cookie of the browser that began it.
func (y *system) begin(user string) (address *url.URL, cookie *http.Cookie) {
	y.t.Helper()
	answer := y.send(http.MethodPost, "/login", "", "X-User-ID", user)
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil || answer.Status != 200 {
		y.t.Fatal(answer.Status, err)
	}
	address, err := url.Parse(login.URL)
	if err != nil {
		y.t.Fatal(err)
	}
	cookie, err = http.ParseSetCookie(answer.Header.Get("Set-Cookie"))
	if err != nil {
		y.t.Fatal(err)
	}
	return address, cookie
}

// consent consents as that Google account and returns the parameters of the
// callback.
func (y *system) consent(address *url.URL, account string) url.Values {
	y.t.Helper()
	back, err := y.Google.Authorize(address.String(), google.Answer{User: account})
	if err != nil {
		y.t.Fatal(err)
	}
	return back.Query()
}

// callback comes back from Google with parameters and, unless it is nil, a
// cookie. It returns what the frontend is told, and fails if the browser is
// sent anywhere else.
func (y *system) callback(parameters url.Values, cookie *http.Cookie, header ...string) string {
	y.t.Helper()
	if cookie != nil {
		header = append(header, "Cookie", cookie.Name+"="+cookie.Value)
	}
	answer := y.send(http.MethodGet, "/callback?"+parameters.Encode(), "", header...)
	target, told, _ := strings.Cut(answer.Header.Get("Location"), "?")
	if answer.Status != http.StatusFound || target != y.FrontURL {
		y.t.Errorf("the callback answered %d to %q", answer.Status, answer.Header.Get("Location"))
		return ""
	}
	query, err := url.ParseQuery(told)
	if err != nil {
		y.t.Error(err)
	}
	if login := query.Get("login"); login != "gcp_setup_pending" && login != "gcp_confirm" && len(query) != 1 {
		y.t.Errorf("a login that failed tells the frontend %s", told)
	}
	return query.Get("login")
}
