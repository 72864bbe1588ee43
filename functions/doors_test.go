package functions_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/functions"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/identity"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
)

// The accounts of a deployment, and their tokens' audiences.
const (
	backendAccount   = "backend@aurora.iam.gserviceaccount.com"
	queueAccount     = "queue@aurora.iam.gserviceaccount.com"
	schedulerAccount = "scheduler@aurora.iam.gserviceaccount.com"
	serviceAccount   = "tools@aurora.iam.gserviceaccount.com"
	userAudience     = "https://backend.example.com"
	taskAudience     = "https://tasks.example.com/" // and the function's name
)

// siblings are the platform's own callers, by their tokens' audiences.
var siblings = map[string]string{
	backendAccount: userAudience, serviceAccount: userAudience, queueAccount: taskAudience, schedulerAccount: taskAudience,
}

// house is every function with its doors locked as in a deployment with
// AUTH=backend or AUTH=oidc.
type house struct {
	t       *testing.T
	google  *google.Server
	clock   *movable
	forger  *google.Server // signs as Google does, with another key
	gateway http.Handler
}

type movable struct{ ahead time.Duration }

func (m *movable) Now() time.Time                             { return time.Now().Add(m.ahead) }
func (m *movable) Sleep(context.Context, time.Duration) error { return nil }

func verifier(t *testing.T, o identity.Options, audience string) *identity.Verifier {
	t.Helper()
	issuer, err := identity.New(o)
	if err != nil {
		t.Fatal(err)
	}
	v, err := issuer.For(audience)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func accountsOf(t *testing.T, tokens functions.Tokens, email string) functions.Accounts {
	t.Helper()
	a, err := functions.NewAccounts(tokens, email)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNewAccounts_RefusesEmptyEmail(t *testing.T) {
	t.Parallel()
	if _, err := functions.NewAccounts(nil, queueAccount, ""); err == nil {
		t.Error("an empty email is accepted")
	}
}

func newHouse(t *testing.T, auth string) *house {
	t.Helper()
	h := &house{t: t, clock: &movable{}}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.google.ServeHTTP(w, r) }))
	t.Cleanup(issuer.Close)
	var err error
	if h.google, err = google.NewServer(google.Options{Clock: h.clock}); err != nil {
		t.Fatal(err)
	}
	if h.forger, err = google.NewServer(google.Options{}); err != nil {
		t.Fatal(err)
	}
	tokens := func(audience string) *identity.Verifier {
		return verifier(t, identity.Options{Issuer: "https://accounts.google.com", Keys: issuer.URL + "/oauth2/v3/certs"}, audience)
	}
	accounts := func(audience, email string) functions.Accounts { return accountsOf(t, tokens(audience), email) }
	client, err := oauth.New(oauth.Options{ClientID: "id", ClientSecret: "secret", RedirectURL: "https://backend.example.com/callback", Endpoints: oauth.GoogleEndpoints()})
	if err != nil {
		t.Fatal(err)
	}
	logins, err := oauth.NewLogins(oauth.LoginOptions{
		ClientID: "id", RedirectURL: "https://backend.example.com/callback", AuthURL: oauth.GoogleEndpoints().Auth,
		Key: oauth.LoginKey{Value: "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="},
	})
	if err != nil {
		t.Fatal(err)
	}
	log, store := slog.New(slog.DiscardHandler), memory.NewStore()
	queue := memory.NewQueue(memory.Options{URL: func(string) string { return "http://127.0.0.1:1/" }})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := queue.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	parts := setup.Parts{Store: store, Queue: queue, Tokens: setup.NewCredentials(memory.NewVault(), client, nil, log), Log: log}
	d := functions.Deps{
		Service: &setup.Service{Parts: parts}, Runner: &setup.Runner{Parts: parts}, Store: store, Logins: logins, OAuth: client,
		Queue: func(f string) functions.Services {
			return accounts(taskAudience+f, queueAccount)
		},
		Scheduler: func(f string) functions.Services {
			return accounts(taskAudience+f, schedulerAccount)
		},
		// For the same audience as users' tokens, as it is without a setting.
		Internal: accounts(userAudience, serviceAccount),
		Front:    &url.URL{Scheme: "https", Host: "front.example.com"}, SecureCookies: true, MaxAttempts: 20, Log: log,
	}
	d.Users = functions.Backend{Services: accounts(userAudience, backendAccount)}
	if auth == "oidc" {
		d.Users = functions.Subjects{Tokens: tokens(userAudience)}
	}
	h.gateway = watched(t, d)
	return h
}

