package setup_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

func TestChainRunsStepByStepAndKeepsALedger(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		s := c.finish(made.ID)
		if s.State != connect.StateSucceeded || s.Verified() != 2 || s.Progress != 100 {
			t.Fatalf("setup ended with %s %s, %d verified", s.State, s.Message, s.Verified())
		}
		kinds := map[connect.ChangeKind]int{}
		for _, change := range c.changes() {
			if change.State != connect.ChangeDone || change.DoneAt.IsZero() || change.SetupID != made.ID {
				t.Errorf("change %s %s of %s is %s", change.Kind, change.Target, change.ProjectID, change.State)
			}
			kinds[change.Kind]++
		}
		grants := len(setup.DefaultAgentRoles()) + len(setup.DefaultAskRoles())
		if kinds[connect.ChangeCreateAccount] != 2 || kinds[connect.ChangeAddBinding] != 2*grants+2 || kinds[connect.ChangeEnableAPI] == 0 || kinds[connect.ChangeOrgPolicy] != 0 {
			t.Errorf("the ledger has %v", kinds)
		}
		if len(c.changes()) != s.ChangesMade {
			t.Errorf("%d changes are counted, the ledger has %d", s.ChangesMade, len(c.changes()))
		}
	})
}

func TestEnqueueThatFailedAfterTheCommitIsMadeUpByTheSameTask(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		for _, step := range setup.Steps[:len(setup.Steps)-1] { // the last enqueues before its commit
			c.until(step.Name)
			task := c.due()
			c.queue.fail = connect.Errorf(connect.Unavailable, "the queue is down")
			if err := c.Handle(c.t.Context(), task, setup.Delivery{}); connect.CodeOf(err) != connect.Unavailable {
				t.Fatalf("%s: %v, want that the task comes back", step.Name, err)
			}
			if c.due() != task {
				t.Fatalf("%s: the next task is there already", step.Name)
			}
			c.google.ClearCalls()
			c.deliver() // the same task again
			if c.due() == task {
				t.Fatalf("%s: the next task was not made up for", step.Name)
			}
			if n := c.google.CallCounts().Total; n != 0 {
				t.Errorf("%s: the repeated task made %d calls to Google", step.Name, n)
			}
		}
		if s := c.finish(made.ID); s.State != connect.StateSucceeded {
			t.Errorf("setup ended with %s %s", s.State, s.Message)
		}
	})
}

func TestDiscoveryThatCouldNotBeHandedOverIsTriedAgain(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		c.until("discover-resources")
		c.queue.fail = connect.Errorf(connect.Unavailable, "the queue is down")
		if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{}); connect.CodeOf(err) != connect.Unavailable {
			t.Fatalf("error = %v", err)
		}
		if s := c.finish(made.ID); s.State != connect.StateSucceeded {
			t.Errorf("setup ended with %s %s", s.State, s.Message)
		}
		discoveries := 0
		for _, task := range c.queue.tasks {
			if task.Function == setup.DiscoverFunction {
				discoveries++
			}
		}
		if discoveries != 2 {
			t.Errorf("%d discovery tasks, want one a project", discoveries)
		}
	})
}

func TestLeaseOfADeadExecutionEndsByItself(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		task := c.due()
		// An execution claims, and its process dies.
		_, _, err := c.store.UpdateSetup(c.t.Context(), made.ID, func(_ *connect.Connection, s *connect.Setup) error {
			s.Lease = connect.Lease{Holder: "dead", ExpiresAt: time.Now().Add(90 * time.Second)}
			s.Executions++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Handle(c.t.Context(), task, setup.Delivery{}); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v while the lease is held, want that the task comes back", err)
		}
		time.Sleep(90 * time.Second)
		if s := c.finish(made.ID); s.State != connect.StateSucceeded {
			t.Errorf("setup ended with %s %s", s.State, s.Message)
		}
	})
}

func TestOverrunHolderCommitsNothing(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		// While the step is at work, its lease passes to another.
		c.store.beforeSaveChanges = func([]connect.Change) error {
			c.store.beforeSaveChanges = nil
			_, _, err := c.store.UpdateSetup(c.t.Context(), made.ID, func(_ *connect.Connection, s *connect.Setup) error {
				s.Lease.Holder = "another"
				return nil
			})
			return err
		}
		if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v, want that the task comes back and finds out how things stand", err)
		}
		s, err := c.store.Setup(c.t.Context(), made.ID)
		if err != nil || s.Step != "grant-access" || s.Lease.Holder != "another" {
			t.Errorf("step %s, lease of %s, %v: the overrun execution committed", s.Step, s.Lease.Holder, err)
		}
	})
}

