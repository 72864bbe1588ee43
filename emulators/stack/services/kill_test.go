package services_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack/stacktest"
)

// someDeaths are how many moments of a setup are tried, and as many of a removal,
// unless all are.
const someDeaths = 6

// fewRoles are enough to be granted, checked and used.
var fewRoles = map[string]string{
	"AGENT_ROLES": "roles/run.admin,roles/cloudasset.viewer,roles/serviceusage.serviceUsageConsumer", "ASK_ROLES": "roles/viewer",
}

// parallelSystems are how many systems a test of many runs uses side by side.
const parallelSystems = 6

// outcome is the state of a connection at its end, and what led there.
type outcome struct {
	// What the instance met until everything was set up, and from the
	// disconnect on.
	setup, removal     []string
	connected, removed kept
	tasks              map[string]int // by function: how many were done
	logins             int            // how often the user had to log in
}

// runLifecycle has a user connect, and leave with cleanup. The instance has a fault in
// each.
func (y *system) runLifecycle(setup, removal fault) (l outcome, err error) {
	if err := y.renew(); err != nil {
		return l, err
	}
	y.control(&setup)
	user := y.person(y.user)
	if l.logins, err = y.connect(user); err != nil {
		return l, err
	}
	if err := errors.Join(y.idle(), y.sweep()); err != nil {
		return l, err
	}
	if l.connected, err = y.state(); err != nil {
		return l, err
	}
	l.setup = y.control(&removal)
	if err := y.call(user, http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", map[string]any{"cleanup": true}); err != nil {
		return l, err
	}
	if err := errors.Join(y.idle(), y.sweep()); err != nil {
		return l, err
	}
	if l.removed, err = y.state(); err != nil {
		return l, err
	}
	l.removal = y.control(nil)
	y.mu.Lock()
	defer y.mu.Unlock()
	l.tasks = map[string]int{}
	for function, done := range y.done {
		l.tasks[function] = len(done)
		for name, times := range done {
			if times > 1 {
				err = errors.Join(err, fmt.Errorf("task %s of %s was done %d times", name, function, times))
			}
		}
	}
	if kills := min(1, int(setup.Signal)) + min(1, int(removal.Signal)); y.kills != kills {
		err = errors.Join(err, fmt.Errorf("%d instances died, want %d", y.kills, kills))
	}
	return l, errors.Join(err, y.wantTruth(l.connected, l.logins > 1), y.wantTruth(l.removed, l.logins > 1))
}

// mayDoAll is a Google with one project, where the user may and must change
// an organization policy.
func mayDoAll() *google.Scenario {
	return googletest.Scenario(1, func(s *google.Scenario) {
		const constraint = "iam.allowedPolicyMemberDomains"
		own := google.PolicySpec{Rules: []google.PolicyRule{{Values: &google.StringValues{AllowedValues: []string{"C0example"}}}}}
		s.Organizations[0].Bindings = []google.Binding{{Role: "roles/orgpolicy.policyAdmin", Members: []string{"user:" + googletest.Owner}}}
		googletest.Project(s, "project-001").OrgPolicies = map[string]google.PolicySpec{constraint: own}
		s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
	})
}

// A process is killed at moments at which it calls something or has called it, with
// -full at each in turn, from the login to the end of the cleanup. It is started again,
// tasks are delivered again, and the user repeats what was not answered. Then
// everything is as if nothing had happened.
func TestProcess_KilledAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.OwnVault(t)} // its tokens are counted
	systems := make(chan *system, parallelSystems)
	for n := range parallelSystems {
		y := newSystem(t, shared, fmt.Sprintf("user-%d", n+1), mayDoAll(), fewRoles)
		y.supervise()
		systems <- y
	}
	first := <-systems
	whole, err := first.runLifecycle(fault{}, fault{})
	systems <- first
	if err != nil {
		t.Fatalf("with nobody killed: %v", err)
	}
	if whole.connected.tokens != 1 || whole.removed.tokens != 0 || len(whole.connected.done) == 0 || len(whole.connected.open)+len(whole.removed.open) != 0 {
		t.Fatalf("with nobody killed, connected: %v\nremoved: %v", whole.connected, whole.removed)
	}
	// Two kills in one connection's lifecycle, far from each other, take half the
	// time of two lifecycles.
	setup, removal := kills(whole.setup), kills(whole.removal)
	setup, removal = stacktest.Sample(t, setup, someDeaths), stacktest.Sample(t, removal, someDeaths)
	var group sync.WaitGroup
	for i := range max(len(setup), len(removal)) {
		var one, other fault
		if i < len(setup) {
			one = setup[i]
		}
		if i < len(removal) {
			other = removal[i]
		}
		y := <-systems
		group.Go(func() {
			defer func() { systems <- y }()
			l, err := y.runLifecycle(one, other)
			if err == nil {
				err = whole.compare(l)
			}
			if err != nil {
				t.Errorf("%v, %v: %v", one, other, err)
			}
		})
	}
	group.Wait()
	if left := stacktest.CountTokens(t, stacktest.VaultRoot(t, shared.vault)); left > 0 {
		t.Errorf("%d tokens are left in the Vault, and all users have left", left)
	}
	t.Logf("killed at %d of %d moments of a setup and %d of %d of a removal", len(setup), len(whole.setup), len(removal), len(whole.removal))
}

// kills are those at each of the moments.
func kills(moments []string) []fault {
	var all []fault
	times := map[string]int{}
	for _, moment := range moments {
		times[moment]++
		all = append(all, fault{Moment: moment, Nth: times[moment], Signal: syscall.SIGKILL})
	}
	return all
}

// compare returns an error that says in what another outcome differs.
func (l *outcome) compare(other outcome) error {
	var faults []error
	same := func(what string, want, got any) {
		if diff := cmp.Diff(want, got); diff != "" {
			faults = append(faults, fmt.Errorf("%s (-whole +killed):\n%s", what, diff))
		}
	}
	same("connected", l.connected.lines, other.connected.lines)
	same("removed", l.removed.lines, other.removed.lines)
	if other.logins == 1 { // otherwise two setups share the work
		same("setup", l.connected.setup, other.connected.setup)
		same("removal", l.removed.setup, other.removed.setup)
		same("tasks done", l.tasks, other.tasks)
	}
	return errors.Join(faults...)
}
