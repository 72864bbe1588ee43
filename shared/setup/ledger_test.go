package setup_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// ledger counts the entries of the ledger by kind and state.
func (c *chain) ledger() map[string]int {
	c.t.Helper()
	counts := map[string]int{}
	for _, change := range c.changes() {
		counts[string(change.Kind)+" "+string(change.State)]++
	}
	return counts
}

// madeBy counts the changes that the ledger says a setup has made.
func (c *chain) madeBy(setupID string) int {
	c.t.Helper()
	n := 0
	for _, change := range c.changes() {
		if change.SetupID == setupID && change.State == connect.ChangeDone {
			n++
		}
	}
	return n
}

// accountOf is the ID of one of user-1's two accounts.
func accountOf(suffix string) string {
	sum := sha256.Sum256([]byte("user-1"))
	return "aurora-" + hex.EncodeToString(sum[:])[:20] + suffix
}

// theirs makes the two accounts, as somebody else: another deployment, perhaps.
func (c *chain) theirs() {
	c.t.Helper()
	for _, suffix := range []string{"-f", "-r"} {
		if _, err := c.cloud().CreateAccount(c.t.Context(), "project-001", accountOf(suffix), "theirs", "theirs"); err != nil {
			c.t.Fatal(err)
		}
	}
}

// The process dies when it has done its work and written it into the ledger.
func TestASetupCountsWhatAnExecutionThatDiedHasMade(t *testing.T) {
	t.Parallel()
	var made, stood int
	runWith(t, 2, restricted, func(c *chain, whole *connect.Setup) {
		s := c.finish(whole.ID)
		made, stood = s.ChangesMade, s.ChangesStood
	})
	for _, step := range setup.Steps {
		t.Run(step.Name, func(t *testing.T) {
			t.Parallel()
			runWith(t, 2, restricted, func(c *chain, begun *connect.Setup) {
				c.until(step.Name)
				c.dieAt("before store UpdateSetup", 2) // after the claim
				if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
					t.Errorf("error = %v", err)
				}
				c.restart()
				s := c.finish(begun.ID)
				c.wantTruth(s)
				if n := c.madeBy(s.ID); s.ChangesMade != n || n != made || s.ChangesStood != stood {
					t.Errorf("the setup counts %d changes made and %d that stood, and the ledger has %d; without a death it is %d and %d", s.ChangesMade, s.ChangesStood, n, made, stood)
				}
			})
		})
	}
}

// A setup dies in the middle of a change, and its task is lost. The next one
// finds out its result, and says so where it was planned.
func TestASetupFindsOutWhatTheOneBeforeLeftOpen(t *testing.T) {
	t.Parallel()
	grants := len(setup.DefaultAgentRoles()) + len(setup.DefaultAskRoles())
	for name, tt := range map[string]struct {
		step, moment string
		want         map[string]int
	}{
		"roles that were given": {"grant-access", "before store SaveChanges done add_binding project-001", map[string]int{
			"add_binding done": grants + 2, "create_account done": 2,
		}},
		"roles that were not": {"grant-access", "after store SaveChanges planned add_binding project-001", map[string]int{
			"add_binding done": grants + 2, "add_binding refused": grants, "create_account done": 2,
		}},
		"APIs that were not asked for": {"enable-apis", "after store SaveChanges planned enable_api", map[string]int{
			"add_binding done": grants + 2, "create_account done": 2,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, _ *connect.Setup) {
				c.until(tt.step)
				c.dieAt(tt.moment, 1)
				if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
					t.Errorf("error = %v", err)
				}
				c.restart()
				c.lose()
				time.Sleep(connect.Patience)
				next, err := c.service.Restart(c.t.Context(), "user-1", []string{"project-001"})
				if err != nil {
					t.Fatal(err)
				}
				s := c.finish(next.ID)
				got := c.ledger()
				for entry := range got {
					if strings.Contains(entry, "enable_api") && strings.HasSuffix(entry, " planned") {
						t.Errorf("the ledger still has %d of %q", got[entry], entry)
					}
				}
				delete(got, "enable_api done")
				delete(got, "enable_api refused")
				if s.State != connect.StateSucceeded || fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("the setup ended with %s %s, and the ledger has %v, want %v", s.State, s.Message, got, tt.want)
				}
				if n := c.madeBy(s.ID); s.ChangesMade != n {
					t.Errorf("the setup counts %d changes, and the ledger has %d", s.ChangesMade, n)
				}
			})
		})
	}
}

// A setup that fails before the operations of its APIs are settled leaves no
// change open that can be known.
func TestASetupThatFailsClosesItsBooks(t *testing.T) {
	t.Parallel()
	runWith(t, 1, func(s *emulated.Scenario) {
		s.Projects[1].EnabledAPIs = &[]string{"serviceusage.googleapis.com", "iam.googleapis.com", "cloudresourcemanager.googleapis.com", "cloudbilling.googleapis.com"}
	}, func(c *chain, made *connect.Setup) {
		c.fault(emulated.Fault{Method: "iam.serviceAccounts.create", Code: 403})
		failed := c.finish(made.ID)
		p, _ := c.google.Project("project-001")
		enabled := len(p.EnabledAPIs) - 4
		if failed.State != connect.StateFailed || c.ledger()["enable_api done"] != enabled || c.ledger()["enable_api planned"] > 0 || failed.ChangesMade != enabled {
			t.Errorf("the setup ended with %s and counts %d changes; %d APIs are enabled, and the ledger has %v", failed.State, failed.ChangesMade, enabled, c.ledger())
		}
		c.google.ClearFaults()
		next, err := c.service.Restart(c.t.Context(), "user-1", []string{"project-001"})
		if err != nil {
			t.Fatal(err)
		}
		s := c.finish(next.ID)
		if n := c.madeBy(s.ID); s.State != connect.StateSucceeded || s.ChangesMade != n || c.ledger()["enable_api done"] != enabled {
			t.Errorf("the next ended with %s and counts %d changes, and the ledger has %d: %v", s.State, s.ChangesMade, n, c.ledger())
		}
	})
}

