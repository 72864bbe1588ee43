package functions_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/functions"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/setup"
)

// open is every function with headers believed: what a request meets before
// anything is asked about it.
func open(t *testing.T, origins ...string) http.Handler {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	parts := setup.Parts{Store: memory.NewStore(), Log: log}
	return watched(t, functions.Deps{
		Service: &setup.Service{Parts: parts}, Runner: &setup.Runner{Parts: parts}, Store: parts.Store,
		Users: functions.Local{}, Queue: functions.QueueMark.Of, Scheduler: functions.SchedulerMark.Of, Internal: functions.InternalMark, Front: &url.URL{Scheme: "https", Host: "front.example.com"}, Origins: origins, SecureCookies: true, Log: log,
	})
}

// watched is every function, held to their description.
func watched(t *testing.T, d functions.Deps) http.Handler {
	t.Helper()
	contract, err := functionstest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return contract.Watch(t.Errorf).Handler(functions.Gateway(d))
}

// ask makes a request of a user and of the queue at once. Headers are pairs,
// added to those.
func ask(t *testing.T, h http.Handler, method, target string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, body)
	r.Header.Set("X-User-ID", "user")
	r.Header.Set("X-CloudTasks-TaskName", "task")
	r.Header.Set("X-CloudScheduler", "true")
	r.Header.Set("X-Internal-Service", "test")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// unannounced hides how long a body is.
type unannounced struct{ io.Reader }

func TestEveryFunctionRefusesWhatIsBeyondItsLimits(t *testing.T) {
	t.Parallel()
	h := open(t)
	for _, f := range functions.Table() {
		limits := f.Limits()
		if limits.Body == 0 || limits.URL == 0 || limits.Timeout == 0 || limits.Timeout > functions.MaxTimeout {
			t.Errorf("%s has the limits %+v", f.Name, limits)
		}
		for _, r := range f.Routes {
			path := strings.ReplaceAll(r.Path, "{task_id}", "SETUP")
			over := strings.Repeat(" ", int(limits.Body)+1)
			for name, c := range map[string]struct {
				target string
				body   io.Reader
				header []string
				want   int
			}{
				"a body too large":           {path, strings.NewReader(over), []string{"Content-Type", limits.Media}, 413},
				"a body of another type":     {path, strings.NewReader("{}"), []string{"Content-Type", "text/plain"}, 415},
				"a body of no type":          {path, strings.NewReader("{}"), nil, 415},
				"a body of no known length":  {path, unannounced{strings.NewReader("{}")}, nil, 415},
				"a body of two types":        {path, strings.NewReader("{}"), []string{"Content-Type", limits.Media, "Content-Type", "text/plain"}, 400},
				"an address too long":        {path + "?x=" + strings.Repeat("x", limits.URL), http.NoBody, nil, 414},
				"a query that is none":       {path + "?x=%zz", http.NoBody, nil, 400},
				"a parameter twice":          {path + "?state=a&state=b", http.NoBody, nil, 400},
				"two users":                  {path, http.NoBody, []string{"X-User-ID", "other"}, 400},
				"the same user twice":        {path, http.NoBody, []string{"X-User-ID", "user"}, 400},
				"two organizations":          {path, http.NoBody, []string{"X-Org-ID", "a", "X-Org-ID", "b"}, 400},
				"two tokens":                 {path, http.NoBody, []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 400},
				"an organization too long":   {path, http.NoBody, []string{"X-Org-ID", strings.Repeat("x", 257)}, 400},
				"a token too long":           {path, http.NoBody, []string{"Authorization", strings.Repeat("x", 20<<10)}, 400},
				"a body too large by chunks": {path, unannounced{strings.NewReader(over)}, []string{"Content-Type", limits.Media}, 413},
			} {
				w := ask(t, h, r.Method, c.target, c.body, c.header...)
				if name == "a body too large by chunks" && !reads(f.Name, r.Method) {
					continue // nothing reads it
				}
				if w.Code != c.want || !strings.Contains(w.Body.String(), `"code":"invalid_argument"`) {
					t.Errorf("%s %s with %s answered %d %s, want %d", r.Method, r.Path, name, w.Code, w.Body, c.want)
				}
			}
		}
	}
}

// reads reports whether a function makes something of a body.
func reads(function, method string) bool {
	return method == http.MethodPost && function != "projects" && function != "sweep"
}

