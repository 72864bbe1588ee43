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
	"gcpconnect/emulators/google/googletest"
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
	s = c.lookedLast(s)
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
		if change.State != connect.ChangeUndone && change.Kind != connect.ChangeEnableAPI && change.Kind != connect.ChangeRemoveBinding {
			c.t.Errorf("the change %s %s of %s is %s", change.Kind, change.Target, change.ProjectID, change.State)
		}
	}
	c.wantCounted(s)
	connection, err := c.store.Connection(c.t.Context(), "user-1")
	if err != nil || connection.Connected || connection.Holds() || len(connection.Stale) > 0 {
		c.t.Errorf("the connection is %+v, %v", connection, err)
	}
	if n := len(c.vault.held); n != 0 {
		c.t.Errorf("%d tokens are in the vault", n)
	}
}

// lookedLast lets the time pass until a removal's last look, if there is one, and
// returns the removal as it is then.
func (c *chain) lookedLast(s *connect.Setup) *connect.Setup {
	c.t.Helper()
	connection, err := c.store.Connection(c.t.Context(), "user-1")
	if err != nil {
		c.t.Fatal(err)
	}
	if connection.LookAt.IsZero() {
		return s
	}
	if len(c.vault.held) == 0 {
		c.t.Error("the tokens are gone before the last look")
	}
	time.Sleep(time.Until(connection.LookAt) - time.Second)
	if c.sweep(1); len(c.vault.held) == 0 {
		c.t.Error("the last look was taken too early")
	}
	time.Sleep(time.Second)
	c.sweep(1)
	if s, err = c.store.Setup(c.t.Context(), s.ID); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// wantCounted fails unless a removal counts what the ledger says is undone.
func (c *chain) wantCounted(s *connect.Setup) {
	c.t.Helper()
	undone := 0
	for _, change := range c.changes() {
		if change.State == connect.ChangeUndone {
			undone++
		}
	}
	if s.ChangesMade != undone || undone == 0 {
		c.t.Errorf("the removal counts %d changes, and the ledger has %d that are undone", s.ChangesMade, undone)
	}
}

// discovered stores a resource as if it had been discovered.
func (c *chain) discovered() {
	c.t.Helper()
	if err := c.store.SaveResources(c.t.Context(), "user-1", []connect.Resource{{ID: "r", ProjectID: "project-001", Type: "t", Name: "n"}}); err != nil {
		c.t.Fatal(err)
	}
}

// wantForgotten fails if there are resources.
func (c *chain) wantForgotten() {
	c.t.Helper()
	page, _, err := c.store.Resources(c.t.Context(), "user-1", connect.ResourceQuery{})
	if err != nil || len(page) > 0 {
		c.t.Errorf("%d resources are left, %v", len(page), err)
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

// The process dies at each of its writes to the setup in turn: when it has
// claimed it, found what there is to undo, undone it, and given the tokens up.
func TestARemovalThatDiesAnywhereEndsAllTheSame(t *testing.T) {
	t.Parallel()
	for nth, where := range []string{"with its claim", "before anything is undone", "when all is undone", "when the tokens are gone"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			run(t, 2, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				c.finish(made.ID)
				removal := c.remove()
				c.dieAt("before store UpdateSetup", nth+1)
				if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
					t.Errorf("error = %v", err)
				}
				c.restart()
				c.google.ClearCalls()
				s := c.finish(removal.ID)
				if calls := c.google.CallCounts(); where == "when the tokens are gone" && calls.Total != 0 {
					t.Errorf("what was done was asked for again: %v", calls.ByMethod)
				}
				c.removed(s, before)
			})
		})
	}
}