// The accounts were there, and Aurora may have taken them for its own.
func TestCleanupLeavesAccountsThatOthersMade(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*chain){
		"and one read did not find": func(c *chain) {
			c.theirs()
			c.fault(emulated.Fault{Method: "iam.serviceAccounts.get", Code: 404, Count: 2})
		},
		"and one read could not see": func(c *chain) {
			c.theirs()
			c.fault(emulated.Fault{Method: "iam.serviceAccounts.get", Code: 403, Count: 2})
		},
		"when it was not known whether they were made": func(c *chain) {
			c.fault(emulated.Fault{Method: "iam.serviceAccounts.create", Code: 503})
			if err := c.attempt(c.t.Context()); connect.CodeOf(err) != connect.Unavailable {
				c.t.Errorf("error = %v", err)
			}
			c.google.ClearFaults()
			c.theirs()
		},
	} {
		for _, ends := range []string{"the setup ends", "the setup is overtaken"} {
			t.Run(name+", "+ends, func(t *testing.T) {
				t.Parallel()
				run(t, 1, func(c *chain, made *connect.Setup) {
					c.until("create-service-accounts")
					before(c)
					found := c.google.Snapshot()
					if ends == "the setup ends" {
						if s := c.finish(made.ID); s.State != connect.StateSucceeded {
							t.Fatalf("the setup ended with %s %s", s.State, s.Message)
						}
					}
					if c.ledger()["create_account done"] > 0 {
						t.Errorf("the ledger has %v", c.ledger())
					}
					s := c.finish(c.remove().ID)
					if left := c.left(found); len(left) > 0 || s.State != connect.StateSucceeded {
						t.Errorf("the removal ended with %s, and changed at Google:\n%s", s.State, strings.Join(left, "\n"))
					}
				})
			})
		}
	}
}

// A role that Aurora planned and could not give is the customer's, who gave it
// by hand later.
func TestCleanupLeavesRolesThatOthersGave(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		c.until("create-service-accounts")
		c.theirs()
		c.until("grant-access")
		c.fault(emulated.Fault{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-002", Code: 503})
		for range 3 {
			if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
				t.Fatal(err)
			}
		}
		c.google.ClearFaults()
		if s := c.finish(made.ID); !s.Project("project-002").Failed("grant-access") {
			t.Fatalf("the setup ended with %s, %v", s.State, s.Project("project-002").Errors)
		}
		p, _ := c.google.Project("project-002")
		given := emulated.Binding{Role: setup.DefaultAskRoles()[0].Name, Members: []string{"serviceAccount:" + accountOf("-r") + "@project-001.iam.gserviceaccount.com"}}
		if err := c.google.SetPolicy("project-002", append(p.Bindings, given)); err != nil {
			t.Fatal(err)
		}
		before := c.google.Snapshot()
		c.finish(c.remove().ID)
		if left := slices.DeleteFunc(c.left(before), func(line string) bool { return !strings.Contains(line, "project-002") }); len(left) > 0 {
			t.Errorf("changed at Google:\n%s", strings.Join(left, "\n"))
		}
	})
}

// The first setup planned to set the policy and did not; the second did. What
// stood before the second is what is put back.
func TestCleanupPutsBackThePolicyThatStoodBeforeItWasSet(t *testing.T) {
	t.Parallel()
	runWith(t, 1, func(s *emulated.Scenario) {
		restricted(s)
		s.Projects[1].OrgPolicies = map[string]emulated.PolicySpec{memberDomains: ownDomain}
	}, func(c *chain, made *connect.Setup) {
		before := c.google.Snapshot()
		c.until("update-org-policies")
		c.fault(emulated.Fault{Method: "orgpolicy.*", Code: 503, Skip: 1})
		if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
			t.Fatal(err)
		}
		c.google.ClearFaults()
		c.finish(made.ID)
		next, err := c.service.Restart(c.t.Context(), "user-1", []string{"project-001"})
		if err != nil {
			t.Fatal(err)
		}
		if s := c.finish(next.ID); s.Project("project-001").OrgPolicy != connect.OutcomeChanged {
			t.Fatalf("the policy is %s", s.Project("project-001").OrgPolicy)
		}
		c.removed(c.finish(c.remove().ID), before)
	})
}

// The administrator takes Aurora's policy away, and half an hour later wants
// one like it. It looks the same, and its time tells.
func TestCleanupLeavesAPolicyThatTheAdministratorSetAgain(t *testing.T) {
	t.Parallel()
	runWith(t, 1, restricted, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		time.Sleep(15 * time.Minute)
		ctx, administrator := c.t.Context(), c.cloud()
		own, err := administrator.OrgPolicy(ctx, "project-001", memberDomains)
		if err != nil || !own.AllowsAll {
			t.Fatal(own, err)
		}
		if err := administrator.RestoreOrgPolicy(ctx, "project-001", memberDomains, own.Etag, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		if err := administrator.AllowAll(ctx, "project-001", memberDomains, ""); err != nil {
			t.Fatal(err)
		}
		c.finish(c.remove().ID)
		if own, err := administrator.OrgPolicy(ctx, "project-001", memberDomains); err != nil || !own.AllowsAll {
			t.Errorf("the administrator's own policy is %+v, %v", own, err)
		}
	})
}
