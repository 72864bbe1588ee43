package functions_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"gcpconnect/functions"
	"gcpconnect/shared/setup"
)

func TestTableListsTheStepsUnderTheirNames(t *testing.T) {
	t.Parallel()
	names := map[string]functions.Function{}
	paths := map[string]string{}
	for _, f := range functions.Table() {
		if _, twice := names[f.Name]; twice {
			t.Errorf("%s is listed twice", f.Name)
		}
		names[f.Name] = f
		for _, r := range f.Routes {
			key := r.Method + " " + r.Path
			if other := paths[key]; other != "" {
				t.Errorf("%s leads to %s and to %s", key, other, f.Name)
			}
			paths[key] = f.Name
		}
	}
	for _, step := range setup.Steps {
		if names[step.Name].Caller != functions.CallerQueue {
			t.Errorf("step %s is no function for the queue", step.Name)
		}
	}
	for path, name := range map[string]string{
		"POST /login": "login", "GET /callback": "callback", "GET /gcp/setup/status/{task_id}": "status",
		"POST /gcp/post-auth-retry": "select-projects", "POST /api/gcp/root-project": "root-project",
		"POST /api/gcp/force-disconnect": "disconnect", "GET /api/gcp/projects": "projects", "POST /api/gcp/projects": "projects",
		"POST /api/gcp/sa-project-access": "project-access", "GET /api/gcp/connection": "connection", "GET /api/gcp/changes": "changes",
		"GET /api/gcp/resources": "resources", "GET /api/gcp/resources/summary": "resources", "POST /api/gcp/discover": "resources",
		"POST /tasks/discover-project": "discover-project",
	} {
		if paths[path] != name {
			t.Errorf("%s leads to %q, want %s", path, paths[path], name)
		}
	}
}

// The framework's own server serves what Register registers: a build that
// brings the framework's main, as Google's buildpacks do, works as well.
func TestFrameworkServesTheTargetFunction(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close() // the framework listens itself
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FUNCTION_TARGET", "connection")
	functions.Register(functions.Handlers(functions.Deps{Users: functions.Local{}, Queue: functions.QueueMark.Of, Log: slog.New(slog.DiscardHandler)}))
	served := make(chan error, 1)
	go func() { served <- funcframework.StartHostPort(host, port) }() // it cannot be stopped
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/gcp/connection", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			select {
			case err := <-served:
				t.Fatal(err)
			default:
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			continue // not yet listening
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "unauthenticated") {
			t.Errorf("the function answered %d %s, %v, want that it asks who calls", response.StatusCode, body, err)
		}
		return
	}
}
