package memory_test

import (
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/connect"
)

// All tests of this package hold every exchange to the description. This one
// has every answer that is described be given.
func TestContract_EveryDescribedAnswerIsGiven(t *testing.T) {
	t.Parallel()
	edge := stacktest.Contract(t).Watch(t.Errorf)
	knock(t, edge)
	seen := edge.Seen()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		usersWay(y)
		maps.Copy(seen, y.Exchanges.Seen())
	})
	unbilled := googletest.Scenario(1, func(s *google.Scenario) { googletest.Project(s, "project-001").BillingAccount = "" })
	stacktest.Run(t, unbilled, stacktest.Confirming, func(y *stacktest.System) {
		confirmedWay(y)
		maps.Copy(seen, y.Exchanges.Seen())
	})
	var missing []functionstest.Answer
	for answer := range stacktest.Contract(t).Answers() {
		if !seen[answer] {
			missing = append(missing, answer)
		}
	}
	slices.SortFunc(missing, func(a, b functionstest.Answer) int {
		return cmp.Or(strings.Compare(a.Operation, b.Operation), cmp.Compare(a.Status, b.Status))
	})
	for _, answer := range missing {
		t.Errorf("%s is never answered %d", answer.Operation, answer.Status)
	}
}

func TestContract_IsServed(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		answer := y.Send(http.MethodGet, "/openapi.yaml", "")
		if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/yaml" || string(answer.Body) != functions.OpenAPI {
			t.Errorf("it is answered %d, %s, %d bytes", answer.Status, answer.Header.Get("Content-Type"), len(answer.Body))
		}
	})
}

// fixedAuth gives every caller the same answer.
type fixedAuth struct{ err error }

func (d fixedAuth) User(*http.Request) (string, error)    { return "user-1", d.err }
func (d fixedAuth) Service(*http.Request) (string, error) { return "service", d.err }
func (d fixedAuth) of(string) functions.Services          { return d }

// knock has each function give the answers of the edge.
func knock(t *testing.T, w *functionstest.Watch) {
	t.Helper()
	for status, err := range map[int]error{
		http.StatusUnauthorized: connect.Errorf(connect.Unauthenticated, "Who asks?"), http.StatusForbidden: connect.Errorf(connect.Forbidden, "You may not."),
		http.StatusServiceUnavailable: connect.Errorf(connect.Unavailable, "Not now."), http.StatusInternalServerError: connect.Errorf(connect.Internal, ""),
		http.StatusBadRequest: nil, http.StatusRequestEntityTooLarge: nil, http.StatusRequestURITooLong: nil, http.StatusUnsupportedMediaType: nil,
	} {
		d := fixedAuth{err}
		// Without a store the callback breaks.
		gateway := w.Handler(functions.Gateway(functions.Deps{
			Users: d, Queue: d.of, Scheduler: d.of, Internal: d, Front: &url.URL{Scheme: "https", Host: "front.example.com"}, SecureCookies: true, Log: slog.New(slog.DiscardHandler),
		}))
		for _, f := range functions.Table() {
			for _, route := range f.Routes {
				if f.Caller == functions.CallerBrowser && err != nil && status != http.StatusInternalServerError {
					continue // it asks nobody who it is
				}
				target, body, media := strings.ReplaceAll(route.Path, "{task_id}", "SETUP"), "", f.Limits().Media
				switch status {
				case http.StatusBadRequest:
					target += "?x=%zz"
				case http.StatusRequestURITooLong:
					target += "?x=" + strings.Repeat("x", f.Limits().URL)
				case http.StatusRequestEntityTooLarge:
					body = strings.Repeat(" ", int(f.Limits().Body)+1)
				case http.StatusUnsupportedMediaType:
					body, media = "{}", "text/plain"
				}
				if f.Caller == functions.CallerBrowser && status == http.StatusInternalServerError {
					target += "?state=x&code=y"
				}
				r := httptest.NewRequestWithContext(t.Context(), route.Method, target, strings.NewReader(body))
				r.Header.Set("Content-Type", media)
				answer := httptest.NewRecorder()
				if gateway.ServeHTTP(answer, r); answer.Code != status {
					t.Errorf("%s %s was answered %d %s, want %d", route.Method, target, answer.Code, answer.Body, status)
				}
			}
		}
	}
}