func (h *house) token(signer *google.Server, email, audience string, age time.Duration) string {
	h.t.Helper()
	h.clock.ahead = -age
	defer func() { h.clock.ahead = 0 }()
	token, err := signer.IDToken(email, audience)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// knock makes a request and returns the status.
func (h *house) knock(method, path, token string, header ...string) int {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), method, path, strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	if path == "/callback" { // which takes forms
		r = httptest.NewRequestWithContext(h.t.Context(), method, path, http.NoBody)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.gateway.ServeHTTP(w, r)
	return w.Code
}

// Every function that is registered is probed: a new one cannot be forgotten.
func TestEveryDoorIsLockedToStrangers(t *testing.T) {
	t.Parallel()
	for _, auth := range []string{"backend", "oidc"} {
		t.Run(auth, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, auth)
			const other = "other@elsewhere.iam.gserviceaccount.com"
			for _, f := range functions.Table() {
				rightful, audience := backendAccount, userAudience
				switch f.Caller {
				case functions.CallerQueue:
					rightful, audience = queueAccount, taskAudience+f.Name
				case functions.CallerScheduler:
					rightful, audience = schedulerAccount, taskAudience+f.Name
				case functions.CallerService:
					rightful, audience = serviceAccount, userAudience
				}
				good := h.token(h.google, rightful, audience, 0)
				for _, route := range f.Routes {
					path := strings.ReplaceAll(route.Path, "{task_id}", "SETUP")
					// What a caller may say of itself does not help.
					claims := []string{"X-User-ID", "victim", "X-CloudTasks-TaskName", "task", "X-CloudTasks-QueueName", "setups", "X-CloudScheduler", "true", "X-Internal-Service", "service"}
					probe := func(who, token string, want int) {
						t.Helper()
						if got := h.knock(route.Method, path, token, claims...); got != want {
							t.Errorf("%s %s as %s answers %d, want %d", route.Method, route.Path, who, got, want)
						}
					}
					if f.Caller == functions.CallerBrowser {
						if got := h.knock(route.Method, path, "", claims...); got != http.StatusBadRequest { // no state
							t.Errorf("%s %s without a login answers %d, want 400", route.Method, route.Path, got)
						}
						continue
					}
					probe("nobody", "", http.StatusUnauthorized)
					probe("somebody with a text", "token", http.StatusUnauthorized)
					probe("somebody with a forged token", h.token(h.forger, rightful, audience, 0), http.StatusUnauthorized)
					probe("somebody with an expired token", h.token(h.google, rightful, audience, 2*time.Hour), http.StatusUnauthorized)
					probe("somebody with a token for another service", h.token(h.google, rightful, "https://elsewhere.example.com", 0), http.StatusUnauthorized)
					// Another account: as a service it is known and not allowed; as
					// a user it is another user than it says.
					probe("another account", h.token(h.google, other, audience, 0), http.StatusForbidden)
					probe("somebody with a token for another function", h.token(h.google, rightful, taskAudience+"other", 0), http.StatusUnauthorized)
					for sibling, its := range siblings {
						if its == taskAudience {
							its += f.Name // the worst: meant for this very function
						}
						switch {
						case sibling == rightful || f.Caller == functions.CallerUser && its == userAudience && auth == "oidc":
						case its == audience:
							probe(sibling, h.token(h.google, sibling, its, 0), http.StatusForbidden)
						default:
							probe(sibling, h.token(h.google, sibling, its, 0), http.StatusUnauthorized)
						}
					}
					if f.Caller == functions.CallerUser && auth == "oidc" {
						claims = nil // the token says who it is
					}
					if got := h.knock(route.Method, path, good, claims...); got == http.StatusUnauthorized || got == http.StatusForbidden {
						t.Errorf("%s %s as its rightful caller answers %d", route.Method, route.Path, got)
					}
				}
			}
		})
	}
}

func TestABackendMustNameTheUser(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "backend")
	token := h.token(h.google, backendAccount, userAudience, 0)
	if got := h.knock(http.MethodGet, "/api/gcp/connection", token); got != http.StatusUnauthorized {
		t.Errorf("without a user the connection answers %d, want 401", got)
	}
	if got := h.knock(http.MethodGet, "/api/gcp/connection", token, "X-User-ID", "user"); got != http.StatusOK {
		t.Errorf("for a user the connection answers %d, want 200", got)
	}
}