func TestCrashBetweenAChangeAndItsRecordIsMendedInTheLedger(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"enable-apis", "create-service-accounts", "grant-access"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				c.until(step)
				died := false
				c.store.beforeSaveChanges = func(changes []connect.Change) error {
					if changes[0].State == connect.ChangeDone {
						died = true
					}
					if died { // from the first change that was made on, nothing is recorded
						return connect.Errorf(connect.Unavailable, "the store is down")
					}
					return nil
				}
				err := c.Handle(c.t.Context(), c.due(), setup.Delivery{})
				c.store.beforeSaveChanges = nil
				if step != "enable-apis" && (!died || connect.CodeOf(err) != connect.Unavailable) {
					t.Fatalf("the step did not fail: %v", err)
				}
				writes := c.google.CallCounts().Writes
				s := c.finish(made.ID)
				if s.State != connect.StateSucceeded {
					t.Fatalf("setup ended with %s %s", s.State, s.Message)
				}
				if writes == 0 {
					t.Error("nothing had been written at Google before the crash")
				}
				for _, change := range c.changes() {
					if change.State != connect.ChangeDone {
						t.Errorf("%s %s of %s is %s in the ledger and stands at Google", change.Kind, change.Target, change.ProjectID, change.State)
					}
				}
				if n := c.google.CallCounts().ByMethod["iam.serviceAccounts.create"]; n > 3 {
					t.Errorf("accounts were created %d times", n)
				}
			})
		})
	}
}

func TestLastDeliveryRecordsTheFailure(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("create-service-accounts")
		c.store.beforeSaveChanges = func([]connect.Change) error { return errors.New("a defect") }
		if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{}); err == nil {
			t.Fatal("the first delivery is done with")
		}
		if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
			t.Fatalf("the last delivery: %v", err)
		}
		s, err := c.store.Setup(c.t.Context(), made.ID)
		if err != nil || s.State != connect.StateFailed || s.Code != setup.CodeBroken || s.Message == "" {
			t.Errorf("setup is %s %s %q, %v", s.State, s.Code, s.Message, err)
		}
		if strings.Contains(s.Message, "a defect") {
			t.Errorf("people are shown the defect's own words: %s", s.Message)
		}
	})
}

func TestTasksOfAnOlderGenerationDoNothing(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		task := c.due()
		if _, err := c.service.Disconnect(c.t.Context(), "user-1"); err != nil {
			t.Fatal(err)
		}
		c.google.ClearCalls()
		if err := c.Handle(c.t.Context(), task, setup.Delivery{}); err != nil {
			t.Errorf("the late task: %v", err)
		}
		if n := c.google.CallCounts().Total; n != 0 {
			t.Errorf("the late task made %d calls", n)
		}
		s, err := c.store.Setup(c.t.Context(), made.ID)
		if err != nil || s.State != connect.StateCanceled {
			t.Errorf("setup is %s, %v", s.State, err)
		}
	})
}

// A setup that is running, with nothing in its own state that would end it:
// the task's generation and the connection's decide alone.
func TestTasksOfAnotherGenerationDoNothing(t *testing.T) {
	t.Parallel()
	connection := func(change func(*connect.Connection)) func(*chain, *setup.Task) {
		return func(c *chain, _ *setup.Task) {
			if _, err := c.store.UpdateConnection(c.t.Context(), "user-1", func(now *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				change(now)
				return nil, nil
			}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(*chain, *setup.Task){
		"a task of the generation before":    func(_ *chain, task *setup.Task) { task.Generation-- },
		"a task of a generation to come":     func(_ *chain, task *setup.Task) { task.Generation++ },
		"a connection of another generation": connection(func(c *connect.Connection) { c.Generation++ }),
		"a connection that is down":          connection(func(c *connect.Connection) { c.Connected = false }),
		"a task of the other chain":          func(_ *chain, task *setup.Task) { task.Step = setup.Removal[0].Name },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				c.until("grant-access")
				task := c.due()
				before, err := c.store.Setup(c.t.Context(), made.ID)
				if err != nil || before.State != connect.StateRunning {
					t.Fatalf("the setup is %v, %v", before.State, err)
				}
				change(c, &task)
				c.google.ClearCalls()
				if err := c.Handle(c.t.Context(), task, setup.Delivery{}); err != nil {
					t.Errorf("the task: %v", err)
				}
				after, err := c.store.Setup(c.t.Context(), made.ID)
				if n := c.google.CallCounts().Total; err != nil || n != 0 || after.UpdatedAt != before.UpdatedAt || after.Lease.Holder != "" {
					t.Errorf("the task made %d calls, and the setup is %+v, %v", n, after, err)
				}
			})
		})
	}
}
