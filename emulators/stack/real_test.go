package stack_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
	"gcpconnect/shared/connect"
)

// services are the real services that some systems share, each with a project
// of its own in Firestore.
type services struct {
	firestore *parts.Firestore
	vault     *parts.Vault
}

func (r services) environment() map[string]string {
	return map[string]string{
		"FIRESTORE_EMULATOR_HOST": r.firestore.Address, "GOOGLE_CLOUD_PROJECT": "test-" + strings.ToLower(connect.NewID()),
		"VAULT_ADDR": r.vault.Address, "VAULT_ROLE_ID": r.vault.RoleID, "VAULT_SECRET_ID": r.vault.SecretID.Reveal(),
		"VERIFY_INTERVAL": "1s",
	}
}

// runReal starts a system over the real services, on the clock on the wall,
// runs body and stops it. Google takes no time.
func runReal(t testing.TB, opts stack.Options, s *google.Scenario, body func(*system)) {
	t.Helper()
	s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
	logs := new(locked)
	opts.Real, opts.Scenario, opts.Logs = true, s, t.TempDir()
	opts.Log, opts.Around = logger(logs), contract.Watch(t.Errorf).Handler
	started, err := stack.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	y := &system{Stack: started, t: t, poll: 250 * time.Millisecond, logs: logs}
	defer func() {
		if err := started.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(logs.String())
		}
	}()
	y.user = y.newUser("user-1")
	body(y)
}

// locked is a buffer for several writers.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func TestRealServices(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	for name, test := range map[string]func(*testing.T, services){
		"happy path": testRealHappyPath, "selection": testRealSelection, "partial": testRealPartial, "disconnect": testRealDisconnect,
		"two instances": testTwoInstances, "callers with tokens": testCallersWithTokens,
	} {
		t.Run(name, func(t *testing.T) { test(t, shared) })
	}
}