// A user who names another anywhere in a request is refused by every function:
// what reads the name of another may one day believe it.
func TestNobodySpeaksForAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "oidc")
	mine := h.token(h.google, backendAccount, userAudience, 0)
	ask := func(method, target, body, token string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody)
		if body != "" {
			r = httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.gateway.ServeHTTP(w, r)
		return w.Code
	}
	for _, f := range functions.Table() {
		if f.Caller != functions.CallerUser {
			continue
		}
		for _, route := range f.Routes {
			path := strings.ReplaceAll(route.Path, "{task_id}", "task")
			if code := ask(route.Method, path+"?userId=victim", "", mine); code != http.StatusForbidden {
				t.Errorf("%s %s with another's userId in its query was answered %d", route.Method, path, code)
			}
			if route.Method != http.MethodPost {
				continue
			}
			if code := ask(route.Method, path, `{"userId":"victim"}`, mine); code != http.StatusForbidden {
				t.Errorf("%s %s with another's userId in its body was answered %d", route.Method, path, code)
			}
			// What is wrong with a body is said to nobody but a user.
			if code := ask(route.Method, path, "{", ""); code != http.StatusUnauthorized {
				t.Errorf("%s %s with a broken body of nobody was answered %d", route.Method, path, code)
			}
		}
	}
}

func TestOnlyTheFrontendsPagesMayCall(t *testing.T) {
	t.Parallel()
	const front = "https://front.example.com"
	for _, c := range []struct {
		name, origin string
		origins      []string
		allowed      bool
	}{
		{"the frontend", front, []string{front}, true},
		{"another page", "https://evil.example.com", []string{front}, false},
		{"a page with a name alike", "https://front.example.com.evil.example.com", []string{front}, false},
		{"a page of no origin", "null", []string{front}, false},
		{"any page where none may", front, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gateway := watched(t, functions.Deps{Users: functions.Local{}, Queue: functions.QueueMark.Of, Origins: c.origins, Log: slog.New(slog.DiscardHandler)})
			for _, preflight := range []bool{true, false} {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/login", strings.NewReader("{}"))
				if preflight {
					r.Method = http.MethodOptions
					r.Header.Set("Access-Control-Request-Method", http.MethodPost)
					r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
				}
				r.Header.Set("Origin", c.origin)
				w := httptest.NewRecorder()
				gateway.ServeHTTP(w, r)
				got := w.Header().Get("Access-Control-Allow-Origin")
				if c.allowed && (got != c.origin || w.Header().Get("Access-Control-Allow-Credentials") != "true") || !c.allowed && got != "" {
					t.Errorf("preflight %t is answered %d with %v", preflight, w.Code, w.Header())
				}
			}
		})
	}
	// Tasks come from no page.
	gateway := watched(t, functions.Deps{Users: functions.Local{}, Queue: functions.QueueMark.Of, Origins: []string{front}, Log: slog.New(slog.DiscardHandler)})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/tasks/enable-apis", strings.NewReader("{}"))
	r.Header.Set("Origin", front)
	w := httptest.NewRecorder()
	gateway.ServeHTTP(w, r)
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a page may bring tasks: %q", got)
	}
}

// What Cloud Run's invoker check has passed is believed; what only looks so is
// not: of two headers Cloud Run checks the one and passes the other on.
func TestATokenThatCloudRunDidNotCheckIsNotBelieved(t *testing.T) {
	t.Parallel()
	signer, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.IDToken(queueAccount, taskAudience)
	if err != nil {
		t.Fatal(err)
	}
	token = token[:strings.LastIndex(token, ".")+1] + identity.SignatureRemoved
	door := accountsOf(t, verifier(t, identity.Options{
		Issuer: "https://accounts.google.com", Keys: "http://127.0.0.1:1/none", Checked: true,
	}, taskAudience), queueAccount)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	if name, err := door.Service(r); err != nil || name != queueAccount {
		t.Errorf("what Cloud Run checked: %q, %v", name, err)
	}
	r.Header.Set("X-Serverless-Authorization", "Bearer "+token)
	if _, err := door.Service(r); connect.CodeOf(err) != connect.Unauthenticated {
		t.Errorf("what it did not check: %v, want Unauthenticated", err)
	}
}
