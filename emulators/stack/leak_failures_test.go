package stack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

// search looks for every secret in everything that was heard, and returns what
// kinds of secrets there were.
func (w *wiretap) search(t *testing.T) (kinds map[string]bool) {
	t.Helper()
	kinds = map[string]bool{}
	for secret, what := range w.secrets {
		kinds[what] = true
		for where, said := range w.heard {
			if what == "state" && where == "address of the consent page" {
				continue // Google must have it
			}
			if strings.Contains(said, secret) || strings.Contains(said, url.QueryEscape(secret)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	return kinds
}

// hearURL keeps the address of a request, but for those of the browser that
// carry the state and the code.
func (w *wiretap) hearURL(r *http.Request) {
	if r.URL.Path != "/callback" && !strings.HasPrefix(r.URL.Path, "/o/oauth2/") {
		w.heard["addresses of requests to "+r.URL.Host] += r.URL.String() + " "
	}
}

// roundTrip has a request answered: as refuse says, or by whom it is meant for.
func (w *wiretap) roundTrip(r *http.Request, sent []byte) (*http.Response, error) {
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil && (r.URL.Path == "/token" || r.URL.Path == "/revoke") {
		form, err := url.ParseQuery(string(sent))
		if err != nil {
			return nil, err
		}
		if answer, refused := refuse(r.URL.Path, form); refused {
			return &http.Response{
				StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(answer)), Request: r,
			}, nil
		}
	}
	return w.next.RoundTrip(r)
}

// echo is an answer of Google's that repeats all that it was sent.
func echo(kind string, form url.Values) string {
	said := []string{"I was sent " + form.Encode()}
	for name := range form {
		said = append(said, name+" "+form.Get(name))
	}
	answer, _ := json.Marshal(map[string]string{"error": kind, "error_description": strings.Join(said, ", ")}) // texts
	return string(answer)
}

// refusing has Google refuse requests of a kind to an endpoint, with an echo.
func (w *wiretap) refusing(endpoint, grant, kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = func(path string, form url.Values) (string, bool) {
		return echo(kind, form), path == endpoint && form.Get("grant_type") == grant
	}
}

func (w *wiretap) seal(sealed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealed = sealed
}

// allow has Google refuse nothing any more.
func (w *wiretap) allow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = nil
}

// sealable is the way to the Vault, which may be sealed.
type sealable struct{ *wiretap }

func (s sealable) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	sealed := s.sealed
	s.learn(r.Header.Get("X-Vault-Token"), "token of Vault")
	s.heard["addresses of requests to the Vault"] += r.URL.String() + " "
	s.mu.Unlock()
	if !sealed {
		return http.DefaultTransport.RoundTrip(r)
	}
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"errors":["Vault is sealed"]}`)), Request: r,
	}, nil
}

// Where something fails, what failed is said, and what is secret is not: codes
// and refresh tokens that Google refuses, with an echo of all that it was sent;
// a Vault that is sealed; logins that nobody confirms; services that ask for
// what they may not have.
func TestNothingLeaksWhereSomethingFails(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		w := newWiretap(nil)
		between := func(next http.RoundTripper) http.RoundTripper { w.next = next; return w }
		where, told := tell()
		runTold(t, where, between, twoWithPlatform(), confirming, func(y *system) {
			(&failures{system: y, tap: w, told: told}).run(t)
		})
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		shared := services{partstest.Firestore(t), partstest.Vault(t)}
		w := newWiretap(&http.Transport{MaxIdleConnsPerHost: 100})
		w.learn(shared.vault.SecretID.Reveal(), "AppRole secret ID")
		environment := shared.environment()
		maps.Copy(environment, confirming)
		environment["VAULT_ADDR"] = w.vault(t, shared.vault.Address)
		environment["AUTH"], environment["BACKEND_SERVICE_ACCOUNTS"], environment["HOST"] = "backend", backendAccount, "127.0.0.1"
		environment["INTERNAL_SERVICE_ACCOUNTS"] = toolsAccount
		where, told := tell()
		runReal(t, stack.Options{Environment: environment, Network: w, Telemetry: where}, twoWithPlatform(), func(y *system) {
			y.asBackend()
			(&failures{system: y, tap: w, told: told, real: true, documents: func() map[string]string {
				return documents(t, shared.firestore.Address, environment["GOOGLE_CLOUD_PROJECT"])
			}}).run(t)
		})
	})
}

// toolsAccount is one of Aurora's services where callers show tokens.
const toolsAccount = "tools@aurora-platform.iam.gserviceaccount.com"

func newWiretap(next http.RoundTripper) *wiretap {
	return &wiretap{next: next, secrets: map[string]string{}, heard: map[string]string{}}
}

// failures drives a system through what can fail.
type failures struct {
	*system
	tap       *wiretap
	told      *told
	real      bool // callers show tokens, and the Vault is one
	documents func() map[string]string
}

func (f *failures) run(t *testing.T) {
	t.Helper()
	// A code that Google refuses.
	f.tap.refusing("/token", "authorization_code", "invalid_grant")
	f.login("gcp_failed")
	f.tap.refusing("/token", "authorization_code", "invalid_client")
	f.login("gcp_failed")
	// A Vault that is sealed when the tokens come, and a Google that does not
	// take them back.
	if f.real {
		f.tap.seal(true)
		f.tap.refusing("/revoke", "", "invalid_request")
		f.login("gcp_failed")
		f.tap.seal(false)
	}
	f.tap.allow()
	// A login that is not confirmed, and given up; again Google does not take
	// the tokens back, and then it does.
	f.login("gcp_confirm")
	f.keep("while a login waits")
	f.tap.refusing("/revoke", "", "invalid_request")
	f.giveUp()
	f.tap.allow()
	// One that is, with a code that comes once more.
	handle := f.login("gcp_confirm")
	f.wantSuccess(f.await(f.wantConfirm(f.user, handle, http.StatusOK)), 2, 2)
	f.services(t)
	// The access token is worn out when the Vault is away, and when Google takes
	// the refresh token no more.
	f.wearOut()
	if f.real {
		f.tap.seal(true)
		f.projects(http.StatusServiceUnavailable)
		f.tap.seal(false)
	}
	f.tap.refusing("/token", "refresh_token", "invalid_grant")
	f.projects(http.StatusForbidden)
	f.keep("when the user must consent again")
	// A disconnect while Google refuses to revoke.
	f.tap.refusing("/revoke", "", "invalid_request")
	f.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
	f.keep("after the disconnect")
	f.judge(t)
}

// login logs in, consents and comes back, to be told that.
func (f *failures) login(want string) (handle string) {
	f.t.Helper()
	told, handle, err := f.user.Connect(f.t.Context(), demo.Choice{})
	if err != nil || told != want {
		f.t.Fatalf("the login ended with %q, want %q, %v", told, want, err)
	}
	return handle
}

// giveUp has the login that waits given up: by the sweep, ten minutes later, or
// on the clock on the wall by a disconnect.
func (f *failures) giveUp() {
	f.t.Helper()
	if f.real {
		f.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		return
	}
	time.Sleep(11 * time.Minute)
	if err := f.Sweep(f.t.Context()); err == nil {
		f.t.Error("the sweep claims that it gave the login up")
	}
	f.tap.allow()
	if err := f.Sweep(f.t.Context()); err != nil {
		f.t.Error(err)
	}
}

// services ask for tokens: one that it may have, and many that it may not.
func (f *failures) services(t *testing.T) {
	t.Helper()
	as := func(account string) []string {
		if !f.real {
			return append(asJSON, "X-Internal-Service", account)
		}
		return append(f.bearer(account, f.URL), asJSON...)
	}
	ask := func(want int, request string, header []string) {
		t.Helper()
		if answer := f.send(http.MethodPost, "/internal/token", request, header...); answer.Status != want {
			t.Errorf("%s was answered %d %s, want %d", request, answer.Status, answer.Body, want)
		}
	}
	const good = `{"userId":"user-1","mode":"ask"}`
	for code, want := range map[int]int{403: http.StatusConflict, 503: http.StatusServiceUnavailable} {
		if err := f.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: code, Message: "not you"}); err != nil {
			t.Fatal(err)
		}
		ask(want, good, as(toolsAccount))
		f.Google.ClearFaults()
	}
	ask(http.StatusOK, good, as(toolsAccount))
	ask(http.StatusNotFound, `{"userId":"user-2","mode":"ask"}`, as(toolsAccount))
	ask(http.StatusForbidden, `{"userId":"user-1","mode":"ask","projectId":"another"}`, as(toolsAccount))
	ask(http.StatusBadRequest, `{"userId":"user-1","mode":"owner"}`, as(toolsAccount))
	ask(http.StatusUnauthorized, good, asJSON)
	if f.real {
		ask(http.StatusForbidden, good, as("evil@evil.iam.gserviceaccount.com"))
		ask(http.StatusUnauthorized, good, append(f.bearer(toolsAccount, "https://elsewhere.example"), asJSON...))
	}
}

// wearOut has Google take the user's access token no more.
func (f *failures) wearOut() {
	f.t.Helper()
	if err := f.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: 401}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *failures) projects(want int) {
	f.t.Helper()
	f.call(want, http.MethodGet, "/api/gcp/projects", nil, nil)
}

// keep keeps what the documents hold now.
func (f *failures) keep(when string) {
	f.t.Helper()
	if err := f.Idle(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	if f.documents == nil {
		return
	}
	all := f.documents()
	f.tap.mu.Lock()
	defer f.tap.mu.Unlock()
	for path, text := range all {
		f.tap.heard["document "+path+" "+when] = text
	}
}

// judge searches all of it.
func (f *failures) judge(t *testing.T) {
	t.Helper()
	f.tap.mu.Lock()
	defer f.tap.mu.Unlock()
	logs := f.logs.String()
	f.tap.heard["the log"] = logs
	f.tap.heard["the spans"], f.tap.heard["the metrics"] = fmt.Sprintf("%+v", f.told.spans()), fmt.Sprintf("%+v", f.told.points(t))
	kinds := f.tap.search(t)
	wanted := []string{"code", "state", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token", "access token of a service account", "assertion"}
	if f.real {
		wanted = append(wanted, "AppRole secret ID", "token of Vault", "ID token of a caller")
	}
	for _, what := range wanted {
		if !kinds[what] {
			t.Errorf("no %s was seen, so it was not looked for", what)
		}
	}
	// What failed was said: the search was for something.
	said := []string{"code was not exchanged", "grant could not be revoked", "login was not confirmed", "token refused", "token given", "request failed"}
	if f.real {
		said = append(said, "login was not parked")
	}
	for _, words := range said {
		if !strings.Contains(logs, words) {
			t.Errorf("the log does not say %q", words)
		}
	}
}