// usersWay connects, changes its mind and leaves.
func usersWay(y *stacktest.System) {
	const (
		projects, access, root = "/api/gcp/projects", "/api/gcp/sa-project-access", "/api/gcp/root-project"
		plan, retry, discover  = "/gcp/setup/plan", "/gcp/post-auth-retry", "/api/gcp/discover"
		disconnect             = "/api/gcp/force-disconnect"
	)
	bodies := map[string]any{
		retry: map[string]any{"selected_project_ids": []string{"project-001", "project-002"}}, root: map[string]any{"project_id": "project-002"},
		access: map[string]any{"projects": []any{map[string]any{"projectId": "project-002", "enabled": true}}}, disconnect: map[string]any{"cleanup": true},
	}
	get := func(want int, paths ...string) {
		y.T.Helper()
		for _, path := range paths {
			y.Call(want, http.MethodGet, path, nil, nil)
		}
	}
	post := func(want int, paths ...string) (task string) {
		y.T.Helper()
		for _, path := range paths {
			var answer struct {
				TaskID string `json:"task_id"`
			}
			y.Call(want, http.MethodPost, path, bodies[path], &answer)
			task = answer.TaskID
		}
		return task
	}
	token := map[string]any{"userId": "user-1", "mode": "ask"}

	kept := []string{"/api/gcp/connection", "/api/gcp/changes", "/api/gcp/resources", "/api/gcp/resources/summary", root}
	get(http.StatusOK, kept...)
	get(http.StatusNotFound, projects, access, "/gcp/setup/status/NONE")
	post(http.StatusNotFound, projects, access, root, plan, retry, discover)
	post(http.StatusConflict, disconnect)
	y.RequestToken(http.StatusNotFound, token)

	address, cookie := y.BeginLogin("user-1")
	form := y.Consent(address, owner).Encode()
	answer := y.Send(http.MethodPost, "/callback", form, "Content-Type", "application/x-www-form-urlencoded", "Cookie", cookie.Name+"="+cookie.Value)
	front, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || front.Query().Get("login") != "gcp_setup_pending" {
		y.T.Fatalf("the callback answered %d to %q", answer.Status, answer.Header.Get("Location"))
	}
	post(http.StatusConflict, access, root, retry, discover)
	y.RequestToken(http.StatusConflict, token)
	y.WantSuccess(y.Await(front.Query().Get("task_id")), 2, 2)

	get(http.StatusOK, append(kept, projects, access)...)
	post(http.StatusOK, projects, plan, access)
	y.RequestToken(http.StatusOK, token)
	post(http.StatusAccepted, discover)
	y.Await(post(http.StatusAccepted, root))
	if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: http.StatusPreconditionFailed}); err != nil {
		y.T.Fatal(err)
	}
	get(http.StatusConflict, projects, access)
	post(http.StatusConflict, projects)
	y.Google.ClearFaults()
	if err := y.Google.SetPolicy("project-002", []google.Binding{{Role: "roles/viewer", Members: []string{"user:" + owner}}}); err != nil {
		y.T.Fatal(err)
	}
	post(http.StatusMultiStatus, access)
	y.Await(post(http.StatusOK, retry))
	if err := y.Sweep(y.T.Context()); err != nil {
		y.T.Error(err)
	}
	y.Await(post(http.StatusAccepted, disconnect))
	y.Call(http.StatusOK, http.MethodPost, disconnect, nil, nil)
}

// confirmedWay connects by a confirmation to a Google where nothing is billed.
func confirmedWay(y *stacktest.System) {
	login, handle, err := y.User.Connect(y.T.Context(), demo.Choice{})
	if err != nil || login != "gcp_confirm" {
		y.T.Fatal(login, err)
	}
	y.Call(http.StatusNotFound, "POST", "/gcp/setup/confirm", map[string]string{"task_id": "another"}, nil)
	y.Call(http.StatusOK, "POST", "/gcp/setup/confirm", map[string]string{"task_id": handle}, nil)
	y.WantFailed(y.Await(handle), "login=gcp_failed_billing", "No GCP project with active billing found")
	y.Call(http.StatusConflict, "POST", "/gcp/setup/plan", nil, nil)
}