func testRealHappyPath(t *testing.T, shared services) {
	where, told := tell()
	runReal(t, stack.Options{Environment: shared.environment(), Telemetry: where}, scenario(5, nil), func(y *system) {
		final := y.complete()
		y.wantSuccess(final, 5, 5)
		y.discovered("project-001", "project-002", "project-003", "project-004", "project-005")
		var summary struct{ Total int }
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/resources/summary", nil, &summary)
		if summary.Total < 10 {
			t.Errorf("%d resources were discovered, want at least 10", summary.Total)
		}
		executions := int64(len(final.Projects)) // of discover-project
		for _, step := range final.Steps {
			executions += int64(step.Attempts)
		}
		traces, tasks := map[string]bool{}, int64(0)
		for _, s := range told.spans() {
			if of(&s, "task") != "" {
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
	})
}

func testRealSelection(t *testing.T, shared services) {
	runReal(t, stack.Options{Environment: shared.environment()}, scenario(7, nil), func(y *system) {
		asked := y.complete()
		if asked.Result == nil || asked.Result.Status != "needs_selection" || asked.Result.Count != 7 || len(asked.Result.Eligible) != 7 {
			t.Fatalf("the setup ended with %s", show(asked))
		}
		y.wantSuccess(y.await(y.restart("project-002", "project-005")), 2, 2)
	})
}

func testRealPartial(t *testing.T, shared services) {
	s := scenario(3, func(s *google.Scenario) { project(s, "project-002").Bindings[0].Role = "roles/viewer" })
	environment := shared.environment()
	environment["VERIFY_ATTEMPTS"] = "2"
	runReal(t, stack.Options{Environment: environment}, s, func(y *system) {
		final := y.complete()
		y.wantSuccess(final, 2, 3)
		if !strings.Contains(final.Result.Message, "Propagation verification: PARTIAL (2/3 projects)") {
			t.Errorf("the message is %q", final.Result.Message)
		}
	})
}

// A disconnect in the middle of a setup: the setup ends where it stands, and
// no token is left in Vault.
func testRealDisconnect(t *testing.T, shared services) {
	root := rootOf(t, shared.vault)
	before := tokensIn(t, root)
	runReal(t, stack.Options{Environment: shared.environment()}, scenario(3, nil), func(y *system) {
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil { // never verified
			t.Fatal(err)
		}
		y.user = y.newUser("user-who-leaves") // nobody else's tokens are under this user's path
		task := y.connect()
		y.reach(task, 60)
		if n := tokensIn(t, root); n != before+1 {
			t.Errorf("%d tokens are in Vault, want %d", n, before+1)
		}
		y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		final := y.await(task)
		if final.State != "FAILURE" || final.Status != "Google Cloud was disconnected." {
			t.Errorf("the setup ended with %s", show(final))
		}
		if n := tokensIn(t, root); n != before {
			t.Errorf("%d tokens are in Vault after the disconnect, want %d", n, before)
		}
	})
}

// Two instances serve whatever comes, and users begin all at once: everything
// is done, and done once.
func testTwoInstances(t *testing.T, shared services) {
	const users = 4
	s := scenario(3, nil)
	runReal(t, stack.Options{Environment: shared.environment(), Instances: 2}, s, func(y *system) {
		var group sync.WaitGroup
		finals := make([]*demo.Status, users)
		for i := range users {
			user := y.newUser(fmt.Sprint("user-", i+1))
			group.Go(func() {
				_, task, err := user.Connect(t.Context(), demo.Choice{})
				if err != nil {
					t.Error(err)
					return
				}
				if finals[i], err = user.Await(t.Context(), task, y.poll, func(*demo.Status) {}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, final := range finals {
			if final == nil {
				t.Fatal("a setup did not end")
			}
			y.wantSuccess(final, 3, 3)
		}
		accounts := 0
		for _, p := range y.Google.Snapshot().Projects {
			accounts += len(p.ServiceAccounts)
			for _, b := range p.Bindings {
				if members := slices.Sorted(slices.Values(b.Members)); len(slices.Compact(members)) != len(b.Members) {
					t.Errorf("a member stands twice in %s of %s", b.Role, p.ID)
				}
			}
		}
		if accounts != 2*users {
			t.Errorf("there are %d service accounts, want %d", accounts, 2*users)
		}
	})
}

// signed sends requests to the gateway with a token of the backend.
type signed struct {
	next    http.RoundTripper
	gateway string
	token   func() (string, error)
}

func (s signed) RoundTrip(r *http.Request) (*http.Response, error) {
	if "http://"+r.URL.Host == s.gateway {
		token, err := s.token()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return s.next.RoundTrip(r)
}

// With AUTH=backend everybody shows a token: the backend in the user's name,
// and the queue, for which Cloud Tasks gets them.
func testCallersWithTokens(t *testing.T, shared services) {
	const backend = "backend@aurora-platform.iam.gserviceaccount.com"
	environment := shared.environment()
	environment["AUTH"], environment["BACKEND_SERVICE_ACCOUNTS"], environment["HOST"] = "backend", backend, "127.0.0.1"
	runReal(t, stack.Options{Environment: environment}, scenario(2, nil), func(y *system) {
		y.call(http.StatusUnauthorized, http.MethodGet, "/api/gcp/connection", nil, nil)
		client := y.Client()
		client.Transport = signed{client.Transport, y.URL, func() (string, error) { return y.Google.IDToken(backend, y.URL) }}
		user, err := demo.NewUser("user-of-the-backend", y.URL, client)
		if err != nil {
			t.Fatal(err)
		}
		y.user = user
		y.wantSuccess(y.complete(), 2, 2)
		y.discovered("project-001", "project-002")
	})
}

func TestVaultSealedInTheMiddle(t *testing.T) {
	t.Parallel()
	runReal(t, stack.Options{Environment: map[string]string{"VERIFY_INTERVAL": "1s"}}, scenario(2, nil), func(y *system) {
		root := rootOf(t, y.Parts.Vault)
		// The agent account gets no token before the seal is broken again.
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil {
			t.Fatal(err)
		}
		task := y.connect()
		y.reach(task, 75)
		if err := root.Sys().Seal(); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		answer, err := y.user.Call(t.Context(), http.MethodGet, "/api/gcp/projects", nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusServiceUnavailable || !strings.Contains(string(answer.Body), "sealed") {
			t.Errorf("with a sealed vault the projects answer %d %s, want 503 and why", answer.Status, answer.Body)
		}
		for range 20 {
			status, err := y.user.Status(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			if status.Complete {
				t.Fatalf("the setup ended while the vault was sealed: %s", show(status))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if _, err := root.Sys().Unseal(y.Parts.Vault.UnsealKey.Reveal()); err != nil {
			t.Fatal(err)
		}
		y.wantSuccess(y.await(task), 2, 2)
	})
}

// The emulator is stopped where it stands and goes on: a database that is
// away for a while. Callers are told so, and the setup goes on where it was.
func TestFirestoreAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"VERIFY_INTERVAL": "1s"}
	runReal(t, stack.Options{Environment: environment}, scenario(2, nil), func(y *system) {
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil {
			t.Fatal(err)
		}
		task := y.connect()
		y.reach(task, 75)
		if err := y.Parts.Firestore.Pause(); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearFaults()
		began := time.Now()
		answer, err := y.user.Call(t.Context(), http.MethodGet, "/gcp/setup/status/"+task, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusServiceUnavailable || !strings.Contains(string(answer.Body), "database") {
			t.Errorf("without a database the status answers %d %s, want 503 and why", answer.Status, answer.Body)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %v to say so", took)
		}
		if err := y.Parts.Firestore.Continue(); err != nil {
			t.Fatal(err)
		}
		y.wantSuccess(y.await(task), 2, 2)
	})
}

// The emulator keeps nothing over a restart. Its old setups are gone, as is
// said of them; their tasks end; and a new connection works.
func TestFirestoreThatLostItsData(t *testing.T) {
	t.Parallel()
	runReal(t, stack.Options{Environment: map[string]string{"VERIFY_INTERVAL": "1s"}}, scenario(2, nil), func(y *system) {
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil {
			t.Fatal(err)
		}
		task := y.connect()
		y.reach(task, 75)
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
		y.call(http.StatusNotFound, http.MethodGet, "/gcp/setup/status/"+task, nil, nil)
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		y.wantSuccess(y.complete(), 2, 2)
	})
}

// reach waits until a setup has come that far.
func (y *system) reach(task string, progress int) {
	y.t.Helper()
	for range 600 {
		status, err := y.user.Status(y.t.Context(), task)
		if err != nil {
			y.t.Fatal(err)
		}
		if status.Progress >= progress {
			return
		}
		if status.Complete {
			y.t.Fatalf("the setup ended with %s", show(status))
		}
		time.Sleep(y.poll)
	}
	y.t.Fatalf("the setup does not come to %d%%", progress)
}

func rootOf(t *testing.T, v *parts.Vault) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: v.Address})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(v.RootToken.Reveal())
	return c
}

// tokensIn counts the users that have tokens in a Vault.
func tokensIn(t *testing.T, root *api.Client) int {
	t.Helper()
	list, err := root.Logical().List("gcpconnect/metadata/tokens")
	if err != nil {
		t.Fatal(err)
	}
	if list == nil {
		return 0
	}
	tokens, _ := list.Data["keys"].([]any)
	return len(tokens)
}
