package services_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
)

// The moments at which a process falls asleep, by step.
const (
	agentOf     = "aurora-f@project-001.iam.gserviceaccount.com"
	setPolicy   = "google POST /cloudresourcemanager/v3/projects/project-001:setIamPolicy"
	planPolicy  = "store SaveChanges planned add_binding project-001"
	donePolicy  = "store SaveChanges done add_binding project-001"
	planAccount = "store SaveChanges planned create_account " + agentOf
	makeAccount = "google POST /iam/v1/projects/project-001/serviceAccounts"
	policyRead  = "google GET /orgpolicy/v2/projects/project-001/policies/iam.allowedPolicyMemberDomains:getEffectivePolicy"
	enable      = "google POST /serviceusage/v1/projects/project-001/services:batchEnable"
	write       = "store UpdateSetup"
	dropAccount = "google DELETE /iam/v1/projects/project-001/serviceAccounts/N"
)

// A process falls asleep in the middle of a step. Its lease passes, another one
// finishes the step and the chain, and the user does something else. When the
// first one wakes up, it may send a write that it was about to send. The sweep's
// last look takes back what that has made, and then everything at Google, in
// Firestore and in the Vault is as it would be without.
func TestProcess_ResumedTooLateChangesNothing(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	var all sync.WaitGroup // at once, however few processors there are: they wait
	defer all.Wait()
	for _, c := range []struct {
		step   string
		moment string
		nth    int
		after  func(*sleeper) // what the user does before the process wakes up
		full   bool           // only with -full
	}{
		// Before and after a write at Google, a write of the ledger and a commit.
		{"create-service-accounts", "before " + makeAccount, 1, (*sleeper).leave, false},
		{"create-service-accounts", "after " + makeAccount, 1, (*sleeper).leave, false},
		{"grant-access", "before " + donePolicy, 1, (*sleeper).leave, false},
		{"create-service-accounts", "after " + planAccount, 1, (*sleeper).leave, false},
		{"grant-access", "before " + write, 2, (*sleeper).leave, false},
		{"grant-access", "after " + write, 2, (*sleeper).leave, false},
		// A write at Google that is kept from what another connection has made since.
		{"remove-access", "before " + dropAccount, 1, (*sleeper).comeBack, false},

		{"enable-apis", "before " + enable, 1, (*sleeper).leave, true},
		{"grant-access", "before " + planPolicy, 1, (*sleeper).leave, true},
		{"grant-access", "after " + planPolicy, 1, (*sleeper).leave, true},
		{"grant-access", "before " + setPolicy, 1, (*sleeper).leave, true},
		{"grant-access", "before " + setPolicy, 1, (*sleeper).stay, true},
		{"grant-access", "after " + setPolicy, 1, (*sleeper).leave, true},
		{"grant-access", "after " + setPolicy, 1, (*sleeper).stay, true},
		{"grant-access", "after " + donePolicy, 1, (*sleeper).leave, true},
		{"grant-access", "before " + write, 2, (*sleeper).stay, true},
		{"discover-project", "before store SaveResources", 1, (*sleeper).discover, true},
		{"discover-project", "before store DeleteResources project-001", 1, (*sleeper).discover, true},
		{"remove-access", "before store DeleteResources", 1, (*sleeper).comeBack, true},
	} {
		if c.full && !stacktest.Full() {
			continue
		}
		test := func(t *testing.T) {
			y := newSystem(t, shared, "user-"+connect.NewID(), mayDoAll(), fewRoles)
			s := &sleeper{system: y, instance: y.start(), user: y.person(y.user)}
			removal := c.step == "remove-access"
			if removal {
				s.connect(s.user)
				s.keep()
			}
			y.control(&fault{Since: "before queue Enqueue " + c.step, Moment: c.moment, Nth: c.nth, Signal: syscall.SIGSTOP})
			if removal {
				s.disconnect()
			} else if _, err := y.connect(s.user); err != nil {
				t.Fatal(err)
			}
			s.await(func(_, strikes int) bool { return strikes == 1 })
			y.start()
			s.idle()
			c.after(s)

			before, kept := y.google.Snapshot(), s.everything()
			s.wakeUp()
			if s.left { // what the removal left open is closed by the sweep
				s.wantGone()
			} else if diff := cmp.Diff(kept, s.everything()); diff != "" {
				t.Errorf("the sleeper changed (-before +after):\n%s", diff)
			}
			if diff := google.Diff(before, y.google.Snapshot()); len(diff) > 0 {
				t.Errorf("the sleeper changed at Google:\n%s", strings.Join(diff, "\n"))
			}
		}
		all.Go(func() { t.Run(fmt.Sprintf("%s %s %d", c.step, c.moment, c.nth), test) })
	}
}

// sleeper is an instance that falls asleep, and the system where it does so.
type sleeper struct {
	*system
	instance *instance
	user     *demo.User
	left     bool // the user has left with cleanup
}

// await waits for the sleeper.
func (s *sleeper) await(holds func(underWay, strikes int) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.instance.await(ctx, holds); err != nil {
		s.t.Fatal(err)
	}
}

// wakeUp has the sleeper go on, waits until what it sends has arrived, and sweeps.
func (s *sleeper) wakeUp() {
	s.t.Helper()
	calls := len(s.google.Calls())
	if err := s.instance.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
	s.await(func(underWay, _ int) bool { return underWay == 0 })
	s.quiet()
	for _, call := range s.google.Calls()[calls:] {
		s.t.Log("the sleeper called ", call)
	}
	if err := s.sweep(); err != nil {
		s.t.Fatal(err)
	}
}

