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

// interrupted has an execution of a step end without recording the answers to its
// requests, and another one finish the setup.
func (c *chain) interrupted(made *connect.Setup, step string) *connect.Setup {
	c.t.Helper()
	c.until(step)
	c.dieAt("before store SaveChanges done", 1)
	if step == "enable-apis" { // its changes are marked done by verify-permissions
		c.dieAt("before store UpdateSetup", 2)
	}
	if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
		c.t.Errorf("error = %v", err)
	}
	c.restart()
	s := c.finish(made.ID)
	if s.State != connect.StateSucceeded {
		c.t.Fatalf("the setup ended with %s %s", s.State, s.Message)
	}
	return s
}

// cleanedUp has the user leave with cleanup, and returns the removal when it ended.
func (c *chain) cleanedUp(disableAPIs bool) *connect.Setup {
	c.t.Helper()
	removal, err := c.service.Remove(c.t.Context(), "user-1", disableAPIs)
	if err != nil {
		c.t.Fatal(err)
	}
	s := c.finish(removal.ID)
	if connection := c.connection(); s.State != connect.StateSucceeded || connection.LookAt.IsZero() || len(c.vault.held) == 0 {
		c.t.Fatalf("the removal ended with %s %s, the connection is %+v", s.State, s.Message, connection)
	}
	return s
}

func (c *chain) connection() *connect.Connection {
	c.t.Helper()
	connection, err := c.store.Connection(c.t.Context(), "user-1")
	if err != nil {
		c.t.Fatal(err)
	}
	return connection
}

// makeAgent makes the agent account of a setup as a request does that arrives late.
func (c *chain) makeAgent(s *connect.Setup, description string) setup.Account {
	c.t.Helper()
	id, _, _ := strings.Cut(s.Accounts.Agent, "@")
	account, err := c.cloud().CreateAccount(c.t.Context(), "project-001", id, "Aurora agent", description)
	if err != nil {
		c.t.Fatal(err)
	}
	return account
}

func markOf(s *connect.Setup) string { return "Manages. Made by setup " + s.ID + "." }

// wantAgent fails unless the agent account is there, or not, as wanted.
func (c *chain) wantAgent(s *connect.Setup, want bool) {
	c.t.Helper()
	p, _ := c.google.Project("project-001")
	got := slices.ContainsFunc(p.ServiceAccounts, func(a emulated.AccountSnapshot) bool { return a.Email == s.Accounts.Agent })
	if got != want {
		c.t.Errorf("the agent account is there: %v, want %v", got, want)
	}
}

func TestLastLook_DeletesAccountThatArrivedLate(t *testing.T) {
	t.Parallel()
	for step, arrives := range map[string]bool{"create-service-accounts": true, "grant-access": false, "update-org-policies": false} {
		t.Run(fmt.Sprintf("%s %v", step, arrives), func(t *testing.T) {
			t.Parallel()
			runWith(t, 2, restricted, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				s := c.interrupted(made, step)
				removal := c.cleanedUp(false)
				if removal.ChangesMade >= removal.ChangesStood {
					t.Errorf("the removal says that it has undone %d of %d changes", removal.ChangesMade, removal.ChangesStood)
				}
				if arrives {
					c.makeAgent(s, markOf(made))
				}
				c.removed(removal, before)
				c.wantNothingMore()
			})
		})
	}
}

// wantNothingMore fails if a sweep does anything after the last look.
func (c *chain) wantNothingMore() {
	c.t.Helper()
	c.google.ClearCalls()
	before, revoked := c.changes(), len(c.consent.revoked)
	time.Sleep(2 * time.Minute)
	c.sweep(2)
	if n := c.google.CallCounts().Total; n > 0 || len(c.consent.revoked) != revoked {
		c.t.Errorf("another sweep makes %d calls", n)
	}
	for i, after := range c.changes() {
		if after != before[i] {
			c.t.Errorf("another sweep makes %+v of %+v", after, before[i])
		}
	}
}

// The removal itself looks again before it ends.
func TestRemoval_DeletesAccountThatArrivesDuringIt(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		s := c.interrupted(made, "create-service-accounts")
		c.remove()
		deleted := func() int {
			return c.google.CallCounts().ByMethod["iam.serviceAccounts.delete"]
		}
		c.google.ClearCalls()
		c.afterCall = func() {
			if deleted() == 2 {
				c.afterCall = nil
				c.makeAgent(s, markOf(made))
			}
		}
		removal := c.finish(c.due().Setup)
		c.wantAgent(s, false)
		c.removed(removal, before)
	})
}

func TestLastLook_KeepsAccountOfOthers(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		s := c.interrupted(made, "create-service-accounts")
		removal := c.cleanedUp(false)
		c.makeAgent(s, "made by hand")
		if removal = c.lookedLast(removal); removal.ChangesMade != removal.ChangesStood-len(c.standing()) {
			t.Errorf("the removal counts %d of %d", removal.ChangesMade, removal.ChangesStood)
		}
		c.wantAgent(s, true)
		c.wantNothingStanding()
	})
}

