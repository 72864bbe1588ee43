package setup_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// left is what has changed at Google since a snapshot, but for APIs.
func (c *chain) left(before emulated.Snapshot) []string {
	return slices.DeleteFunc(emulated.Diff(before, c.google.Snapshot()), func(line string) bool { return strings.Contains(line, " api ") })
}

// remove starts the removal.
func (c *chain) remove() *connect.Setup {
	c.t.Helper()
	removal, err := c.service.Remove(c.t.Context(), "user-1", false)
	if err != nil {
		c.t.Fatal(err)
	}
	return removal
}

// removed checks that a removal has left nothing anywhere.
func (c *chain) removed(s *connect.Setup, before emulated.Snapshot) {
	c.t.Helper()
	if s.State != connect.StateSucceeded || len(s.Warnings) > 0 {
		c.t.Errorf("the removal ended with %s %s, %v", s.State, s.Message, s.Warnings)
	}
	for _, p := range s.Projects {
		if p.Removal != connect.OutcomeChanged || len(p.Errors) > 0 {
			c.t.Errorf("%s is %s, %v", p.ID, p.Removal, p.Errors)
		}
	}
	if left := c.left(before); len(left) > 0 {
		c.t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
	}
	for _, change := range c.changes() {
		if change.State != connect.ChangeUndone && change.Kind != connect.ChangeEnableAPI {
			c.t.Errorf("the change %s %s of %s is %s", change.Kind, change.Target, change.ProjectID, change.State)
		}
	}
	connection, err := c.store.Connection(c.t.Context(), "user-1")
	if err != nil || connection.Connected || connection.Holds() || len(connection.Stale) > 0 {
		c.t.Errorf("the connection is %+v, %v", connection, err)
	}
	if n := len(c.vault.held); n != 0 {
		c.t.Errorf("%d tokens are in the vault", n)
	}
}

// The execution is cut off after each of its calls to Google in turn, and
// after each of its writes to the ledger: the next one goes on, and in the end
// it is as if nothing had happened.
func TestARemovalThatIsCutOffAnywhereEndsAllTheSame(t *testing.T) {
	t.Parallel()
	const last = 12 // beyond which there is nothing to cut
	for cut := 1; cut <= last; cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			before := emulated.Snapshot{}
			runWith(t, 2, func(*emulated.Scenario) {}, func(c *chain, made *connect.Setup) {
				before = c.google.Snapshot()
				if s := c.finish(made.ID); s.State != connect.StateSucceeded {
					t.Fatalf("setup ended with %s", s.State)
				}
				removal := c.remove()
				ctx, cancel := context.WithCancel(c.t.Context())
				defer cancel()
				var mu sync.Mutex
				count := 0
				point := func() {
					mu.Lock()
					defer mu.Unlock()
					if count++; count == cut {
						cancel()
					}
				}
				c.afterCall = point
				c.store.beforeSaveChanges = func([]connect.Change) error { point(); return ctx.Err() }
				err := c.attempt(ctx)
				c.afterCall, c.store.beforeSaveChanges = nil, nil
				if ctx.Err() == nil && err != nil {
					t.Fatalf("uncut it fails: %v", err)
				}
				if cut == last && ctx.Err() != nil {
					t.Fatal("there is more to cut")
				}
				c.removed(c.finish(removal.ID), before)
			})
		})
	}
}

func TestARemovalWhoseCommitIsLostEndsAllTheSame(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		if s := c.finish(made.ID); s.State != connect.StateSucceeded {
			t.Fatalf("setup ended with %s", s.State)
		}
		removal := c.remove()
		// The tokens are gone, and the process dies before the commit.
		c.vault.lost = connect.Errorf(connect.Unavailable, "the answer is lost")
		if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		c.google.ClearCalls()
		s := c.finish(removal.ID)
		if calls := c.google.CallCounts(); calls.Total != 0 {
			t.Errorf("what was done was asked for again: %v", calls.ByMethod)
		}
		if s.State != connect.StateSucceeded {
			t.Errorf("the removal ended with %s %s", s.State, s.Message)
		}
	})
}

func TestARemovalThatCannotGoOnGivesTheTokensUp(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		if s := c.finish(made.ID); s.State != connect.StateSucceeded {
			t.Fatalf("setup ended with %s", s.State)
		}
		removal := c.remove()
		c.store.beforeSaveChanges = func([]connect.Change) error { return connect.Errorf(connect.Unavailable, "the database is down") }
		if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
			t.Fatal(err)
		}
		c.store.beforeSaveChanges = nil
		s, err := c.store.Setup(c.t.Context(), removal.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Projects) != 2 || s.Projects[0].Removal != connect.OutcomeFailed {
			t.Errorf("the removal ended with %+v", s)
		}
		time.Sleep(2 * time.Minute)
		if err := c.service.Sweep(c.t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(c.vault.held); n != 0 {
			t.Errorf("%d tokens are in the vault", n)
		}
	})
}

func TestTheSweepGivesUpWhatAnUnavailableVaultHeldUp(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, _ *connect.Setup) {
		c.vault.lost = connect.Errorf(connect.Unavailable, "sealed")
		if _, err := c.service.Disconnect(c.t.Context(), "user-1"); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		connection, err := c.store.Connection(c.t.Context(), "user-1")
		if err != nil || connection.Connected || len(connection.Stale) != 1 {
			t.Errorf("the connection is %+v, %v", connection, err)
		}
		time.Sleep(2 * time.Minute)
		for range 2 {
			if err := c.service.Sweep(c.t.Context()); err != nil {
				t.Error(err)
			}
		}
		if connection, err = c.store.Connection(c.t.Context(), "user-1"); err != nil || len(connection.Stale) != 0 || !connection.StaleAt.IsZero() {
			t.Errorf("the connection is %+v, %v", connection, err)
		}
	})
}
