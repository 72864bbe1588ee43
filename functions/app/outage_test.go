package app_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// dependency is what a call goes to: the database, the vault, the queue, an API
// of Google's, or its authorization server.
func dependency(m connecttest.Moment) string {
	if m.Part != strings.TrimPrefix(googleURL, "http://") {
		return m.Part
	}
	api, _, _ := strings.Cut(strings.TrimPrefix(m.About, "/"), "/")
	return "google's " + api
}

// outage is how a dependency fails. It is told how many calls there were before,
// and since when it is asked.
type outage func(ctx context.Context, calls int, since time.Duration) error

var errDown = connect.Errorf(connect.Unavailable, "It is down.")

var outages = map[string]outage{
	"absent for 30 s": func(_ context.Context, _ int, since time.Duration) error {
		if since < 30*time.Second {
			return errDown
		}
		return nil
	},
	"slow": func(ctx context.Context, _ int, _ time.Duration) error {
		return slow(ctx, 4*time.Second)
	},
	"failing half of the time for a minute": func(_ context.Context, calls int, since time.Duration) error {
		if since < time.Minute && calls%3 != 1 && calls%4 != 3 { // in no rhythm of the program's own
			return errDown
		}
		return nil
	},
}

// slow is a call that takes its time. One that is cut off is what an adapter
// makes of it.
func slow(ctx context.Context, d time.Duration) error {
	if pause(ctx, d) != nil {
		return errDown
	}
	return nil
}

// fail has one dependency fail for one function.
func fail(function, part string, how outage) func(*harness) {
	var mu sync.Mutex
	calls, began := 0, time.Time{}
	return func(w *harness) {
		w.between = func(ctx context.Context, m connecttest.Moment) error {
			name, _, _ := strings.Cut(w.moment(ctx, m), ":")
			if m.After || name != function || dependency(m) != part {
				return nil
			}
			mu.Lock()
			if began.IsZero() {
				began = time.Now()
			}
			n, since := calls, time.Since(began)
			calls++
			mu.Unlock()
			return how(ctx, n, since)
		}
	}
}

// Each dependency fails, in each way, in each function that needs it. Users are
// told to come back, the setup ends as if nothing had been, and nothing is lost.
func TestDependency_OutageLosesNothing(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]scenario{
		"connecting": {scenario: func() *google.Scenario { return googleScenario(2) }, act: connecting},
		"leaving": {
			scenario: func() *google.Scenario { return googleScenario(2) }, act: leaving, only: []string{"api/gcp/force-disconnect", "remove-access"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needed := map[string]map[string]bool{}
			var want state
			synctest.Test(t, func(t *testing.T) {
				want = s.play(t.Context(), t, func(w *harness) {
					w.between = func(ctx context.Context, m connecttest.Moment) error {
						function, _, _ := strings.Cut(w.moment(ctx, m), ":")
						w.mu.Lock()
						defer w.mu.Unlock()
						if needed[function] == nil {
							needed[function] = map[string]bool{}
						}
						needed[function][dependency(m)] = true
						return nil
					}
				})
			})
			delete(needed, "sweep") // which is called again in a minute
			type outageCase struct{ function, part, how string }
			var cases []outageCase
			for _, function := range slices.Sorted(maps.Keys(needed)) {
				if len(s.only) > 0 && !slices.Contains(s.only, function) {
					continue
				}
				for _, part := range slices.Sorted(maps.Keys(needed[function])) {
					for _, how := range slices.Sorted(maps.Keys(outages)) {
						cases = append(cases, outageCase{function, part, how})
					}
				}
			}
			for _, c := range stacktest.Sample(t, cases, 12) {
				t.Run(fmt.Sprintf("%s, %s %s", c.function, c.part, c.how), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						got := s.play(t.Context(), t, fail(c.function, c.part, outages[c.how]))
						if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
							t.Errorf("the end differs (-undisturbed +now):\n%s", diff)
						}
					})
				})
			}
		})
	}
}
