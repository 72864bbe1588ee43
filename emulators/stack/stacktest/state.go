package stacktest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/shared/setup"
)

// State is what an attack must not change.
type State struct {
	Writes, Deletes           int64 // of documents
	Tasks                     int64
	TokenWrites, TokenDeletes int64 // in the Vault
	Exchanges                 int   // of codes and refresh tokens at Google
	Projects                  []google.ProjectSnapshot
	Consents                  []google.ConsentSnapshot
}

// State waits until no task is left and returns the state.
func (y *System) State() State {
	y.T.Helper()
	if err := y.Idle(y.T.Context()); err != nil {
		y.T.Fatal(err)
	}
	c, at := y.Counts(), y.Google.Snapshot()
	return State{c.Writes, c.Deletes, c.Tasks, c.TokenWrites, c.TokenDeletes, y.Google.CallCounts().ByMethod["oauth.token"], at.Projects, at.Consents}
}

// Spent is what an attack may consume without success.
type Spent struct {
	Logins int64 // logins that were begun
	Used   int64 // logins that were consumed and deleted
	Codes  int   // codes that were sent to Google
	Tokens bool  // tokens that Google returned and the functions dropped
}

// WantUnchanged fails unless the state is as before, except for what was spent.
func (y *System) WantUnchanged(before State, but Spent) {
	y.T.Helper()
	after := y.State()
	before.Writes += but.Logins + but.Used
	before.Deletes += but.Used
	before.Exchanges += but.Codes
	if but.Tokens {
		before.Consents = after.Consents
	}
	if diff := cmp.Diff(before, after); diff != "" {
		y.T.Errorf("the state changed (-before +after):\n%s", diff)
	}
}

// WantNotConnected fails if one of the users is connected.
func (y *System) WantNotConnected(users ...string) {
	y.T.Helper()
	for _, user := range users {
		if answer := y.Send(http.MethodGet, "/api/gcp/connection", "", "X-User-ID", user); answer.Status != 200 || !strings.Contains(string(answer.Body), `"isConnected":false`) {
			y.T.Errorf("the connection of %s is %d %s", user, answer.Status, answer.Body)
		}
	}
}

// Consents returns the grants that Google has.
func (y *System) Consents() []string {
	return slices.DeleteFunc(google.Diff(google.Snapshot{}, y.Google.Snapshot()), func(line string) bool { return !strings.Contains(line, "consent ") })
}

// WantConnected checks whether a user is connected.
func (y *System) WantConnected(u *demo.User, want bool) {
	y.T.Helper()
	answer, err := u.Call(y.T.Context(), http.MethodGet, "/api/gcp/connection", nil)
	if err != nil {
		y.T.Fatal(err)
	}
	var c struct {
		Connected bool `json:"isConnected"`
	}
	if err := answer.Decode(&c); err != nil || c.Connected != want {
		y.T.Errorf("%s is connected: %t, want %t, %v", u.ID, c.Connected, want, err)
	}
}

// WantGone fails unless the user is disconnected, no tokens are stored and
// Google has no grant.
func (y *System) WantGone() {
	y.T.Helper()
	y.WantConnected(y.User, false)
	if left := y.Consents(); len(left) > 0 {
		y.T.Errorf("Google knows of %v", left)
	}
	if c := y.Counts(); c.TokenDeletes < c.TokenWrites {
		y.T.Errorf("%d tokens were stored and %d deleted", c.TokenWrites, c.TokenDeletes)
	}
}

// ConnectVictim connects the system's user to the two projects of
// AttackedScenario and returns the setup when it has succeeded.
func (y *System) ConnectVictim() (task string) {
	y.T.Helper()
	task = y.connectAs(googletest.Owner)
	y.WantSuccess(y.Await(task), 2, 2)
	return task
}

// ForgedTasks returns a task body for each function, valid for a setup of that
// generation.
func ForgedTasks(task string, generation int) map[string]string {
	bodies := map[string]string{}
	for _, step := range setup.Steps {
		bodies[step.Name] = fmt.Sprintf(`{"setup":%q,"generation":%d,"step":%q,"attempt":0}`, task, generation, step.Name)
	}
	bodies[setup.DiscoverFunction] = fmt.Sprintf(`{"user":%q,"generation":%d,"project":"project-001","run":"20990101T000000.000000000-X","attempt":0}`, UserID, generation)
	return bodies
}
