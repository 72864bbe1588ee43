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
func TestTasksInEveryOrderDoEverythingOnce(t *testing.T) {
	t.Parallel()
	s := story{scenario: func() *google.Scenario { return scenario(2) }, tell: leaving, rest: 75 * time.Minute} // what is late has come
	var want state
	var wantWrites int
	synctest.Test(t, func(t *testing.T) {
		var all *world
		want = s.play(t.Context(), t, func(w *world) { all = w })
		wantWrites = all.google.CallCounts().Writes
	})
	for name, disturb := range map[string]func(*world, context.Context){
		"each twice at the same moment": func(w *world, _ context.Context) {
			w.deliver = (*delivery).twice
		},
		"each again a moment later": func(w *world, _ context.Context) {
			w.deliver = func(d *delivery) (*http.Response, error) {
				response, err := d.deliver()
				time.Sleep(100 * time.Millisecond)
				_, _ = d.deliver()
				return response, err
			}
		},
		"the first of each step an hour late": func(w *world, ctx context.Context) {
			w.deliver = func(d *delivery) (*http.Response, error) {
				if d.attempt() > 0 {
					return d.deliver()
				}
				w.zombies.Go(func() {
					if pause(ctx, time.Hour) == nil {
						_, _ = d.deliverIn(ctx)
					}
				})
				return noContent(), nil
			}
		},
		"all before again with each, in reverse": func(w *world, _ context.Context) {
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
				var all *world
				got := s.play(t.Context(), t, func(w *world) {
					all = w
					disturb(w, t.Context())
				})
				if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
					t.Errorf("the world differs (-in order +now):\n%s", diff)
				}
				if n := all.google.CallCounts().Writes; n > wantWrites {
					t.Errorf("%d writes at Google, want at most %d", n, wantWrites)
				}
			})
		})
	}
}

// An execution stops for five minutes at each write in turn, longer than its
// lease, and wakes up when another has done its work and the next steps. What
// it still does then does not count.
func TestAnExecutionThatOverslept(t *testing.T) {
	t.Parallel()
	steps := []string{"enable-apis", "create-service-accounts", "grant-access", "update-org-policies", "remove-access"}
	s := story{scenario: func() *google.Scenario { return scenario(1) }, tell: leaving, only: steps}
	moments, want := s.moments(t)
	for _, moment := range moments {
		if !strings.Contains(moment, "SaveChanges") && !strings.Contains(moment, "UpdateSetup") && !strings.Contains(moment, "google POST") && !strings.Contains(moment, "google DELETE") {
			continue
		}
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var slept atomic.Bool
				got := s.play(t.Context(), t, func(w *world) {
					w.between = func(ctx context.Context, m connecttest.Moment) error {
						if w.moment(ctx, m) == moment && !slept.Swap(true) {
							time.Sleep(5 * time.Minute) // whatever its context says
						}
						return nil
					}
				})
				if !slept.Load() {
					t.Error("nobody slept")
				}
				if diff := cmp.Diff(want.comparable(), got.comparable()); diff != "" {
					t.Errorf("the world differs (-undisturbed +now):\n%s", diff)
				}
			})
		})
	}
}
