// Package stack_test tests the whole system from the outside: users, the
// functions, Google's own Go clients and the emulated Google, over HTTP, on a
// clock of their own.
package stack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/telemetry"
)

const owner = googletest.Owner

// scenario makes a Google with n projects of one owner, with change applied.
func scenario(n int, change func(*google.Scenario)) *google.Scenario {
	return googletest.Scenario(n, change)
}

func seconds(n int) google.Duration { return googletest.Seconds(n) }

// project returns the scenario's project of that ID.
func project(s *google.Scenario, id string) *google.Project { return googletest.Project(s, id) }

// system is a running stack with one user, inside a bubble.
type system struct {
	*stack.Stack
	t    testing.TB
	user *demo.User
	poll time.Duration // between two looks at a status
	logs fmt.Stringer
	// watch sees what the functions are asked and answer.
	watch *functionstest.Watch
	// middle is between the functions and Google, where a test has put it.
	middle *middle
}

// run starts a system in a bubble, runs body and stops it. The bubble's clock
// moves only when everything waits: minutes pass in no time, and exactly.
func run(t *testing.T, s *google.Scenario, environment map[string]string, body func(*system)) {
	t.Helper()
	runOver(t, nil, s, environment, body)
}

// runOver is run with what stands between the functions and the network; nil
// is nothing.
func runOver(t *testing.T, between func(http.RoundTripper) http.RoundTripper, s *google.Scenario, environment map[string]string, body func(*system)) {
	t.Helper()
	runTold(t, nil, between, s, environment, body)
}

// runTold is runOver with what the functions tell of their work; nil is
// nothing.
func runTold(t *testing.T, told *telemetry.Telemetry, between func(http.RoundTripper) http.RoundTripper, s *google.Scenario, environment map[string]string, body func(*system)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		logs, watch := new(strings.Builder), contract.Watch(t.Errorf)
		wire := newNetwork()
		if between != nil {
			wire.outward = between(wire.transport)
		}
		started, err := stack.Start(t.Context(), stack.Options{
			Scenario: s, Environment: environment, Network: wire, Telemetry: told, Log: logger(logs), Around: watch.Handler,
		})
		if err != nil {
			t.Fatal(err)
		}
		y := &system{Stack: started, t: t, poll: 5 * time.Second, logs: logs, watch: watch}
		defer func() { // a bubble must not be left with goroutines in it
			if err := started.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Log(logs)
			}
		}()
		y.user = y.newUser("user-1")
		body(y)
		if err := started.Idle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// logger writes lines as the program does, for people.
func logger(w io.Writer) *slog.Logger {
	return slog.New(telemetry.InContext(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}), ""))
}

func (y *system) newUser(id string) *demo.User {
	y.t.Helper()
	u, err := demo.NewUser(id, y.URL, y.Client())
	if err != nil {
		y.t.Fatal(err)
	}
	return u
}

// connect logs in and returns the setup.
func (y *system) connect() string {
	y.t.Helper()
	login, task, err := y.user.Connect(y.t.Context(), demo.Choice{})
	if err != nil {
		y.t.Fatal(err)
	}
	if login != "gcp_setup_pending" || task == "" {
		y.t.Fatalf("login ended with %q and task %q", login, task)
	}
	return task
}

// await polls a setup as the frontend does until it ends, and checks on the
// way that what it is told makes sense.
func (y *system) await(task string) *demo.Status {
	y.t.Helper()
	before := 0
	final, err := y.user.Await(y.t.Context(), task, y.poll, func(s *demo.Status) {
		if s.State == "PROGRESS" && (s.Progress < before || s.Progress < 5 || s.Progress > 90) {
			y.t.Errorf("progress went from %d to %d", before, s.Progress)
		}
		before = s.Progress
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return final
}

// complete connects and awaits the end.
func (y *system) complete() *demo.Status {
	y.t.Helper()
	return y.await(y.connect())
}

// call calls a function and expects the status.
func (y *system) call(want int, method, path string, body any, into any) string {
	y.t.Helper()
	answer, err := y.user.Call(y.t.Context(), method, path, body)
	if err != nil {
		y.t.Fatal(err)
	}
	if answer.Status != want {
		y.t.Errorf("%s %s answered %d %s, want %d", method, path, answer.Status, answer.Body, want)
	}
	if into != nil {
		if err := answer.Decode(into); err != nil {
			y.t.Error(err)
		}
	}
	return string(answer.Body)
}

// restart starts a setup of the selected projects, or of those that failed.
func (y *system) restart(selected ...string) string {
	y.t.Helper()
	var body any
	if len(selected) > 0 {
		body = map[string]any{"selected_project_ids": selected}
	}
	var started struct {
		Status string `json:"status"`
		TaskID string `json:"task_id"`
	}
	y.call(http.StatusOK, http.MethodPost, "/gcp/post-auth-retry", body, &started)
	if started.Status != "started" {
		y.t.Fatalf("retry answered %+v", started)
	}
	return started.TaskID
}

// wantSuccess fails unless the setup succeeded with so many projects verified
// of so many.
func (y *system) wantSuccess(s *demo.Status, verified, total int) {
	y.t.Helper()
	propagation := "FULL"
	if verified < total {
		propagation = "PARTIAL"
	}
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Status != "SUCCESS" || s.Result.Propagation != propagation || s.Result.Verified != verified || s.Result.Total != total {
		y.t.Fatalf("setup ended with %s, want SUCCESS %s %d/%d", show(s), propagation, verified, total)
	}
}

// wantFailed fails unless the setup ended in an orderly failure with these
// redirect parameters and words.
func (y *system) wantFailed(s *demo.Status, redirect, words string) {
	y.t.Helper()
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Status != "FAILED" || s.Result.Redirect != redirect || !strings.Contains(s.Result.Message, words) {
		y.t.Fatalf("setup ended with %s, want FAILED with %s and %q", show(s), redirect, words)
	}
}

func show(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// projectError is the error that a status shows for a project, or "".
func projectError(s *demo.Status, id string) string {
	for _, p := range s.Projects {
		if p.ID == id && p.Error != nil {
			return p.Error.Step + ": " + p.Error.Message
		}
	}
	return ""
}

// discovered fails unless the discovery of the projects is done.
func (y *system) discovered(projects ...string) {
	y.t.Helper()
	if err := y.Idle(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
	var summary struct {
		Projects []struct {
			ID    string `json:"projectId"`
			State string `json:"state"`
			Error string `json:"error"`
		} `json:"projects"`
	}
	y.call(http.StatusOK, http.MethodGet, "/api/gcp/resources/summary", nil, &summary)
	var done []string
	for _, p := range summary.Projects {
		if p.State == "done" {
			done = append(done, p.ID)
		}
	}
	if !slices.Equal(done, projects) {
		y.t.Errorf("discovery is done in %v, want %v: %s", done, projects, show(summary))
	}
}
