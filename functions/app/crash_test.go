package app_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// scenario is what a user does.
type scenario struct {
	environment map[string]string
	scenario    func() *google.Scenario
	act         func(ctx context.Context, w *harness) error
	// rest is the idle time at the end; 0: until leftovers are swept.
	rest time.Duration
	// only are the functions in which the process crashes; empty: all.
	only []string
}

// connecting is a user who connects, and waits.
func connecting(ctx context.Context, w *harness) error {
	id, err := w.connect(ctx)
	if err == nil {
		_, err = w.ended(ctx, id)
	}
	return err
}

// leaving is a user who connects, and leaves with everything undone.
func leaving(ctx context.Context, w *harness) error {
	if err := connecting(ctx, w); err != nil {
		return err
	}
	_, err := w.leave(ctx)
	return err
}

// play runs a scenario in a harness of its own, with a scheduler, until no work is
// left, and returns the state.
func (s scenario) play(ctx context.Context, t *testing.T, prepare func(*harness)) state {
	t.Helper()
	w, err := newHarness(s.scenario(), s.environment, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	prepare(w)
	ctx, cancel := context.WithTimeout(ctx, 12*time.Hour)
	var scheduler sync.WaitGroup
	scheduler.Go(func() { w.schedule(ctx) })
	defer func() {
		cancel()
		scheduler.Wait()
		if err := w.stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if err := s.act(ctx, w); err != nil {
		t.Fatal(err)
	}
	time.Sleep(cmp.Or(s.rest, 25*time.Minute))
	if err := w.queue.Idle(ctx); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range w.wrong {
		t.Error(wrong)
	}
	return w.state(ctx, t)
}

// state is the state of a harness, without times, random names, and how
// often something was tried.
type state struct {
	Google      []string
	Connection  connect.Connection
	Setup       connect.Setup
	Ledger      map[string]int
	Resources   []string
	Discoveries []string
	Logins      int
	Tokens      int
	Tasks       map[string]int // done, by function
	Undelivered []string
}

var (
	accountNumber = regexp.MustCompile(`[0-9]{21}`)
	maker         = regexp.MustCompile(`Made by setup [A-Z2-7]+`)
	consented     = regexp.MustCompile(`, [0-9]+ refresh tokens`)
)

func (w *harness) state(ctx context.Context, t *testing.T) state {
	t.Helper()
	var all state
	connection, err := w.store.Connection(ctx, userID)
	if err != nil {
		t.Fatal(err)
	}
	setup, err := w.store.Setup(ctx, connection.SetupID)
	if err != nil {
		t.Fatal(err)
	}
	all.Connection, all.Setup = *connection, *setup
	for _, line := range w.google.Changes() {
		all.Google = append(all.Google, maker.ReplaceAllString(accountNumber.ReplaceAllString(consented.ReplaceAllString(line, ""), ""), ""))
	}
	all.Ledger = map[string]int{}
	changes, next, err := w.store.Changes(ctx, userID, connect.ChangeQuery{PageSize: connect.MaxPageSize})
	if err != nil || next != "" {
		t.Fatal(err, next)
	}
	for _, c := range changes {
		all.Ledger[strings.Join([]string{c.ProjectID, string(c.Kind), c.Target, c.Role, c.Member, c.Before, string(c.State)}, " ")]++
	}
	resources, _, err := w.store.Resources(ctx, userID, connect.ResourceQuery{PageSize: connect.MaxPageSize})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources {
		all.Resources = append(all.Resources, accountNumber.ReplaceAllString(r.ID, ""))
	}
	slices.Sort(all.Resources)
	discoveries, err := w.store.Discoveries(ctx, userID)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range discoveries {
		all.Discoveries = append(all.Discoveries, fmt.Sprint(d.ProjectID, d.State, d.Counts, d.Message))
	}
	logins, err := w.store.UserLogins(ctx, userID, connect.MaxPageSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logins {
		if !l.ConsumedAt.IsZero() { // logins that never came back expire
			all.Logins++
		}
	}
	all.Tokens = len(w.vault.held())
	if held := w.vault.held(); connection.Connected && !slices.Contains(held, connection.Tokens) {
		t.Errorf("the connection's tokens are not in the vault, which holds %v", held)
	}
	all.Tasks = map[string]int{}
	done := map[string]bool{}
	for _, task := range w.tasks {
		if task.done && !done[task.name] {
			done[task.name] = true
			all.Tasks[task.function]++
		}
	}
	for _, task := range w.tasks {
		if !done[task.name] {
			all.Undelivered = append(all.Undelivered, task.function)
		}
	}
	all.forget()
	return all
}

// forget forgets what differs from run to run.
func (s *state) forget() {
	c, x := &s.Connection, &s.Setup
	*c = connect.Connection{
		Connected: c.Connected, NeedsReauth: c.NeedsReauth, Email: c.Email, Subject: c.Subject, Scopes: c.Scopes,
		PreferredRoot: c.PreferredRoot, Accounts: c.Accounts, Projects: c.Projects, Stale: c.Stale,
	}
	*x = connect.Setup{
		State: x.State, Code: x.Code, Message: x.Message, Kind: x.Kind, Step: x.Step, Progress: x.Progress, RootProject: x.RootProject,
		Projects: x.Projects, Accounts: x.Accounts, ChangesMade: x.ChangesMade, ChangesStood: x.ChangesStood, MadeAccounts: x.MadeAccounts,
		Warnings: x.Warnings, Lease: x.Lease, StallsAt: x.StallsAt,
	}
	slices.Sort(x.MadeAccounts)
	for i := range x.Projects {
		x.Projects[i].OperationsAt = time.Time{}
	}
	// Every check of permissions is a task, and how many there are depends on when they begin.
	delete(s.Tasks, "verify-permissions")
	delete(s.Tasks, "remove-access")
}

// crashAt crashes the serving process at one moment and records that in crashed.
func crashAt(moment string, crashed *atomic.Bool) func(*harness) {
	return func(w *harness) {
		w.between = func(ctx context.Context, m connecttest.Moment) error {
			if w.moment(ctx, m) == moment {
				p, _ := ctx.Value(processKey{}).(*process)
				p.crash()
				crashed.Store(true)
			}
			return nil
		}
	}
}

// moments returns the moments of an undisturbed scenario in order.
func (s scenario) moments(t *testing.T) (names []string, end state) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		end = s.play(t.Context(), t, func(w *harness) {
			w.between = func(ctx context.Context, m connecttest.Moment) error {
				name := w.moment(ctx, m)
				function, _, _ := strings.Cut(name, ":")
				repeated := function == "status" && !strings.HasSuffix(name, "#1")
				if function == "sweep" || repeated || len(s.only) > 0 && !slices.Contains(s.only, function) {
					return nil
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				names = append(names, name)
				return nil
			}
		})
	})
	return names, end
}

// someCrashes is how many crash points of a scenario are tried without -full.
const someCrashes = 16

// The process crashes at each moment in turn: just before and just after a call
// to the database, the vault, the queue or Google, in every function. Another
// process continues, and the run ends as if no process had crashed.
func TestProcess_CrashAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	steps := []string{
		"validate-projects", "enable-apis", "create-service-accounts", "grant-access", "update-org-policies", "verify-permissions", "discover-resources", "discover-project",
	}
	for name, s := range map[string]scenario{
		"connecting": {scenario: func() *google.Scenario { return googleScenario(2) }, act: connecting},
		"leaving": {
			scenario: func() *google.Scenario { return googleScenario(2) }, act: leaving, only: []string{"api/gcp/force-disconnect", "remove-access"},
		},
		// The user's token ends while the setup waits, and is refreshed.
		"refreshing": {
			scenario: func() *google.Scenario {
				s := googleScenario(1)
				s.Propagation.Account = new(google.Duration(75 * time.Minute))
				return s
			},
			environment: map[string]string{"VERIFY_INTERVAL": "10m"}, act: connecting, only: []string{"verify-permissions", "discover-resources"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moments, want := s.moments(t)
			if name == "connecting" {
				for _, step := range steps {
					if !slices.ContainsFunc(moments, func(m string) bool { return strings.HasPrefix(m, step+":") }) {
						t.Errorf("no crash point is in %s", step)
					}
				}
			}
			if len(want.Undelivered) > 0 || want.Setup.State != connect.StateSucceeded {
				t.Fatalf("undisturbed it ends with %s", show(t, want))
			}
			t.Logf("%d moments", len(moments))
			for _, moment := range stacktest.Sample(t, moments, someCrashes) {
				t.Run(moment, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var crashed atomic.Bool
						got := s.play(t.Context(), t, crashAt(moment, &crashed))
						// How often a token is read depends on who of many comes first.
						if !crashed.Load() && !strings.Contains(moment, "vault Get") {
							t.Error("no process crashed")
						}
						if diff := gocmp.Diff(want.comparable(), got.comparable()); diff != "" {
							t.Errorf("the end differs (-undisturbed +now):\n%s", diff)
						}
					})
				})
			}
		})
	}
}

// comparable is the state but for what may differ after a death: a login whose
// way back was lost makes the user connect anew, and a task that was lost is
// made anew.
func (s state) comparable() state {
	s.Tasks = maps.Clone(s.Tasks)
	for function := range s.Tasks {
		s.Tasks[function] = 0
	}
	return s
}
