// Package services_test tests the whole system over a Firestore emulator, a Vault
// and the Cloud Tasks emulator, on the wall clock. It holds only what an adapter
// or a process takes part in. Everything else is in the folder memory.
package services_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/firestore"
)

// A connection over the real adapters, from the login to the removal of
// everything that the setup changed.
func TestServices_ConnectAndRemove(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	exported, telemetry := stacktest.RecordTelemetry()
	opts := stack.Options{Environment: shared.Environment(), Telemetry: exported}
	stacktest.RunServices(t, opts, googletest.Scenario(5, googletest.WithPlatform), func(y *stacktest.System) {
		before := y.Google.Snapshot()
		final := y.Complete()
		y.WantSuccess(final, 5, 5)
		y.WantDiscovered("project-001", "project-002", "project-003", "project-004", "project-005")
		var summary struct{ Total int }
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/resources/summary", nil, &summary)
		if summary.Total < 10 {
			t.Errorf("%d resources were discovered, want at least 10", summary.Total)
		}

		executions := int64(len(final.Projects)) // of discover-project
		for _, step := range final.Steps {
			executions += int64(step.Attempts)
		}
		traces, tasks := map[string]bool{}, int64(0)
		for _, s := range telemetry.Spans() {
			if stacktest.AttributeOf(&s, "task") != "" {
				traces[s.SpanContext.TraceID().String()] = true
				tasks++
			}
		}
		if len(traces) != 1 || tasks < executions {
			t.Errorf("%d executions are %d spans in %d traces", executions, tasks, len(traces))
		}
		counts := y.Counts()
		if counts.Tasks > executions {
			t.Errorf("%d executions took %d tasks", executions, counts.Tasks)
		}
		const login = 5 // created, consumed, given its owner, turned into a setup, deleted
		if counts.Transactions > 2*executions+login {
			t.Errorf("%d executions took %d transactions", executions, counts.Transactions)
		}

		if plan := y.Plan("project-001", "project-002"); plan.Totals.Changes != 0 {
			t.Errorf("after the setup the plan has more changes: %s", stacktest.Show(plan.Totals))
		}
		y.RequestToken(http.StatusOK, map[string]any{"userId": stacktest.UserID, "mode": "ask", "projectId": "project-002"})
		y.RequestToken(http.StatusForbidden, map[string]any{"userId": stacktest.UserID, "mode": "ask", "projectId": "another"})
		pages := y.Ledger("page_size=25")
		if n := len(y.Ledger("page_size=1000")); len(pages) != n || n < 5*25 {
			t.Errorf("the ledger has %d entries in pages of 25 and %d in one", len(pages), n)
		}

		y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
		if left := y.ChangedAtGoogle(before, true); len(left) > 0 {
			t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
		}
		for entry := range y.LedgerCounts() {
			if !strings.HasSuffix(entry, " undone") && entry != "enable_api done" {
				t.Errorf("the ledger still has %q", entry)
			}
		}
		y.WantGone()
	})
}

func TestServices_Selection(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	stacktest.RunServices(t, stack.Options{Environment: shared.Environment()}, googletest.Scenario(7), func(y *stacktest.System) {
		asked := y.Complete()
		if asked.Result == nil || asked.Result.Status != "needs_selection" || asked.Result.Count != 7 || len(asked.Result.Eligible) != 7 {
			t.Fatalf("the setup ended with %s", stacktest.Show(asked))
		}
		y.WantSuccess(y.Await(y.Restart("project-002", "project-005")), 2, 2)
	})
}

func TestServices_PartialSetup(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	s := googletest.Scenario(3, func(s *google.Scenario) { googletest.Project(s, "project-002").Bindings[0].Role = "roles/viewer" })
	environment := shared.Environment()
	environment["VERIFY_ATTEMPTS"] = "2"
	stacktest.RunServices(t, stack.Options{Environment: environment}, s, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 2, 3)
		if !strings.Contains(final.Result.Message, "Propagation verification: PARTIAL (2/3 projects)") {
			t.Errorf("the message is %q", final.Result.Message)
		}
	})
}

// unverified makes every check of permissions fail, so that a setup waits.
func unverified(y *stacktest.System) {
	y.T.Helper()
	if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil {
		y.T.Fatal(err)
	}
}

