package memory_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
)

func TestConfirm_ConnectsOnce(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, one(), stacktest.Confirming, func(y *stacktest.System) {
		handle := y.ParkLogin(y.User)
		y.WantConnected(y.User, false)
		y.Call(http.StatusNotFound, http.MethodGet, "/gcp/setup/status/"+handle, nil, nil)
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.list"]+calls["cloudresourcemanager.projects.search"] != 0 {
			y.T.Errorf("something was started: %v", calls)
		}
		task := y.WantConfirm(y.User, handle, http.StatusOK)
		y.WantConnected(y.User, true)
		if again := y.WantConfirm(y.User, handle, http.StatusOK); again != task {
			y.T.Errorf("confirmed again it is %q, was %q", again, task)
		}
		y.WantSuccess(y.Await(task), 1, 1)
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		y.WantConfirm(y.User, handle, http.StatusOK) // it says what was, and connects nothing
		y.WantConnected(y.User, false)
	})
}

// The attacker begins a login and has a victim consent to it. The victim's
// browser comes back with what is to be confirmed, and the attacker, who alone
// could confirm it, does not get to know it.
func TestConfirm_EndsSessionFixation(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, one(), stacktest.Confirming, func(y *stacktest.System) {
		ctx := y.T.Context()
		attacker, victim := y.User, y.NewUser("victim")
		address, err := attacker.Login(ctx)
		if err != nil {
			y.T.Fatal(err)
		}
		back, err := victim.Consent(ctx, address, demo.Choice{})
		if err != nil {
			y.T.Fatal(err)
		}
		login, handle, err := victim.Return(ctx, back)
		if err != nil || login != "gcp_confirm" {
			y.T.Fatalf("the victim comes back with %q, %v", login, err)
		}
		// All that the attacker can make of what is known: the state.
		_, state, _ := strings.Cut(address, "&state=")
		state, _, _ = strings.Cut(state, "&")
		y.WantConfirm(attacker, connect.Hash(state), http.StatusNotFound)
		y.WantConfirm(attacker, connect.Hash(state)+connect.NewID(), http.StatusNotFound)
		y.WantConfirm(attacker, state, http.StatusNotFound)
		y.WantConfirm(victim, handle, http.StatusNotFound)
		y.WantConnected(attacker, false)
		y.WantConnected(victim, false)
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.search"]+calls["cloudresourcemanager.projects.list"] != 0 {
			y.T.Errorf("Google was asked for projects: %v", calls)
		}
	})
}

func TestSweep_RevokesUnconfirmedLogins(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), stacktest.Confirming, func(y *stacktest.System) {
		sweep := func() {
			t.Helper()
			if err := y.Sweep(y.T.Context()); err != nil {
				t.Error(err)
			}
		}
		handle := y.ParkLogin(y.User)
		time.Sleep(9 * time.Minute)
		sweep()
		if len(y.Consents()) != 1 {
			t.Errorf("after 9 minutes Google knows of %v", y.Consents())
		}
		time.Sleep(time.Minute + time.Second)
		y.WantConfirm(y.User, handle, http.StatusNotFound) // also before the sweep
		sweep()
		if len(y.Consents()) != 0 {
			t.Errorf("after 10 minutes Google still knows of %v", y.Consents())
		}
		y.WantConfirm(y.User, handle, http.StatusNotFound)
		sweep()

		// Confirmed in the last moment it stays.
		handle = y.ParkLogin(y.User)
		time.Sleep(10*time.Minute - time.Second)
		task := y.WantConfirm(y.User, handle, http.StatusOK)
		time.Sleep(2 * time.Second)
		sweep()
		y.WantSuccess(y.Await(task), 1, 1)
		time.Sleep(20 * time.Minute)
		sweep()
		if len(y.Consents()) != 1 {
			t.Errorf("of a connection Google knows %v", y.Consents())
		}
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil)

		// One that is not confirmed while its account is connected: revoking it
		// would end the connection.
		y.ParkLogin(y.NewUser("another-user"))
		time.Sleep(11 * time.Minute)
		sweep()
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil)
	})
}
