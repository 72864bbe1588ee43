package setup_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/setup"
)

// sweep sweeps n times at once, as schedulers do that are late or impatient.
func (c *chain) sweep(n int) {
	c.t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := c.service.Sweep(c.t.Context()); err != nil {
				c.t.Error(err)
			}
		})
	}
	all.Wait()
}

// countEndings has the setups counted that the service ends, and returns how
// many of them came to an outcome.
func (c *chain) countEndings() func(outcome string) int64 {
	c.t.Helper()
	reader := metric.NewManualReader()
	var err error
	if c.service.Measures, err = setup.NewMeasures(metric.NewMeterProvider(metric.WithReader(reader))); err != nil {
		c.t.Fatal(err)
	}
	return func(outcome string) (n int64) {
		c.t.Helper()
		var all metricdata.ResourceMetrics
		if err := reader.Collect(c.t.Context(), &all); err != nil {
			c.t.Fatal(err)
		}
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				ended, _ := m.Data.(metricdata.Sum[int64])
				for _, p := range ended.DataPoints {
					if is, _ := p.Attributes.Value("outcome"); m.Name == "gcpconnect.setups" && is.AsString() == outcome {
						n += p.Value
					}
				}
			}
		}
		return n
	}
}

// lose drops the tasks that are enqueued and not delivered, as a queue that is purged.
func (c *chain) lose() { c.queue.tasks = c.queue.tasks[:0] }

func TestTheSweepGetsAStalledSetupMovingInEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range setup.Steps {
		t.Run(step.Name, func(t *testing.T) {
			t.Parallel()
			run(t, 2, func(c *chain, made *connect.Setup) {
				c.until(step.Name)
				lost := c.due()
				c.lose()
				time.Sleep(connect.Patience - time.Second)
				if c.sweep(2); len(c.queue.tasks) > 0 {
					t.Fatalf("before it has stalled it got %d tasks", len(c.queue.tasks))
				}
				time.Sleep(2 * time.Second)
				if c.sweep(2); len(c.queue.tasks) != 1 {
					t.Fatalf("it got %d tasks, want 1", len(c.queue.tasks))
				}
				if due := c.due(); due.Attempt != lost.Attempt+1 || due.Step != step.Name {
					t.Errorf("the task is %+v, want the attempt after %+v", due, lost)
				}
				if c.sweep(1); len(c.queue.tasks) != 1 {
					t.Errorf("while it waits it got %d tasks", len(c.queue.tasks))
				}
				c.wantTruth(c.finish(made.ID))
				if err := c.Handle(c.t.Context(), lost, setup.Delivery{}); err != nil { // it comes all the same
					t.Error(err)
				}
			})
		})
	}
}

func TestTheSweepGetsAStalledRemovalMoving(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]bool{"that has not begun": false, "that has begun": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 2, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				c.finish(made.ID)
				removal := c.remove()
				if begun {
					c.fault(emulated.Fault{Code: 503})
					if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
						t.Errorf("error = %v", err)
					}
					c.google.ClearFaults()
				}
				c.lose()
				time.Sleep(connect.Patience + 2*time.Minute)
				c.sweep(2)
				c.removed(c.finish(removal.ID), before)
			})
		})
	}
}

// What waits on purpose is not stalled, however long.
func TestTheSweepLeavesAloneWhatWaits(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.Settings.CheckInterval = time.Hour
		c.until("verify-permissions")
		c.google.ClearCalls()
		_, _, err := c.store.UpdateSetup(c.t.Context(), made.ID, func(_ *connect.Connection, s *connect.Setup) error {
			s.DueAt = time.Now().Add(time.Hour)
			s.Move(time.Now())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c.lose()
		for range 60 {
			time.Sleep(time.Minute)
			c.sweep(1)
		}
		if n := len(c.queue.tasks); n > 0 {
			t.Errorf("a setup that waits got %d tasks", n)
		}
		time.Sleep(connect.Patience + time.Second)
		if c.sweep(1); len(c.queue.tasks) != 1 {
			t.Error("and one that does not come back got none")
		}
	})
}

