package stacktest

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
)

// Accounts that tests of callers and attacks use.
const (
	// BackendAccount is Aurora's backend where callers show tokens.
	BackendAccount = "backend@aurora-platform.iam.gserviceaccount.com"
	// ToolsAccount is one of Aurora's services where callers show tokens.
	ToolsAccount = "tools@aurora-platform.iam.gserviceaccount.com"
	// QueueAccount is the queue's service account.
	QueueAccount = "queue@aurora-local.iam.gserviceaccount.com"
	// Attacker is the user of an attacker, whose Google account is AttackerEmail.
	Attacker      = "attacker"
	AttackerEmail = "attacker@evil.example"
	// AttackerProject is a project that the attacker owns.
	AttackerProject = "evil-project"
)

// JSON is the header of a JSON body.
var JSON = []string{"Content-Type", "application/json"}

// Confirming binds logins by confirmation.
var Confirming = map[string]string{"LOGIN_BINDING": "confirm"}

// AuthBackend makes callers show ID tokens, and binds logins by confirmation. It
// needs real services.
var AuthBackend = map[string]string{
	"AUTH": "backend", "BACKEND_SERVICE_ACCOUNTS": BackendAccount, "INTERNAL_SERVICE_ACCOUNTS": ToolsAccount, "HOST": "127.0.0.1",
}

// AttackedScenario makes a Google with two projects of the owner, one of the
// attacker, and an OAuth client of the attacker.
func AttackedScenario() *google.Scenario {
	return googletest.Scenario(2, func(s *google.Scenario) {
		s.Users = append(s.Users, google.User{Email: AttackerEmail, Sub: "100000000000000000666", Domain: "evil.example"})
		mine := s.Projects[1]
		mine.ID, mine.Number, mine.Name = AttackerProject, "200000000666", "Evil"
		mine.Bindings = []google.Binding{{Role: "roles/owner", Members: []string{"user:" + AttackerEmail}}}
		s.Projects = append(s.Projects, mine)
		s.Clients[0].RedirectURIs = append(s.Clients[0].RedirectURIs, "https://backend.example/callback")
		s.Clients = append(s.Clients, google.Client{
			ID: "evil.apps.googleusercontent.com", Secret: "evil-secret", RedirectURIs: []string{"http://127.0.0.1:1/evil"}, Project: AttackerProject,
		})
	})
}

// Send makes a request without the user's cookies. Headers are pairs of name
// and value, and may repeat.
func (y *System) Send(method, path, body string, header ...string) *demo.Answer {
	y.T.Helper()
	r, err := http.NewRequestWithContext(y.T.Context(), method, y.URL+path, strings.NewReader(body))
	if err != nil {
		y.T.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := y.Client().Do(r)
	if err != nil {
		y.T.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		y.T.Fatal(err)
	}
	return &demo.Answer{Status: resp.StatusCode, Header: resp.Header, Body: content}
}

// BeginLogin begins a login and returns the address of the consent page and the
// cookie of the browser that began it.
func (y *System) BeginLogin(user string) (address *url.URL, cookie *http.Cookie) {
	y.T.Helper()
	answer := y.Send(http.MethodPost, "/login", "", "X-User-ID", user)
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil || answer.Status != 200 {
		y.T.Fatal(answer.Status, err)
	}
	address, err := url.Parse(login.URL)
	if err != nil {
		y.T.Fatal(err)
	}
	cookie, err = http.ParseSetCookie(answer.Header.Get("Set-Cookie"))
	if err != nil {
		y.T.Fatal(err)
	}
	return address, cookie
}

// Consent consents as a Google account and returns the parameters of the
// callback.
func (y *System) Consent(address *url.URL, account string) url.Values {
	y.T.Helper()
	back, err := y.Google.Authorize(address.String(), google.Answer{User: account})
	if err != nil {
		y.T.Fatal(err)
	}
	return back.Query()
}

// Callback calls the callback with parameters and, unless it is nil, a cookie.
// It returns the login parameter that the frontend gets, and fails if the
// browser is redirected anywhere else.
func (y *System) Callback(parameters url.Values, cookie *http.Cookie, header ...string) string {
	y.T.Helper()
	if cookie != nil {
		header = append(header, "Cookie", cookie.Name+"="+cookie.Value)
	}
	answer := y.Send(http.MethodGet, "/callback?"+parameters.Encode(), "", header...)
	target, told, _ := strings.Cut(answer.Header.Get("Location"), "?")
	if answer.Status != http.StatusFound || target != y.FrontURL {
		y.T.Errorf("the callback answered %d to %q", answer.Status, answer.Header.Get("Location"))
		return ""
	}
	query, err := url.ParseQuery(told)
	if err != nil {
		y.T.Error(err)
	}
	if login := query.Get("login"); login != "gcp_setup_pending" && login != "gcp_confirm" && len(query) != 1 {
		y.T.Errorf("a login that failed tells the frontend %s", told)
	}
	return query.Get("login")
}

// BeginServerLogin begins a login as a server does for its user and returns the
// address of the consent page.
func (y *System) BeginServerLogin(user string, header ...string) *url.URL {
	y.T.Helper()
	answer := y.Send(http.MethodPost, "/login", "", append(header, "X-User-ID", user)...)
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil || answer.Status != http.StatusOK || answer.Header.Get("Set-Cookie") != "" {
		y.T.Fatal(answer.Status, answer.Header, err)
	}
	address, err := url.Parse(login.URL)
	if err != nil {
		y.T.Fatal(err)
	}
	return address
}

// CallbackToConfirm calls the callback and returns the handle that the frontend
// must confirm.
func (y *System) CallbackToConfirm(parameters url.Values) (handle string) {
	y.T.Helper()
	answer := y.Send(http.MethodGet, "/callback?"+parameters.Encode(), "")
	to, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || to.Query().Get("login") != "gcp_confirm" || to.Query().Get("task_id") == "" {
		y.T.Fatalf("the callback answered %d to %q", answer.Status, answer.Header.Get("Location"))
	}
	return to.Query().Get("task_id")
}

// Confirm posts a handle and returns the status of the answer.
func (y *System) Confirm(user, handle string, header ...string) int {
	y.T.Helper()
	header = append(append(header, JSON...), "X-User-ID", user)
	return y.Send(http.MethodPost, "/gcp/setup/confirm", `{"task_id":"`+handle+`"}`, header...).Status
}

// CraftCode returns a code for which the attacker consented to the request of a
// login with changed parameters. Parameters are pairs; an empty value removes
// one.
func (y *System) CraftCode(login *url.URL, parameters ...string) string {
	y.T.Helper()
	query := login.Query()
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
		if parameters[i+1] == "" {
			query.Del(parameters[i])
		}
	}
	request := *login
	request.RawQuery = query.Encode()
	return y.Consent(&request, AttackerEmail).Get("code")
}