func TestBodiesAreTakenAsFrontendsSendThem(t *testing.T) {
	t.Parallel()
	h := open(t)
	for name, header := range map[string][]string{
		"JSON":                {"Content-Type", "application/json"},
		"JSON with a charset": {"Content-Type", "application/json; charset=utf-8"},
		"JSON in capitals":    {"Content-Type", "Application/JSON"},
	} {
		if w := ask(t, h, http.MethodPost, "/api/gcp/root-project", strings.NewReader("{}"), header...); !strings.Contains(w.Body.String(), "project_id is missing") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for name, body := range map[string]io.Reader{"no body": http.NoBody, "an empty body of no known length": unannounced{strings.NewReader("")}} {
		if w := ask(t, h, http.MethodPost, "/api/gcp/root-project", body); !strings.Contains(w.Body.String(), "project_id is missing") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	w := ask(t, h, http.MethodPost, "/callback", strings.NewReader("state=x"), "Content-Type", "application/x-www-form-urlencoded")
	if !strings.Contains(w.Body.String(), "code is missing") {
		t.Errorf("a form: %d %s", w.Code, w.Body)
	}
	if w := ask(t, h, http.MethodPost, "/api/gcp/discover", strings.NewReader(`{"projects":[]}`), "Content-Type", "application/json"); w.Code != 400 || !strings.Contains(w.Body.String(), `\"projects\"`) {
		t.Errorf("a field that a new function does not know: %d %s", w.Code, w.Body)
	}
}

func TestUsersAreNamedInOneWay(t *testing.T) {
	t.Parallel()
	h := open(t)
	for name, id := range map[string]string{
		"a space before": " user", "a space behind": "user ", "a space of another script": "\u00a0user", "a line": "user\u0085", "a control character": "us\x01er",
		"no UTF-8": "us\xffer", "too long": strings.Repeat("x", 257),
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/gcp/connection", http.NoBody)
		r.Header["X-User-Id"] = []string{id}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", name, w.Code, w.Body)
		}
	}
}

// What every answer tells browsers, from whichever handler.
func TestEveryAnswerIsSecured(t *testing.T) {
	t.Parallel()
	const front = "https://front.example.com"
	h := open(t, front)
	want := http.Header{
		"Cache-Control":             {"no-store"},
		"Content-Security-Policy":   {"default-src 'none'; frame-ancestors 'none'"},
		"Referrer-Policy":           {"no-referrer"},
		"Strict-Transport-Security": {"max-age=31536000"},
		"X-Content-Type-Options":    {"nosniff"},
	}
	for name, c := range map[string]struct {
		method, path string
		header       []string
		status       int
	}{
		"success":        {"GET", "/api/gcp/connection", nil, 200},
		"error":          {"GET", "/api/gcp/projects", nil, 404},
		"wrong method":   {"DELETE", "/login", nil, 405},
		"nothing there":  {"GET", "/nowhere", nil, 404},
		"unclean path":   {"GET", "//login/..//callback", nil, 307},
		"redirect":       {"GET", "/callback?state=x&code=y", nil, 302},
		"preflight":      {"OPTIONS", "/login", []string{"Origin", front, "Access-Control-Request-Method", "POST"}, 204},
		"foreign page":   {"OPTIONS", "/login", []string{"Origin", "https://evil.example.com", "Access-Control-Request-Method", "POST"}, 204},
		"task":           {"POST", "/tasks/enable-apis", nil, 400},
		"refused":        {"POST", "/login?x=%zz", nil, 400},
		"function broke": {"POST", "/login", nil, 500}, // without an OAuth client it panics
	} {
		w := ask(t, h, c.method, c.path, http.NoBody, c.header...)
		got := http.Header{}
		for header := range want {
			got[header] = w.Header().Values(header)
		}
		if diff := cmp.Diff(want, got); w.Code != c.status || diff != "" {
			t.Errorf("%s answered %d, want %d (-want +got):\n%s", name, w.Code, c.status, diff)
		}
		if cookie := w.Header().Get("Set-Cookie"); w.Code >= 400 && cookie != "" {
			t.Errorf("%s sets the cookie %s", name, cookie)
		}
	}
	if w := ask(t, watched(t, functions.Deps{Users: functions.Local{}, Store: memory.NewStore(), Log: slog.New(slog.DiscardHandler)}), http.MethodGet, "/nowhere", http.NoBody); w.Header().Get("Strict-Transport-Security") != "" {
		t.Error("plain HTTP asks for HTTPS")
	}
}