// A setup crashes when it is about to make the accounts, and the user connects
// again: the next setup makes them. What the first one asked for arrives after
// the removal.
func TestLastLook_DeletesAccountOfSetupThatWasReplaced(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		c.until("create-service-accounts")
		c.dieAt("after store SaveChanges planned create_account", 1)
		if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("error = %v", err)
		}
		c.restart()
		planned := slices.IndexFunc(c.changes(), func(change connect.Change) bool {
			return change.Kind == connect.ChangeCreateAccount && change.State == connect.ChangePlanned
		})
		if planned < 0 {
			t.Fatal("no account is planned")
		}
		id, _, _ := strings.Cut(c.changes()[planned].Target, "@")
		next, err := c.service.Connect(c.t.Context(), c.login("user-1"), c.consented("1"))
		if err != nil {
			t.Fatal(err)
		}
		c.finish(next.ID)
		removal := c.cleanedUp(false)
		if _, err := c.cloud().CreateAccount(c.t.Context(), "project-001", id, "Aurora", markOf(made)); err != nil {
			t.Fatal(err)
		}
		if removal = c.lookedLast(removal); len(removal.Projects[0].Errors) > 0 {
			t.Errorf("the removal says %v", removal.Projects[0].Errors)
		}
		if left := c.left(before); len(left) > 0 {
			t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
		}
		c.wantNothingStanding()
	})
}

// standing are the changes that stand or may stand, by the ledger.
func (c *chain) standing() []connect.Change {
	return slices.DeleteFunc(c.changes(), func(change connect.Change) bool {
		return change.State != connect.ChangeDone && change.State != connect.ChangePlanned || change.Kind == connect.ChangeRemoveBinding
	})
}

func TestLastLook_DisablesAPIOnlyIfAsked(t *testing.T) {
	t.Parallel()
	for _, disable := range []bool{true, false} {
		t.Run(fmt.Sprint(disable), func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				const late = "dns.googleapis.com"
				c.interrupted(made, "enable-apis")
				c.cleanedUp(disable)
				if _, err := c.cloud().EnableAPIs(c.t.Context(), "project-001", []string{late}); err != nil {
					t.Fatal(err)
				}
				for !c.connection().LookAt.IsZero() { // disabling takes Google a while
					time.Sleep(time.Minute)
					c.sweep(1)
				}
				disabled, err := c.cloud().DisabledAPIs(c.t.Context(), "project-001", []string{late})
				if err != nil || (len(disabled) == 1) != disable {
					t.Errorf("disabled are %v, %v", disabled, err)
				}
				for _, change := range c.standing() {
					if disable || change.Kind != connect.ChangeEnableAPI {
						t.Errorf("%s %s is %s", change.Kind, change.Target, change.State)
					}
				}
				if len(c.vault.held) > 0 {
					t.Error("the tokens are left")
				}
			})
		})
	}
}

func TestLastLook_TakesBackGrantAndPolicyThatArrivedLate(t *testing.T) {
	t.Parallel()
	runWith(t, 1, restricted, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		s := c.interrupted(made, "create-service-accounts") // which leaves open what follows too
		removal := c.cleanedUp(false)
		policy, err := c.cloud().Policy(c.t.Context(), "project-001")
		if err != nil {
			t.Fatal(err)
		}
		c.makeAgent(s, markOf(made))
		policy.Add(setup.DefaultAgentRoles()[0].Name, "serviceAccount:"+s.Accounts.Agent)
		if err := c.cloud().SetPolicy(c.t.Context(), "project-001", policy); err != nil {
			t.Fatal(err)
		}
		if err := c.cloud().AllowAll(c.t.Context(), "project-001", "iam.allowedPolicyMemberDomains", ""); err != nil {
			t.Fatal(err)
		}
		c.removed(removal, before)
	})
}

// The user connects again before the last look: what arrived late is the new
// connection's, and goes with its removal.
func TestLastLook_KeepsAccountOfUserWhoConnectedAgain(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before it", "before it and the account", "during it"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				s := c.interrupted(made, "create-service-accounts")
				c.cleanedUp(false)
				var late setup.Account
				if when != "before it and the account" {
					late = c.makeAgent(s, markOf(made))
				}
				var sweeping sync.WaitGroup
				if when == "during it" {
					time.Sleep(time.Until(c.connection().LookAt))
					c.fault(emulated.Fault{Method: "iam.serviceAccounts.delete", Delay: emulated.Duration(8 * time.Second), Count: 1})
					sweeping.Go(func() { c.sweep(1) })
					time.Sleep(time.Second)
				}
				next, err := c.service.Connect(c.t.Context(), c.login("user-1"), c.consented("1"))
				if err != nil {
					t.Fatal(err)
				}
				if when == "before it and the account" {
					late = c.makeAgent(s, markOf(made))
				}
				s = c.finish(next.ID)
				sweeping.Wait()
				time.Sleep(10 * time.Minute)
				c.sweep(2)
				if s.State != connect.StateSucceeded || s.Verified() != 1 {
					t.Errorf("the setup ended with %s %s", s.State, s.Message)
				}
				c.wantAgent(s, true)
				if account, err := c.cloud().Account(c.t.Context(), "project-001", s.Accounts.Agent); err != nil || (account.UniqueID == late.UniqueID) != (when != "during it") {
					t.Errorf("the account is %+v, %v; the late one was %+v", account, err, late)
				}
				if len(c.vault.held) != 1 {
					t.Errorf("%d tokens are in the vault", len(c.vault.held))
				}
				c.lookedLast(c.finish(c.remove().ID))
				if left := c.left(before); len(left) > 0 {
					t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
				}
				c.wantNothingStanding()
			})
		})
	}
}

