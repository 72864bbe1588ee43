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
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// story is what a user does.
type story struct {
	environment map[string]string
	scenario    func() *google.Scenario
	tell        func(ctx context.Context, w *world) error
	// rest is for how long nobody does anything at the end; 0: until all that was
	// left behind is swept.
	rest time.Duration
	// only are the functions in which the process dies; empty: all.
	only []string
}

// connecting is a user who connects, and waits.
func connecting(ctx context.Context, w *world) error {
	id, err := w.connect(ctx)
	if err == nil {
		_, err = w.ended(ctx, id)
	}
	return err
}

// leaving is a user who connects, and leaves with everything undone.
func leaving(ctx context.Context, w *world) error {
	if err := connecting(ctx, w); err != nil {
		return err
	}
	_, err := w.leave(ctx)
	return err
}

// play has a story happen in a world of its own, with a scheduler, until nothing is
// left to do, and returns the world's state.
func (s story) play(ctx context.Context, t *testing.T, prepare func(*world)) state {
	t.Helper()
	w, err := newWorld(s.scenario(), s.environment, nil, nil)
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
	if err := s.tell(ctx, w); err != nil {
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

// state is what can be seen of a world, without times, random names, and how
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

func (w *world) state(ctx context.Context, t *testing.T) state {
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
		if !l.ConsumedAt.IsZero() { // those that nobody brought back expire
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

// killAt has the process that serves die at one moment, and tells that it did.
func killAt(moment string, died *atomic.Bool) func(*world) {
	return func(w *world) {
		w.between = func(ctx context.Context, m connecttest.Moment) error {
			if w.moment(ctx, m) == moment {
				p, _ := ctx.Value(processKey{}).(*process)
				p.die()
				died.Store(true)
			}
			return nil
		}
	}
}

// moments are those of a story that nothing disturbs, in their order.
func (s story) moments(t *testing.T) (names []string, end state) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		end = s.play(t.Context(), t, func(w *world) {
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

// The process dies at each moment in turn: just before a call and just after
// it, to the database, to the vault, to the queue and to Google, in every
// function. What it had begun, another goes on with, and in the end the world is
// as if nobody had died.
func TestAProcessThatDiesAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	steps := []string{
		"validate-projects", "enable-apis", "create-service-accounts", "grant-access", "update-org-policies", "verify-permissions", "discover-resources", "discover-project",
	}
	for name, s := range map[string]story{
		"connecting": {scenario: func() *google.Scenario { return scenario(2) }, tell: connecting},
		"leaving": {
			scenario: func() *google.Scenario { return scenario(2) }, tell: leaving, only: []string{"api/gcp/force-disconnect", "remove-access"},
		},
		// The user's token ends while the setup waits, and is refreshed.
		"refreshing": {
			scenario: func() *google.Scenario {
				s := scenario(1)
				s.Propagation.Account = new(google.Duration(75 * time.Minute))
				return s
			},
			environment: map[string]string{"VERIFY_INTERVAL": "10m"}, tell: connecting, only: []string{"verify-permissions", "discover-resources"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moments, want := s.moments(t)
			if name == "connecting" {
				for _, step := range steps {
					if !slices.ContainsFunc(moments, func(m string) bool { return strings.HasPrefix(m, step+":") }) {
						t.Errorf("nobody dies in %s", step)
					}
				}
			}
			if len(want.Undelivered) > 0 || want.Setup.State != connect.StateSucceeded {
				t.Fatalf("undisturbed it ends with %s", show(t, want))
			}
			t.Logf("%d moments", len(moments))
			for _, moment := range moments {
				t.Run(moment, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var died atomic.Bool
						got := s.play(t.Context(), t, killAt(moment, &died))
						// How often a token is read depends on who of many comes first.
						if !died.Load() && !strings.Contains(moment, "vault Get") {
							t.Error("nobody died")
						}
						if diff := gocmp.Diff(want.comparable(), got.comparable()); diff != "" {
							t.Errorf("the world differs (-undisturbed +now):\n%s", diff)
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
