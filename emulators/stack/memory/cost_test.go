package memory_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

// contractLatencies are those under which the connector's predecessor was measured: reads 80 ms,
// IAM writes 250 ms, account creation 500 ms, batchEnable 250 ms and a 15 s operation. The 60 s of
// propagation are part of the scenario.
var contractLatencies = google.Latencies{
	Read: googletest.Milliseconds(80), IAMWrite: googletest.Milliseconds(250), CreateAccount: googletest.Milliseconds(500),
	BatchEnable: googletest.Milliseconds(250), OAuth: googletest.Milliseconds(80), Operation: googletest.Seconds(15),
}

// likeTheOriginal makes Google take the time that the predecessor was measured with.
func likeTheOriginal(s *google.Scenario) {
	s.Latencies = contractLatencies
	googletest.OnlyServiceUsage(s) // two batches to enable
}

// leastTime is the least virtual time of a setup under contractLatencies, as the package
// emulators/bench computes it: the longest chain of calls that need one another's results, and 60 s
// of propagation, checked at once and then every 30 s.
const leastTime = 3*80*time.Millisecond + // code for tokens, projects, billing
	500*time.Millisecond + 250*time.Millisecond + // agent account, its roles
	60*time.Second + 2*80*time.Millisecond // propagation; token and check of the agent

// setupCost is what a setup takes of Google.
type setupCost struct {
	virtual time.Duration
	calls   google.Counts
}

// costOfSetup connects n projects in virtual time. With again it returns the cost of a second setup
// of the same projects.
func costOfSetup(t *testing.T, n int, again bool) setupCost {
	t.Helper()
	var cost setupCost
	limits := map[string]string{"MAX_AUTO_PROJECTS": "1000", "MAX_SELECTED_PROJECTS": "1000"}
	stacktest.Run(t, googletest.Scenario(n, likeTheOriginal), limits, func(y *stacktest.System) {
		idle := func() {
			if err := y.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began, task, before := time.Now(), y.Connect(), google.Counts{}
		if again {
			y.WantSuccess(y.Await(task), n, n)
			idle()
			before = y.Google.CallCounts()
			var selected []string
			for i := 1; i <= n; i++ {
				selected = append(selected, fmt.Sprintf("project-%03d", i))
			}
			began, task = time.Now(), y.Restart(selected...)
		}
		final := y.Await(task)
		y.WantSuccess(final, n, n)
		cost.virtual = final.Steps[len(final.Steps)-1].Finished.Sub(began)
		idle() // discovery
		cost.calls = y.Google.CallCounts()
		cost.calls.Total -= before.Total
		cost.calls.Writes -= before.Writes
		cost.calls.ByMethod = maps.Clone(cost.calls.ByMethod)
		for method, calls := range before.ByMethod {
			cost.calls.ByMethod[method] -= calls
		}
	})
	return cost
}

// A setup of 50 projects takes the time of Google that one project takes. The clock is virtual: it
// counts Google's latencies and the setup's own waiting, not the machine's work.
func TestSetup_TakesAsLongAsGoogleDoes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 50} {
		cost := costOfSetup(t, n, false)
		t.Logf("%d projects: %v, at least %v; %d calls", n, cost.virtual, leastTime, cost.calls.Total)
		if cost.virtual > leastTime*105/100 {
			t.Errorf("%d projects take %v, more than 1.05 times %v", n, cost.virtual, leastTime)
		}
		if cost.calls.Total > 11*n+25 {
			t.Errorf("%d projects take %d calls: %v", n, cost.calls.Total, cost.calls.ByMethod)
		}
	}
}

// A second setup of the same projects changes nothing at Google.
func TestSetup_SecondRunWritesNothing(t *testing.T) {
	t.Parallel()
	const n = 50
	cost := costOfSetup(t, n, true)
	discovery := cost.calls.ByMethod["cloudasset.searchAllResources"]
	if cost.calls.Writes > 0 || cost.calls.Total-discovery > 5*n+25 {
		t.Errorf("a second setup of %d projects takes %d calls, of which %d write: %v",
			n, cost.calls.Total, cost.calls.Writes, cost.calls.ByMethod)
	}
}
