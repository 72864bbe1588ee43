package stacktest

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"gcpconnect/emulators/demo"
)

// NewUser makes a user of the system.
func (y *System) NewUser(id string) *demo.User {
	y.T.Helper()
	u, err := demo.NewUser(id, y.URL, y.Client())
	if err != nil {
		y.T.Fatal(err)
	}
	return u
}

// Connect logs the user in, confirms the login if that is due, and returns the
// setup that the login started.
func (y *System) Connect() string {
	y.T.Helper()
	return y.connectAs("")
}

// connectAs is Connect with a Google account; "" is the only one.
func (y *System) connectAs(account string) string {
	y.T.Helper()
	login, task, err := y.User.Connect(y.T.Context(), demo.Choice{Account: account})
	if err != nil {
		y.T.Fatal(err)
	}
	if login == "gcp_confirm" {
		return y.WantConfirm(y.User, task, http.StatusOK)
	}
	if login != "gcp_setup_pending" || task == "" {
		y.T.Fatalf("login ended with %q and task %q", login, task)
	}
	return task
}

// Await polls a setup as the frontend does until it ends. The progress must
// never decrease.
func (y *System) Await(task string) *demo.Status {
	y.T.Helper()
	before := 0
	final, err := y.User.Await(y.T.Context(), task, y.Poll, func(s *demo.Status) {
		if s.State == "PROGRESS" && (s.Progress < before || s.Progress < 5 || s.Progress > 90) {
			y.T.Errorf("progress went from %d to %d", before, s.Progress)
		}
		before = s.Progress
	})
	if err != nil {
		y.T.Fatal(err)
	}
	return final
}

// Complete connects the user and awaits the end of the setup.
func (y *System) Complete() *demo.Status {
	y.T.Helper()
	return y.Await(y.Connect())
}

// Call calls a function as the user and checks the status of the answer. It
// decodes the body into into unless that is nil, and returns the body.
func (y *System) Call(want int, method, path string, body any, into any) string {
	y.T.Helper()
	answer, err := y.User.Call(y.T.Context(), method, path, body)
	if err != nil {
		y.T.Fatal(err)
	}
	if answer.Status != want {
		y.T.Errorf("%s %s answered %d %s, want %d", method, path, answer.Status, answer.Body, want)
	}
	if into != nil {
		if err := answer.Decode(into); err != nil {
			y.T.Error(err)
		}
	}
	return string(answer.Body)
}

// Restart starts a setup of the selected projects, or without any of those that
// failed.
func (y *System) Restart(selected ...string) string {
	y.T.Helper()
	var body any
	if len(selected) > 0 {
		body = map[string]any{"selected_project_ids": selected}
	}
	var started struct {
		Status string `json:"status"`
		TaskID string `json:"task_id"`
	}
	y.Call(http.StatusOK, http.MethodPost, "/gcp/post-auth-retry", body, &started)
	if started.Status != "started" {
		y.T.Fatalf("retry answered %+v", started)
	}
	return started.TaskID
}

// WantSuccess fails unless the setup succeeded with verified of total projects.
func (y *System) WantSuccess(s *demo.Status, verified, total int) {
	y.T.Helper()
	propagation := "FULL"
	if verified < total {
		propagation = "PARTIAL"
	}
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Status != "SUCCESS" || s.Result.Propagation != propagation || s.Result.Verified != verified || s.Result.Total != total {
		y.T.Fatalf("setup ended with %s, want SUCCESS %s %d/%d", Show(s), propagation, verified, total)
	}
}

// WantFailed fails unless the setup failed with these redirect parameters and a
// message that contains words.
func (y *System) WantFailed(s *demo.Status, redirect, words string) {
	y.T.Helper()
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Status != "FAILED" || s.Result.Redirect != redirect || !strings.Contains(s.Result.Message, words) {
		y.T.Fatalf("setup ended with %s, want FAILED with %s and %q", Show(s), redirect, words)
	}
}

// WantDiscovered waits until no task is left and fails unless the discovery of
// exactly these projects is done.
func (y *System) WantDiscovered(projects ...string) {
	y.T.Helper()
	if err := y.Idle(y.T.Context()); err != nil {
		y.T.Fatal(err)
	}
	var summary struct {
		Projects []struct {
			ID    string `json:"projectId"`
			State string `json:"state"`
			Error string `json:"error"`
		} `json:"projects"`
	}
	y.Call(http.StatusOK, http.MethodGet, "/api/gcp/resources/summary", nil, &summary)
	var done []string
	for _, p := range summary.Projects {
		if p.State == "done" {
			done = append(done, p.ID)
		}
	}
	if !slices.Equal(done, projects) {
		y.T.Errorf("discovery is done in %v, want %v: %s", done, projects, Show(summary))
	}
}

// AwaitProgress waits until a setup has made so much progress.
func (y *System) AwaitProgress(task string, progress int) {
	y.T.Helper()
	for range 600 {
		status, err := y.User.Status(y.T.Context(), task)
		if err != nil {
			y.T.Fatal(err)
		}
		if status.Progress >= progress {
			return
		}
		if status.Complete {
			y.T.Fatalf("the setup ended with %s", Show(status))
		}
		time.Sleep(y.Poll)
	}
	y.T.Fatalf("the setup does not come to %d%%", progress)
}

// AwaitSlowly awaits a setup that lasts longer than the frontend polls.
func (y *System) AwaitSlowly(task string) *demo.Status {
	y.T.Helper()
	final, err := y.User.Await(y.T.Context(), task, time.Minute, nil)
	if err != nil {
		y.T.Fatal(err)
	}
	return final
}