// The task cannot be enqueued: the removal is not lost with it, and neither are
// the tokens that it needs.
func TestARemovalThatCouldNotBeStartedIsStartedLater(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*chain){
		"by the user, who asks again": func(c *chain) { c.remove() },
		"by the sweep": func(c *chain) {
			time.Sleep(connect.Patience + time.Minute)
			c.sweep(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				c.finish(made.ID)
				c.discovered()
				c.lose()
				c.queue.fail = connect.Errorf(connect.Unavailable, "the queue is down")
				removal, err := c.service.Remove(c.t.Context(), "user-1", false)
				if err != nil || len(c.queue.tasks) > 0 {
					t.Fatalf("error %v, and %d tasks", err, len(c.queue.tasks))
				}
				again(c)
				c.removed(c.finish(removal.ID), before)
				c.wantForgotten()
			})
		})
	}
}

func TestARemovalForgetsWhatWasDiscovered(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		c.finish(made.ID)
		c.discovered()
		removal := c.remove()
		c.dieAt("before store DeleteResources", 1)
		if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		c.restart()
		c.removed(c.finish(removal.ID), before)
		c.wantForgotten()
		if again := c.remove(); again.ID != removal.ID {
			t.Errorf("after its end it is %s, was %s", again.ID, removal.ID)
		}
	})
}

// Somebody is at work for the connection when the user leaves, and finds out
// only when the call is back. The removal begins when that must have ended, and
// undoes it too.
func TestARemovalWaitsForWhatIsStillAtWork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, step, method string }{
		{"roles that are given", "grant-access", "cloudresourcemanager.projects.setIamPolicy"},
		{"accounts that are made", "create-service-accounts", "iam.serviceAccounts.create"},
		{"an organization policy that is set", "update-org-policies", "orgpolicy.policies.create"},
		{"access that is taken away and given", "", "cloudresourcemanager.projects.setIamPolicy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runWith(t, 2, restricted, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				var work func() error
				if tt.step != "" {
					c.until(tt.step)
					task := c.due()
					work = func() error { return c.Handle(c.t.Context(), task, setup.Delivery{}) }
				} else {
					c.finish(made.ID)
					if _, err := c.service.SetAccess(c.t.Context(), "user-1", []setup.AccessChange{{ID: "project-001"}}); err != nil {
						t.Fatal(err)
					}
					work = func() error {
						_, err := c.service.SetAccess(c.t.Context(), "user-1", []setup.AccessChange{{ID: "project-001", Enabled: true}, {ID: "project-002"}})
						return err
					}
				}
				c.fault(emulated.Fault{Method: tt.method, Delay: emulated.Duration(5 * time.Second), Count: 2})
				var atWork sync.WaitGroup
				atWork.Go(func() {
					if err := work(); err == nil {
						t.Error("the work that was overtaken claims success")
					}
				})
				time.Sleep(time.Second)
				s := c.finish(c.remove().ID)
				atWork.Wait()
				c.removed(s, before)
			})
		})
	}
}

// restricted is a Google where only members of the organization's domain may
// be given roles, which the owner may change.
func restricted(s *emulated.Scenario) {
	googletest.PolicyAdministrator(s)
	s.Organizations[0].OrgPolicies = map[string]emulated.PolicySpec{memberDomains: ownDomain}
}

const memberDomains = googletest.DomainConstraint

var ownDomain = emulated.PolicySpec{Rules: []emulated.PolicyRule{{Values: &emulated.StringValues{AllowedValues: []string{"C0example"}}}}}

// The user connects again while the removal deletes what the new setup needs.
func TestASetupWaitsForARemovalThatIsStillAtWork(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		c.remove()
		c.fault(emulated.Fault{Method: "iam.serviceAccounts.delete", Delay: emulated.Duration(8 * time.Second)})
		var atWork sync.WaitGroup
		task := c.due()
		atWork.Go(func() {
			if err := c.Handle(c.t.Context(), task, setup.Delivery{}); err == nil {
				t.Error("the removal that was overtaken claims success")
			}
		})
		time.Sleep(time.Second)
		next, err := c.service.Connect(c.t.Context(), c.login("user-1"), c.consented("1"))
		if err != nil {
			t.Fatal(err)
		}
		s := c.finish(next.ID)
		atWork.Wait()
		p, _ := c.google.Project("project-001")
		if s.State != connect.StateSucceeded || s.Verified() != 1 || len(p.ServiceAccounts) != 2 {
			t.Errorf("the setup ended with %s %s, and the project has %d accounts", s.State, s.Message, len(p.ServiceAccounts))
		}
	})
}

