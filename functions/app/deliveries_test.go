package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect/connecttest"
)

// noContent answers the queue in the program's place: the task is gone.
func noContent() *http.Response {
	return &http.Response{StatusCode: http.StatusNoContent, Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}}
}

// attempt is how often the task's step was tried before, by the task's own
// word.
func (d *delivery) attempt() int {
	var t struct{ Attempt int }
	_ = json.Unmarshal(d.body, &t) // every task has one
	return t.Attempt
}

// However tasks are delivered, everything is done, and nothing twice.
func TestTasks_AnyDeliveryOrderWorksOnce(t *testing.T) {
	t.Parallel()
	s := scenario{scenario: func() *google.Scenario { return googleScenario(2) }, act: leaving, rest: 75 * time.Minute} // what is late has come
	var want state
	var wantWrites int
	synctest.Test(t, func(t *testing.T) {
		var all *harness
		want = s.play(t.Context(), t, func(w *harness) { all = w })
		wantWrites = all.google.CallCounts().Writes
	})
	for name, disturb := range map[string]func(*harness, context.Context){
		"each twice at the same moment": func(w *harness, _ context.Context) {
			w.deliver = (*delivery).twice
		},
		"each again a moment later": func(w *harness, _ context.Context) {
			w.deliver = func(d *delivery) (*http.Response, error) {
				response, err := d.deliver()
				time.Sleep(100 * time.Millisecond)
				_, _ = d.deliver()
				return response, err
			}
		},
		"the first of each step an hour late": func(w *harness, ctx context.Context) {
			w.deliver = func(d *delivery) (*http.Response, error) {
				if d.attempt() > 0 {
					return d.deliver()
				}
				w.orphans.Go(func() {
					if pause(ctx, time.Hour) == nil {
						_, _ = d.deliverIn(ctx)
					}
				})
				return noContent(), nil
			}
		},
		"all before again with each, in reverse": func(w *harness, _ context.Context) {
			w.deliver = func(d *delivery) (*http.Response, error) {
				w.mu.Lock()
				before := slices.Clone(w.tasks)
				w.mu.Unlock()
				slices.Reverse(before)
				for _, old := range before {
					if old != d {
						_, _ = old.deliverIn(d.request.Context())
					}
				}
				return d.deliver()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var all *harness
				got := s.play(t.Context(), t, func(w *harness) {
					all = w
					disturb(w, t.Context())
				})
				if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
					t.Errorf("the end differs (-in order +now):\n%s", diff)
				}
				if n := all.google.CallCounts().Writes; n > wantWrites {
					t.Errorf("%d writes at Google, want at most %d", n, wantWrites)
				}
			})
		})
	}
}

// An execution is suspended for five minutes at each write in turn, which is
// longer than its lease. It continues when another execution has done its work and
// the next steps. Its later writes change nothing.
func TestExecution_SuspendedBeyondLeaseChangesNothing(t *testing.T) {
	t.Parallel()
	steps := []string{"enable-apis", "create-service-accounts", "grant-access", "update-org-policies", "remove-access"}
	s := scenario{scenario: func() *google.Scenario { return googleScenario(1) }, act: leaving, only: steps}
	moments, want := s.moments(t)
	writes := slices.DeleteFunc(moments, func(moment string) bool {
		return !strings.Contains(moment, "SaveChanges") && !strings.Contains(moment, "UpdateSetup") && !strings.Contains(moment, "google POST") && !strings.Contains(moment, "google DELETE")
	})
	for _, moment := range stacktest.Sample(t, writes, 12) {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var suspended atomic.Bool
				got := s.play(t.Context(), t, func(w *harness) {
					w.between = func(ctx context.Context, m connecttest.Moment) error {
						if w.moment(ctx, m) == moment && !suspended.Swap(true) {
							time.Sleep(5 * time.Minute) // whatever its context says
						}
						return nil
					}
				})
				if !suspended.Load() {
					t.Error("no execution was suspended")
				}
				if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
					t.Errorf("the end differs (-undisturbed +now):\n%s", diff)
				}
			})
		})
	}
}