// wantGone fails unless nothing is left of the user who has left, but the APIs.
func (s *sleeper) wantGone() {
	s.t.Helper()
	k, err := s.state()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range append(k.done, k.open...) {
		if c.Kind != connect.ChangeEnableAPI {
			s.t.Errorf("the ledger has %s as %s", keyOf(c), c.State)
		}
	}
	if k.tokens != 0 {
		s.t.Errorf("%d tokens are left in the Vault", k.tokens)
	}
	c, err := s.store.Connection(s.t.Context(), s.system.user)
	if err != nil || c.Connected || c.Holds() || len(c.Stale) > 0 || !c.LookAt.IsZero() {
		s.t.Errorf("the connection is %+v, %v", c, err)
	}
	x, err := s.store.Setup(s.t.Context(), c.SetupID)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range x.Projects {
		if x.State != connect.StateSucceeded || p.Removal != connect.OutcomeChanged || len(p.Errors) > 0 {
			s.t.Errorf("the removal ended with %s; %s is %s, %v", x.State, p.ID, p.Removal, p.Errors)
		}
	}
}

// idle waits until the queue is empty, which takes a lease and more.
func (s *sleeper) idle() {
	s.t.Helper()
	if err := s.system.idle(); err != nil {
		s.t.Fatal(err)
	}
}

// connect connects a user and waits until everything is set up.
func (s *sleeper) connect(u *demo.User) {
	s.t.Helper()
	if _, err := s.system.connect(u); err != nil {
		s.t.Fatal(err)
	}
	s.idle()
}

// disconnect has the user leave with cleanup.
func (s *sleeper) disconnect() {
	s.t.Helper()
	if err := s.call(s.user, http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", map[string]any{"cleanup": true}); err != nil {
		s.t.Fatal(err)
	}
}

// keep connects another user with the same Google account, for whose sake the
// grant is not revoked: the sleeper's tokens go on working.
func (s *sleeper) keep() {
	s.t.Helper()
	s.connect(s.person("another-" + s.system.user))
}

// stay does nothing.
func (s *sleeper) stay() {}

// leave has the user leave with cleanup, and the sleeper's tokens live.
func (s *sleeper) leave() {
	s.t.Helper()
	s.keep()
	s.disconnect()
	s.idle()
	s.left = true
}

// comeBack has the user connect anew.
func (s *sleeper) comeBack() {
	s.t.Helper()
	s.connect(s.user)
}

// discover has what there is discovered again.
func (s *sleeper) discover() {
	s.t.Helper()
	if err := s.call(s.user, http.StatusAccepted, http.MethodPost, "/api/gcp/discover", nil); err != nil {
		s.t.Fatal(err)
	}
	s.idle()
}

// everything is all that is kept, in lines.
func (s *sleeper) everything() []string {
	s.t.Helper()
	k, err := s.state()
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.Concat(k.lines, k.setup, google.Diff(google.Snapshot{}, s.google.Snapshot()))
}

// A user leaves with cleanup while a step is at work, and it will not hear of
// that before it has done what it is about to do. The cleanup waits for it, and
// so finds that too.
func TestCleanup_WaitsForRunningStep(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	var all sync.WaitGroup
	defer all.Wait()
	for step, moment := range map[string]string{
		"create-service-accounts": "before " + makeAccount, "grant-access": "after " + setPolicy, "update-org-policies": "after " + policyRead,
	} {
		test := func(t *testing.T) {
			y := newSystem(t, shared, "user-"+connect.NewID(), mayDoAll(), fewRoles)
			s := &sleeper{system: y, instance: y.start(), user: y.person(y.user)}
			if step != "update-org-policies" { // the other user would do it
				s.keep()
			}
			before := y.google.Snapshot()
			y.control(&fault{Since: "before queue Enqueue " + step, Moment: moment, Nth: 1, Signal: syscall.SIGSTOP})
			if _, err := y.connect(s.user); err != nil {
				t.Fatal(err)
			}
			s.await(func(_, strikes int) bool { return strikes == 1 })
			lease := s.current().Lease
			y.start()
			s.disconnect()
			if err := s.instance.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			s.idle()
			if began := s.current().Steps[0].StartedAt; !lease.ExpiresAt.Before(began) || lease.Holder == "" {
				t.Errorf("the cleanup began at %v, and the lease lasted until %v", began, lease.ExpiresAt)
			}
			if err := s.sweep(); err != nil {
				t.Fatal(err)
			}
			for _, line := range google.Diff(before, y.google.Snapshot()) {
				if !strings.Contains(line, " api ") && !strings.Contains(line, "consent ") {
					t.Errorf("left at Google: %s", line)
				}
			}
			s.wantGone()
		}
		all.Go(func() { t.Run(step, test) })
	}
}

// current is the user's newest setup.
func (s *sleeper) current() *connect.Setup {
	s.t.Helper()
	c, err := s.store.Connection(s.t.Context(), s.system.user)
	if err != nil {
		s.t.Fatal(err)
	}
	x, err := s.store.Setup(s.t.Context(), c.SetupID)
	if err != nil {
		s.t.Fatal(err)
	}
	return x
}