// The outcome of the revocation is known before the tokens go, and still said when
// the execution that found it out has died.
func TestARemovalThatDiesStillSaysThatTheGrantStands(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		if _, err := c.service.Connect(c.t.Context(), c.login("user-2"), c.consented("1")); err != nil {
			t.Fatal(err)
		}
		removal := c.remove()
		c.vault.lost = connect.Errorf(connect.Unavailable, "the answer is lost")
		if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		s := c.finish(removal.ID)
		if s.State != connect.StateSucceeded || len(s.Warnings) != 1 || s.Warnings[0].Code != "not_revoked" {
			t.Errorf("the removal ended with %s, %v", s.State, s.Warnings)
		}
		if len(c.consent.revoked) > 0 {
			t.Error("the other user's connection died with it")
		}
	})
}

func TestWhatARemovalCannotUndoItSays(t *testing.T) {
	t.Parallel()
	t.Run("accounts that may not be deleted can be used by nobody any more", func(t *testing.T) {
		t.Parallel()
		run(t, 1, func(c *chain, made *connect.Setup) {
			before := c.google.Snapshot()
			c.finish(made.ID)
			c.fault(emulated.Fault{Method: "iam.serviceAccounts.delete", Code: 403})
			s := c.finish(c.remove().ID)
			if errs := s.Projects[0].Errors; len(errs) != 1 || strings.Count(errs[0].Message, "the service account aurora-") != 2 {
				t.Errorf("the removal says %v", errs)
			}
			left := c.left(before)
			if len(left) != 2 || !strings.HasPrefix(left[0], "+ project-001 account aurora-") || !strings.HasPrefix(left[1], "+ project-001 account aurora-") {
				t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
			}
			c.wantCounted(s)
		})
	})
	t.Run("conditional roles that somebody gave its accounts", func(t *testing.T) {
		t.Parallel()
		run(t, 1, func(c *chain, made *connect.Setup) {
			agent := "serviceAccount:" + c.finish(made.ID).Accounts.Agent
			p, _ := c.google.Project("project-001")
			theirs := emulated.Binding{
				Role: "roles/storage.admin", Members: []string{agent, "user:" + owner}, Condition: &emulated.Condition{Title: "x", Expression: "true"},
			}
			if err := c.google.SetPolicy("project-001", append(p.Bindings, theirs)); err != nil {
				t.Fatal(err)
			}
			s := c.finish(c.remove().ID)
			if errs := s.Projects[0].Errors; len(errs) != 1 || !strings.Contains(errs[0].Message, "the conditional grant of roles/storage.admin to "+agent) {
				t.Errorf("the removal says %v", errs)
			}
			p, _ = c.google.Project("project-001")
			if n := len(p.Bindings); n != 2 || !slices.Contains(p.Bindings[1].Members, "user:"+owner) {
				t.Errorf("the project has %+v", p.Bindings)
			}
		})
	})
}

// What somebody has taken away meanwhile counts as undone: it stands no more.
func TestARemovalCountsWhatStandsNoMore(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		s := c.finish(made.ID)
		p, _ := c.google.Project("project-001")
		owners := slices.DeleteFunc(p.Bindings, func(b emulated.Binding) bool { return b.Role != "roles/owner" })
		if err := c.google.SetPolicy("project-001", owners); err != nil {
			t.Fatal(err)
		}
		for _, email := range []string{s.Accounts.Agent, s.Accounts.Ask} {
			if err := c.cloud().DeleteAccount(c.t.Context(), "project-001", email); err != nil {
				t.Fatal(err)
			}
		}
		c.removed(c.finish(c.remove().ID), before)
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