func TestASetupThatIsRevivedInVainFailsInWords(t *testing.T) {
	t.Parallel()
	for name, removal := range map[string]bool{"a setup": false, "a removal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 2, func(c *chain, made *connect.Setup) {
				id := made.ID
				if removal {
					c.finish(id)
					id = c.remove().ID
				} else {
					c.until("grant-access")
				}
				c.service.Settings.GiveUpAfter = 20 * time.Minute // the user's token lasts an hour
				ended := c.countEndings()
				began := time.Now()
				var s *connect.Setup
				for s == nil || !s.State.Ended() {
					c.lose() // whatever the sweep enqueues
					time.Sleep(time.Minute)
					c.sweep(1)
					var err error
					if s, err = c.store.Setup(c.t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took < c.service.Settings.GiveUpAfter || took > c.service.Settings.GiveUpAfter+2*connect.Patience {
					t.Errorf("it took %v", took)
				}
				if s.State != connect.StateFailed || s.Code != setup.CodeBroken || !strings.Contains(s.Message, "Retry it") {
					t.Errorf("it ended with %s %s %q", s.State, s.Code, s.Message)
				}
				if last := s.Steps; len(last) > 0 && last[len(last)-1].FinishedAt.IsZero() {
					t.Errorf("the step's record is open: %+v", last[len(last)-1])
				}
				if n := ended("failed"); n != 1 {
					t.Errorf("its end was counted %d times", n)
				}
				if removal {
					time.Sleep(2 * time.Minute)
					if c.sweep(2); len(c.vault.held) > 0 {
						t.Error("the tokens are left")
					}
					return
				}
				again, err := c.service.Restart(c.t.Context(), "user-1", nil)
				if err != nil {
					t.Fatal(err)
				}
				if s := c.finish(again.ID); s.State != connect.StateSucceeded {
					t.Errorf("the retry ended with %s %s", s.State, s.Message)
				}
			})
		})
	}
}

func TestTheSweepGetsAStalledDiscoveryMoving(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]bool{"and it ends": true, "or says that it cannot": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				c.finish(made.ID)
				body := c.queue.tasks[len(c.queue.tasks)-1].Body
				c.lose()
				c.store.afterSaveResources = func() { panic("the process dies") }
				if err := c.Discover(c.t.Context(), body, setup.Delivery{}); err == nil {
					t.Fatal("it did not die")
				}
				c.store.afterSaveResources = nil
				for range 200 {
					time.Sleep(time.Minute)
					c.sweep(2)
					tasks := c.queue.tasks
					if c.lose(); len(tasks) > 1 {
						t.Fatalf("it got %d tasks at once", len(tasks))
					}
					if comes && len(tasks) > 0 {
						if err := c.Discover(c.t.Context(), tasks[0].Body, setup.Delivery{}); err != nil {
							t.Error(err)
						}
					}
				}
				all, err := c.store.Discoveries(c.t.Context(), "user-1")
				if err != nil || len(all) != 1 {
					t.Fatal(all, err)
				}
				want := connect.DiscoveryFailed
				if comes {
					want = connect.DiscoveryDone
				}
				if d := all[0]; d.State != want || d.FinishedAt.IsZero() || !comes && !strings.Contains(d.Message, "stopped moving") {
					t.Errorf("the discovery is %+v", d)
				}
			})
		})
	}
}

func TestOneRecordsTroubleDoesNotKeepTheSweepFromOthers(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		c.lose()
		used := c.login("user-2")
		if _, err := c.vault.Put(c.t.Context(), used.Tokens(), connect.Token{Refresh: "r"}, 0); err != nil {
			t.Fatal(err)
		}
		// The record of the first of the logins that were not confirmed cannot be read.
		parked := []*connect.Login{c.parked("bad", "bad"), c.parked("user-3", "3"), c.parked("user-4", "4")}
		c.store.unreadable = "bad"
		c.interpose(func(ctx context.Context, m connecttest.Moment) error { // the others are still at work when it fails
			if m.String() == "before store UpdateLogin" {
				time.Sleep(time.Second)
			}
			return ctx.Err()
		})
		time.Sleep(15 * time.Minute)
		c.queue.fail = connect.Errorf(connect.Unavailable, "the queue is down")
		if err := c.service.Sweep(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		for _, l := range append(parked[1:], used) {
			if c.vault.held[l.Tokens()] {
				t.Errorf("the tokens of the login of %s are left", l.UserID)
			}
		}
		if !c.vault.held[parked[0].Tokens()] {
			t.Error("tokens were given up that may be a connection's")
		}
		c.store.unreadable = ""
		c.between.Store(nil)
		time.Sleep(connect.Patience + time.Second) // revived, and its task not enqueued
		c.sweep(1)
		c.wantTruth(c.finish(made.ID))
	})
}