// WantConfirm confirms a login, checks the status of the answer and returns the
// setup.
func (y *System) WantConfirm(u *demo.User, handle string, want int) (task string) {
	y.T.Helper()
	answer, err := u.Confirm(y.T.Context(), handle)
	if err != nil {
		y.T.Fatal(err)
	}
	if answer.Status != want {
		y.T.Errorf("confirming answers %d %s, want %d", answer.Status, answer.Body, want)
	}
	var started struct {
		TaskID string `json:"task_id"`
	}
	if err := answer.Decode(&started); err != nil {
		y.T.Error(err)
	}
	return started.TaskID
}

// ParkLogin logs in, consents and returns the handle that must be confirmed.
func (y *System) ParkLogin(u *demo.User) string {
	y.T.Helper()
	login, handle, err := u.Connect(y.T.Context(), demo.Choice{})
	if err != nil || login != "gcp_confirm" || handle == "" {
		y.T.Fatalf("login ended with %q, %q, %v", login, handle, err)
	}
	return handle
}

// ConsentedCallback begins a login, consents and returns the address of the
// callback.
func (y *System) ConsentedCallback(u *demo.User) string {
	y.T.Helper()
	address, err := u.Login(y.T.Context())
	if err != nil {
		y.T.Fatal(err)
	}
	back, err := u.Consent(y.T.Context(), address, demo.Choice{})
	if err != nil {
		y.T.Fatal(err)
	}
	return back
}

// Bearer returns the header with an ID token of a service account for an
// audience.
func (y *System) Bearer(email, audience string) []string {
	y.T.Helper()
	token, err := y.Google.IDToken(email, audience)
	if err != nil {
		y.T.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + token}
}

// ActAsBackend sends the requests of the system's user with ID tokens of the
// backend.
func (y *System) ActAsBackend() {
	y.T.Helper()
	client := y.Client()
	client.Transport = signingTransport{client.Transport, y.URL, func() (string, error) { return y.Google.IDToken(BackendAccount, y.URL) }}
	user, err := demo.NewUser(UserID, y.URL, client)
	if err != nil {
		y.T.Fatal(err)
	}
	y.User = user
}

// signingTransport adds an ID token to the requests to the gateway.
type signingTransport struct {
	next    http.RoundTripper
	gateway string
	token   func() (string, error)
}

func (s signingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if "http://"+r.URL.Host == s.gateway {
		token, err := s.token()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return s.next.RoundTrip(r)
}
