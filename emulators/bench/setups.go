package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack"
)

// predecessor is what the connector that this one replaces took under the same latencies, by the
// number of projects.
var predecessor = map[int]float64{1: 149, 5: 321, 20: 916, 50: 2255} // seconds

// Setup is what a setup took.
type Setup struct {
	Projects   int
	Seconds    float64 // from the start of the login to the end of the setup
	Floor      float64 // the least possible
	Ratio      float64
	Calls      int // to Google, discovery included
	PerProject float64
	ByMethod   map[string]int
	Writes     int     // the calls among Calls that change something
	Busy       float64 // seconds of requests to step functions: what an instance is paid for
	State      stack.Counts
	Original   float64 `json:",omitempty"` // seconds of the predecessor
	Faster     float64 `json:",omitempty"`
}

// poll is the interval at which the frontend polls a setup.
const poll = 5 * time.Second

// setupSizes are the numbers of projects of the measured setups.
var setupSizes = []int{1, 5, 20, 50, 200, 1000}

// measureSetups measures setups and crowds by the wall clock, all at the same time: they spend
// nearly all of it waiting for the emulated Google.
func (b *bench) measureSetups(ctx context.Context) error {
	setups, crowds := make([]Setup, len(setupSizes)), make([]Crowd, len(allCrowds))
	var again Setup
	group, measuring := errgroup.WithContext(ctx)
	delay := time.Duration(0)
	spawn := func(measure func() error) { // staggered, so that the logins do not compete
		wait := delay
		delay += time.Second
		group.Go(func() error {
			if err := sleep(measuring, wait); err != nil {
				return err
			}
			return measure()
		})
	}
	limits := func() map[string]string {
		return map[string]string{"MAX_AUTO_PROJECTS": "1000", "MAX_SELECTED_PROJECTS": "1000"}
	}
	for i, n := range setupSizes {
		spawn(func() (err error) {
			setups[i], err = measureSetup(measuring, newScenario(n), n, false, limits())
			return err
		})
	}
	spawn(func() (err error) {
		again, err = measureSetup(measuring, newScenario(50), 50, true, limits())
		return err
	})
	for i, c := range allCrowds {
		spawn(func() (err error) {
			crowds[i], err = c.measure(measuring)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	b.report.Setups, b.report.SecondRun, b.report.Crowds = setups, again, crowds
	for _, s := range setups {
		if s.Projects == 5 {
			b.report.Cost = costOf(s)
		}
	}
	return nil
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// floor is the least time that any connector can take under the contract's latencies: the longest
// chain of calls of which each needs the result of the one before, and the propagation of the last
// grant, checked at once and then every 30 s. Google's quotas are not part of it.
func floor() time.Duration {
	read := time.Duration(contractLatencies.Read)
	write := time.Duration(contractLatencies.IAMWrite)
	create := time.Duration(contractLatencies.CreateAccount)
	chain := read + // exchange the code for tokens
		read + // list the projects
		read + // read their billing, which decides the root project
		create + // create the agent account
		write // grant its roles, which Google refuses before the account exists
	return chain + 2*30*time.Second + // checks until 60 s of propagation are over
		read + // get a token of the agent account
		read // test its permissions in the projects
}

// measureSetup connects the n projects of a scenario with everything in memory. With again it
// measures a second setup of the same projects.
func measureSetup(
	ctx context.Context, s *google.Scenario, n int, again bool, environment map[string]string,
) (m Setup, err error) {
	var busy atomic.Int64 // nanoseconds
	network := newInterceptor(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if began := time.Now(); strings.HasPrefix(r.URL.Path, "/tasks/") {
			defer func() { busy.Add(int64(time.Since(began))) }()
		}
		return next.RoundTrip(r)
	})
	y, err := startSystem(ctx, stack.Options{Scenario: s, Environment: environment, Network: network})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, y.Stop(ctx)) }()
	if again {
		if _, err := y.setUp(ctx, n, poll); err != nil {
			return m, err
		}
	}
	callsBefore, stateBefore, busyBefore := y.Google.CallCounts(), y.Counts(), busy.Load()
	began := time.Now()
	var task string
	if again {
		task, err = y.restart(ctx, n)
	} else {
		task, err = login(ctx, y.user, "")
	}
	if err != nil {
		return m, err
	}
	final, err := awaitFull(ctx, y.user, task, n, poll)
	if err != nil {
		return m, err
	}
	ended, err := finished(final)
	if err != nil {
		return m, err
	}
	if err := y.Idle(ctx); err != nil { // discovery
		return m, err
	}
	calls := y.Google.CallCounts()
	m = Setup{
		Projects: n, Seconds: ended.Sub(began).Seconds(), Floor: floor().Seconds(),
		Calls: calls.Total - callsBefore.Total, Writes: calls.Writes - callsBefore.Writes,
		ByMethod: maps.Clone(calls.ByMethod),
		Busy:     time.Duration(busy.Load() - busyBefore).Seconds(),
		State:    difference(y.Counts(), stateBefore),
	}
	for method, calls := range callsBefore.ByMethod {
		if m.ByMethod[method] -= calls; m.ByMethod[method] == 0 {
			delete(m.ByMethod, method)
		}
	}
	m.Ratio, m.PerProject = m.Seconds/m.Floor, float64(m.Calls)/float64(n)
	if seconds, ok := predecessor[n]; ok {
		m.Original, m.Faster = seconds, seconds/m.Seconds
	}
	return m, nil
}

// difference returns what was counted since before.
func difference(after, before stack.Counts) stack.Counts {
	return stack.Counts{
		Transactions: after.Transactions - before.Transactions,
		Reads:        after.Reads - before.Reads,
		Writes:       after.Writes - before.Writes,
		Deletes:      after.Deletes - before.Deletes,
		Tasks:        after.Tasks - before.Tasks,
		VaultCalls:   after.VaultCalls - before.VaultCalls,
		TokenWrites:  after.TokenWrites - before.TokenWrites,
		TokenDeletes: after.TokenDeletes - before.TokenDeletes,
	}
}

// restart starts a setup of the first n projects of a scenario.
func (y *system) restart(ctx context.Context, n int) (task string, err error) {
	var selected []string
	for i := 1; i <= n; i++ {
		selected = append(selected, fmt.Sprintf("project-%03d", i))
	}
	answer, err := y.user.Call(ctx, http.MethodPost, "/gcp/post-auth-retry",
		map[string]any{"selected_project_ids": selected})
	if err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK {
		return "", fmt.Errorf("the second setup answered %d %s", answer.Status, answer.Body)
	}
	var started struct {
		TaskID string `json:"task_id"`
	}
	err = answer.Decode(&started)
	return started.TaskID, err
}