// wantNothingStanding fails if the ledger says that something but APIs stands or
// may stand, or if there are tokens.
func (c *chain) wantNothingStanding() {
	c.t.Helper()
	for _, change := range c.standing() {
		if change.Kind != connect.ChangeEnableAPI {
			c.t.Errorf("%s %s is %s", change.Kind, change.Target, change.State)
		}
	}
	if n := len(c.vault.held); n > 0 {
		c.t.Errorf("%d tokens are in the vault", n)
	}
}

func TestLastLook_SaysWhatItCouldNotReach(t *testing.T) {
	t.Parallel()
	for name, prevent := range map[string]func(*chain){
		"the tokens are gone": func(c *chain) {
			for _, g := range c.connection().Stale {
				if err := c.vault.Delete(c.t.Context(), g.Tokens); err != nil {
					c.t.Fatal(err)
				}
			}
		},
		"the user disconnects once more": func(c *chain) {
			if _, err := c.service.Disconnect(c.t.Context(), "user-1"); err != nil {
				c.t.Error(err)
			}
			if len(c.vault.held) > 0 {
				c.t.Error("the tokens are left")
			}
		},
		"google is away": func(c *chain) { c.fault(emulated.Fault{Code: 503}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, made *connect.Setup) {
				s := c.interrupted(made, "create-service-accounts")
				removal := c.cleanedUp(false)
				c.makeAgent(s, markOf(made))
				prevent(c)
				if name == "google is away" { // another user's tokens are given up meanwhile
					if _, err := c.service.Connect(c.t.Context(), c.login("user-2"), c.consented("2")); err != nil {
						t.Fatal(err)
					}
					c.vault.lost = connect.Errorf(connect.Unavailable, "sealed")
					if _, err := c.service.Disconnect(c.t.Context(), "user-2"); err == nil {
						t.Error("the tokens are gone")
					}
				}
				began := time.Now()
				for time.Since(began) < 15*time.Minute {
					time.Sleep(time.Minute)
					_ = c.service.Sweep(c.t.Context()) // it fails while Google is away
					other, err := c.store.Connection(c.t.Context(), "user-2")
					if err == nil && time.Since(began) > 2*time.Minute && len(other.Stale) > 0 {
						t.Error("the other user's tokens are kept")
					}
				}
				if connection := c.connection(); len(c.vault.held) > 0 || len(connection.Stale) > 0 || !connection.LookAt.IsZero() {
					t.Errorf("%d tokens are left, the connection is %+v", len(c.vault.held), connection)
				}
				removal, err := c.store.Setup(c.t.Context(), removal.ID)
				if err != nil {
					t.Fatal(err)
				}
				p := removal.Projects[0]
				if p.Removal != connect.OutcomeFailed || len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, s.Accounts.Agent) {
					t.Errorf("the removal says %s, %+v", p.Removal, p.Errors)
				}
				if !slices.ContainsFunc(c.changes(), func(change connect.Change) bool {
					return change.Target == s.Accounts.Agent && change.Kind == connect.ChangeCreateAccount && change.State == connect.ChangePlanned
				}) {
					t.Error("the ledger claims to know of the account")
				}
			})
		})
	}
}

// The process crashes at each thing in turn that the last look does.
func TestLastLook_EndsAfterCrashAnywhere(t *testing.T) {
	t.Parallel()
	const most = 60
	crashes := make([]bool, most)
	var all sync.WaitGroup
	defer all.Wait()
	for nth := 1; nth < most; nth++ {
		t.Run(fmt.Sprint(nth), func(t *testing.T) {
			run(t, 1, func(c *chain, made *connect.Setup) {
				before := c.google.Snapshot()
				s := c.interrupted(made, "create-service-accounts")
				removal := c.cleanedUp(false)
				c.makeAgent(s, markOf(made))
				time.Sleep(time.Until(c.connection().LookAt))
				c.dieAt("", nth)
				crashes[nth] = c.service.Sweep(c.t.Context()) != nil
				c.restart()
				c.sweep(2)
				removal, err := c.store.Setup(context.WithoutCancel(c.t.Context()), removal.ID)
				if err != nil {
					t.Fatal(err)
				}
				c.removed(removal, before)
				c.wantNothingMore()
			})
		})
		if !crashes[nth] {
			if nth < 10 {
				t.Errorf("it does %d things", nth)
			}
			return
		}
	}
	t.Error("there is more to crash at")
}