// A disconnect ends the setup that runs, and deletes its token from Vault.
func TestServices_DisconnectEndsSetup(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	root := stacktest.VaultRoot(t, shared.Vault)
	environment := shared.Environment()
	environment["VERIFY_INTERVAL"] = "1s"
	store, err := firestore.New(t.Context(), firestore.Options{Project: environment["GOOGLE_CLOUD_PROJECT"], Emulator: shared.Firestore.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(3), func(y *stacktest.System) {
		unverified(y)
		task := y.Connect()
		y.AwaitProgress(task, 75)
		connection, err := store.Connection(t.Context(), stacktest.UserID)
		if err != nil || !stacktest.HasToken(t, root, connection.Tokens) {
			t.Errorf("the token %q is not in Vault, %v", connection.Tokens, err)
		}
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		final := y.Await(task)
		if final.State != "FAILURE" || final.Status != "Google Cloud was disconnected." {
			t.Errorf("the setup ended with %s", stacktest.Show(final))
		}
		if stacktest.HasToken(t, root, connection.Tokens) {
			t.Error("the token is in Vault after the disconnect")
		}
	})
}

// Two instances serve users who connect at the same moment. Everything is done
// once.
func TestServices_TwoInstancesShareWork(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	const users = 4
	stacktest.RunServices(t, stack.Options{Environment: shared.Environment(), Instances: 2}, googletest.Scenario(3), func(y *stacktest.System) {
		var group sync.WaitGroup
		finals := make([]*demo.Status, users)
		for i := range users {
			user := y.NewUser(fmt.Sprint("user-", i+1))
			group.Go(func() {
				_, task, err := user.Connect(t.Context(), demo.Choice{})
				if err != nil {
					t.Error(err)
					return
				}
				if finals[i], err = user.Await(t.Context(), task, y.Poll, func(*demo.Status) {}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, final := range finals {
			if final == nil {
				t.Fatal("a setup did not end")
			}
			y.WantSuccess(final, 3, 3)
		}
		accounts := 0
		for _, p := range y.Google.Snapshot().Projects {
			accounts += len(p.ServiceAccounts)
			for _, b := range p.Bindings {
				if members := slices.Sorted(slices.Values(b.Members)); len(slices.Compact(members)) != len(b.Members) {
					t.Errorf("a member occurs twice in %s of %s", b.Role, p.ID)
				}
			}
		}
		if accounts != 2*users {
			t.Errorf("there are %d service accounts, want %d", accounts, 2*users)
		}
	})
}

// ownVault returns an environment with a Vault of the test's own.
func ownVault(t *testing.T) (map[string]string, stacktest.Services) {
	t.Helper()
	s := stacktest.Services{Firestore: partstest.Firestore(t), Vault: partstest.OwnVault(t)}
	environment := s.Environment()
	environment["VERIFY_INTERVAL"] = "1s"
	return environment, s
}

// ownFirestore returns an environment with a Firestore emulator of the test's
// own.
func ownFirestore(t *testing.T) (map[string]string, stacktest.Services) {
	t.Helper()
	s := stacktest.Services{Firestore: partstest.OwnFirestore(t), Vault: partstest.Vault(t)}
	environment := s.Environment()
	environment["VERIFY_INTERVAL"] = "1s"
	return environment, s
}

// A Vault that is sealed while a setup runs delays the setup: Google refuses the
// access token that the process has cached, so the setup needs the Vault.
func TestServices_SealedVaultDelaysSetup(t *testing.T) {
	t.Parallel()
	environment, own := ownVault(t)
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(2), func(y *stacktest.System) {
		root := stacktest.VaultRoot(t, own.Vault)
		unverified(y)
		task := y.Connect()
		y.AwaitProgress(task, 75)
		if err := root.Sys().Seal(); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 401}); err != nil {
			t.Fatal(err)
		}
		answer, err := y.User.Call(t.Context(), http.MethodGet, "/api/gcp/projects", nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusServiceUnavailable || !strings.Contains(string(answer.Body), "sealed") {
			t.Errorf("with a sealed vault the projects answer %d %s, want 503 and why", answer.Status, answer.Body)
		}
		// Two deliveries without the Vault do not end the setup.
		for before := y.Parts.Tasks.Counts().Dispatches; y.Parts.Tasks.Counts().Dispatches < before+2; time.Sleep(y.Poll) {
			status, err := y.User.Status(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			if status.Complete {
				t.Fatalf("the setup ended while the vault was sealed: %s", stacktest.Show(status))
			}
		}
		if _, err := root.Sys().Unseal(own.Vault.UnsealKey.Reveal()); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		y.WantSuccess(y.Await(task), 2, 2)
	})
}

// The emulator's process is suspended and continued: a database that does not
// answer for a while. Callers get 503, and the setup continues.
func TestServices_SuspendedFirestoreDelaysSetup(t *testing.T) {
	t.Parallel()
	environment, own := ownFirestore(t)
	// An execution that cannot commit keeps its lease, and the next one waits for it.
	maps.Copy(environment, map[string]string{"CALL_TIMEOUT": "2s", "STEP_BUDGET": "3s", "STEP_DEADLINE": "4s", "STEP_LEASE": "5s"})
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(2), func(y *stacktest.System) {
		unverified(y)
		task := y.Connect()
		y.AwaitProgress(task, 75)
		if err := own.Firestore.Pause(); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		began := time.Now()
		answer, err := y.User.Call(t.Context(), http.MethodGet, "/gcp/setup/status/"+task, nil)
		for range 20 {
			if err != nil || answer.Status != http.StatusOK { // the process's threads stop one after another
				break
			}
			began = time.Now()
			answer, err = y.User.Call(t.Context(), http.MethodGet, "/gcp/setup/status/"+task, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusServiceUnavailable || !strings.Contains(string(answer.Body), "database") {
			t.Errorf("without a database the status answers %d %s, want 503 and why", answer.Status, answer.Body)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the answer took %v", took)
		}
		if err := own.Firestore.Continue(); err != nil {
			t.Fatal(err)
		}
		y.WantSuccess(y.Await(task), 2, 2)
	})
}

// The emulator loses its data in a restart. Its setups are not found any more,
// their tasks end, and a new connection works. The stack starts the services.
func TestServices_LostFirestoreDataEndsSetups(t *testing.T) {
	t.Parallel()
	partstest.RequireFirestore(t)
	environment := map[string]string{"VERIFY_INTERVAL": "1s", "OPERATION_GRACE": "100ms"}
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(2), func(y *stacktest.System) {
		unverified(y)
		task := y.Connect()
		y.AwaitProgress(task, 75)
		address := y.Parts.Firestore.Address
		if err := y.Parts.Firestore.Stop(); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		again, err := parts.StartFirestore(t.Context(), address, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		y.Parts.Firestore = again
		y.Call(http.StatusNotFound, http.MethodGet, "/gcp/setup/status/"+task, nil, nil)
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		y.WantSuccess(y.Complete(), 2, 2)
	})
}
