package stack_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
	"gcpconnect/shared/connect"
)

// confirming binds logins by confirmation.
var confirming = map[string]string{"LOGIN_BINDING": "confirm"}

// everywhere runs a test over memory and over the real services.
func everywhere(t *testing.T, s func() *google.Scenario, environment map[string]string, body func(*system)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		m := new(middle)
		between := func(next http.RoundTripper) http.RoundTripper { m.next = next; return m }
		runOver(t, between, s(), environment, func(y *system) {
			y.middle = m
			body(y)
		})
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		shared := services{partstest.Firestore(t), partstest.Vault(t)}
		all := shared.environment()
		maps.Copy(all, environment)
		m := &middle{next: &http.Transport{MaxIdleConnsPerHost: 100}}
		runReal(t, stack.Options{Environment: all, Network: m}, s(), func(y *system) {
			y.middle = m
			body(y)
		})
	})
}

// consents are the grants that Google knows of.
func (y *system) consents() []string {
	return slices.DeleteFunc(google.Diff(google.Snapshot{}, y.Google.Snapshot()), func(line string) bool { return !strings.Contains(line, "consent ") })
}

// wantConnected checks whether the user is connected.
func (y *system) wantConnected(u *demo.User, want bool) {
	y.t.Helper()
	answer, err := u.Call(y.t.Context(), http.MethodGet, "/api/gcp/connection", nil)
	if err != nil {
		y.t.Fatal(err)
	}
	var c struct {
		Connected bool `json:"isConnected"`
	}
	if err := answer.Decode(&c); err != nil || c.Connected != want {
		y.t.Errorf("%s is connected: %t, want %t, %v", u.ID, c.Connected, want, err)
	}
}

// wantConfirm confirms a login and checks the status of the answer.
func (y *system) wantConfirm(u *demo.User, handle string, want int) (task string) {
	y.t.Helper()
	answer, err := u.Confirm(y.t.Context(), handle)
	if err != nil {
		y.t.Fatal(err)
	}
	if answer.Status != want {
		y.t.Errorf("confirming answers %d %s, want %d", answer.Status, answer.Body, want)
	}
	var started struct {
		TaskID string `json:"task_id"`
	}
	if err := answer.Decode(&started); err != nil {
		y.t.Error(err)
	}
	return started.TaskID
}

// park logs in and consents, and returns what there is to confirm.
func (y *system) park(u *demo.User) string {
	y.t.Helper()
	login, handle, err := u.Connect(y.t.Context(), demo.Choice{})
	if err != nil || login != "gcp_confirm" || handle == "" {
		y.t.Fatalf("login ended with %q, %q, %v", login, handle, err)
	}
	return handle
}

func one() *google.Scenario { return scenario(1, nil) }

func TestAConfirmedLoginIsAConnection(t *testing.T) {
	t.Parallel()
	everywhere(t, one, confirming, func(y *system) {
		handle := y.park(y.user)
		y.wantConnected(y.user, false)
		y.call(http.StatusNotFound, http.MethodGet, "/gcp/setup/status/"+handle, nil, nil)
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.list"]+calls["cloudresourcemanager.projects.search"] != 0 {
			y.t.Errorf("something was started: %v", calls)
		}
		task := y.wantConfirm(y.user, handle, http.StatusOK)
		y.wantConnected(y.user, true)
		if again := y.wantConfirm(y.user, handle, http.StatusOK); again != task {
			y.t.Errorf("confirmed again it is %q, was %q", again, task)
		}
		y.wantSuccess(y.await(task), 1, 1)
		y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		y.wantConfirm(y.user, handle, http.StatusOK) // it says what was, and connects nothing
		y.wantConnected(y.user, false)
	})
}

// The attacker begins a login and has a victim consent to it. The victim's
// browser comes back with what is to be confirmed, and the attacker, who alone
// could confirm it, does not get to know it.
func TestFixationEndsAtTheConfirmation(t *testing.T) {
	t.Parallel()
	everywhere(t, one, confirming, func(y *system) {
		ctx := y.t.Context()
		attacker, victim := y.user, y.newUser("victim")
		address, err := attacker.Login(ctx)
		if err != nil {
			y.t.Fatal(err)
		}
		back, err := victim.Consent(ctx, address, demo.Choice{})
		if err != nil {
			y.t.Fatal(err)
		}
		login, handle, err := victim.Return(ctx, back)
		if err != nil || login != "gcp_confirm" {
			y.t.Fatalf("the victim comes back with %q, %v", login, err)
		}
		// All that the attacker can make of what is known: the state.
		_, state, _ := strings.Cut(address, "&state=")
		state, _, _ = strings.Cut(state, "&")
		y.wantConfirm(attacker, connect.Hash(state), http.StatusNotFound)
		y.wantConfirm(attacker, connect.Hash(state)+connect.NewID(), http.StatusNotFound)
		y.wantConfirm(attacker, state, http.StatusNotFound)
		y.wantConfirm(victim, handle, http.StatusNotFound)
		y.wantConnected(attacker, false)
		y.wantConnected(victim, false)
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.search"]+calls["cloudresourcemanager.projects.list"] != 0 {
			y.t.Errorf("Google was asked for projects: %v", calls)
		}
	})
}

func TestAnUnconfirmedLoginIsGivenUp(t *testing.T) {
	t.Parallel()
	run(t, scenario(1, nil), confirming, func(y *system) {
		sweep := func() {
			t.Helper()
			if err := y.Sweep(y.t.Context()); err != nil {
				t.Error(err)
			}
		}
		handle := y.park(y.user)
		time.Sleep(9 * time.Minute)
		sweep()
		if len(y.consents()) != 1 {
			t.Errorf("after 9 minutes Google knows of %v", y.consents())
		}
		time.Sleep(time.Minute + time.Second)
		y.wantConfirm(y.user, handle, http.StatusNotFound) // also before the sweep
		sweep()
		if len(y.consents()) != 0 {
			t.Errorf("after 10 minutes Google still knows of %v", y.consents())
		}
		y.wantConfirm(y.user, handle, http.StatusNotFound)
		sweep()

		// Confirmed in the last moment it stays.
		handle = y.park(y.user)
		time.Sleep(10*time.Minute - time.Second)
		task := y.wantConfirm(y.user, handle, http.StatusOK)
		time.Sleep(2 * time.Second)
		sweep()
		y.wantSuccess(y.await(task), 1, 1)
		time.Sleep(20 * time.Minute)
		sweep()
		if len(y.consents()) != 1 {
			t.Errorf("of a connection Google knows %v", y.consents())
		}
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil)

		// One that is not confirmed while its account is connected: revoking it
		// would end the connection.
		y.park(y.newUser("another-user"))
		time.Sleep(11 * time.Minute)
		sweep()
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil)
	})
}
