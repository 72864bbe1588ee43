package setup_test

import (
	"context"
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

// wantTruth fails unless the setup succeeded in all of its projects and the
// ledger says of everything that it was done, once.
func (c *chain) wantTruth(s *connect.Setup) {
	c.t.Helper()
	if s.State != connect.StateSucceeded || s.Verified() != len(s.Projects) {
		c.t.Fatalf("setup ended with %s %q, %d of %d verified", s.State, s.Message, s.Verified(), len(s.Projects))
	}
	counts := map[connect.ChangeKind]int{}
	for _, change := range c.changes() {
		if change.State != connect.ChangeDone {
			c.t.Errorf("%s %s %s of %s is %s in the ledger", change.Kind, change.Target, change.Role, change.ProjectID, change.State)
		}
		counts[change.Kind]++
	}
	grants := len(s.Projects)*(len(setup.DefaultAgentRoles())+len(setup.DefaultAskRoles())) + 2
	if counts[connect.ChangeAddBinding] != grants || counts[connect.ChangeCreateAccount] != 2 {
		c.t.Errorf("the ledger has %v, want 2 accounts and %d bindings", counts, grants)
	}
	for _, p := range s.Projects {
		if !p.Access.OK() || !p.APIs.OK() {
			c.t.Errorf("%s: APIs %s, access %s, %v", p.ID, p.APIs, p.Access, p.Errors)
		}
		at, _ := c.google.Project(p.ID)
		if len(at.EnabledAPIs) < 25 {
			c.t.Errorf("%s has %d APIs enabled", p.ID, len(at.EnabledAPIs))
		}
	}
}

func TestTroubleAtGoogleEndsInTheTruth(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		scenario func(*emulated.Scenario)
		faults   []emulated.Fault
		calls    string // a method that the trouble makes the chain call
	}{
		"as many conflicts as are tried at once": {faults: []emulated.Fault{
			{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-001", Code: 409, Count: 3},
		}},
		"conflicts on the accounts' own policies": {faults: []emulated.Fault{{Method: "iam.serviceAccounts.setIamPolicy", Code: 409, Count: 6}}},
		"an answer about a policy lost once": {faults: []emulated.Fault{
			{Method: "cloudresourcemanager.projects.setIamPolicy", Code: 503, AfterEffect: true, Count: 1},
		}},
		"all answers about one project's policy lost for a while": {faults: []emulated.Fault{
			{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-002", Code: 503, AfterEffect: true, Count: 9},
		}},
		"answers about accounts lost, which take a minute to be known": {
			scenario: func(s *emulated.Scenario) {
				s.Propagation.AccountMember, s.Propagation.AccountRead = emulated.Duration(time.Minute), emulated.Duration(30*time.Second)
			},
			faults: []emulated.Fault{{Method: "iam.serviceAccounts.create", Code: 503, AfterEffect: true, Count: 2}},
		},
		"the second batch of APIs refused for a while": {
			scenario: onlyServiceUsage,
			faults:   []emulated.Fault{{Method: "serviceusage.services.batchEnable", Project: "project-002", Text: "vpcaccess", Code: 503, Count: 8}},
			calls:    "serviceusage.services.batchEnable",
		},
		"a batch that fails as a whole once, and then a busy Google": {
			scenario: func(s *emulated.Scenario) {
				onlyServiceUsage(s)
				for i := range s.Projects[1:] {
					s.Projects[1+i].ServiceFailures = []emulated.ServiceFailure{{Service: "vpcaccess.googleapis.com", At: "operation", Times: 1}}
				}
			},
			faults: []emulated.Fault{{Method: "serviceusage.services.enable", Project: "project-002", Code: 503, Count: 5}},
			calls:  "serviceusage.services.enable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.scenario == nil {
				tt.scenario = func(*emulated.Scenario) {}
			}
			runWith(t, 2, tt.scenario, func(c *chain, made *connect.Setup) {
				for _, fault := range tt.faults {
					if err := c.google.AddFault(fault); err != nil {
						t.Fatal(err)
					}
				}
				c.Settings.MaxChecks = 20
				c.wantTruth(c.finish(made.ID))
				if tt.calls != "" && c.google.CallCounts().ByMethod[tt.calls] == 0 {
					t.Errorf("%s was never called: there was no trouble", tt.calls)
				}
			})
		})
	}
}

// onlyServiceUsage makes everything be enabled by the setup, in two batches of
// 15 s.
func onlyServiceUsage(s *emulated.Scenario) {
	s.Latencies.Operation = googletest.Seconds(15)
	googletest.OnlyServiceUsage(s)
}

func TestOriginalOrgPolicyIsKeptWhenAnswersAreLost(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"of a project without its own": false, "of a project with its own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runWith(t, 1, func(s *emulated.Scenario) {
				googletest.Restricted(s)
				googletest.PolicyAdministrator(s)
				if own {
					s.Projects[1].OrgPolicies = map[string]emulated.PolicySpec{googletest.DomainConstraint: googletest.OwnMembersOnly()}
				}
			}, func(c *chain, made *connect.Setup) {
				for _, method := range []string{"orgpolicy.policies.create", "orgpolicy.policies.patch"} {
					if err := c.google.AddFault(emulated.Fault{Method: method, Code: 503, AfterEffect: true, Count: 4}); err != nil {
						t.Fatal(err)
					}
				}
				if s := c.finish(made.ID); s.State != connect.StateSucceeded {
					t.Fatalf("setup ended with %s %s", s.State, s.Message)
				}
				for _, change := range c.changes() {
					if change.Kind == connect.ChangeOrgPolicy && (strings.Contains(change.Before, "allowAll") || strings.Contains(change.Before, "C0example") != own) {
						t.Errorf("the ledger says that there stood %q", change.Before)
					}
				}
				p, _ := c.google.Project("project-001")
				if spec := p.OrgPolicies["iam.allowedPolicyMemberDomains"]; len(spec.Rules) != 1 || !spec.Rules[0].AllowAll {
					t.Errorf("the policy is %+v", spec)
				}
			})
		})
	}
}

func TestCutOffStepIsNotDone(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"enable-apis", "grant-access", "update-org-policies", "verify-permissions"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			run(t, 3, func(c *chain, made *connect.Setup) {
				c.until(step)
				ctx, cancel := context.WithCancel(c.t.Context())
				defer cancel()
				// The request is cut off once the setup is claimed.
				c.store.afterUpdateSetup = cancel
				if err := c.attempt(ctx); connect.CodeOf(err) != connect.Unavailable {
					t.Errorf("the cut-off step ended with %v, want that the task comes back", err)
				}
				c.store.afterUpdateSetup = nil
				if c.due().Step != step {
					t.Fatalf("the chain has moved on to %s", c.due().Step)
				}
				if s, err := c.store.Setup(c.t.Context(), made.ID); err != nil || s.Propagation.Checks != 0 {
					t.Errorf("%d checks are counted, %v", s.Propagation.Checks, err)
				}
				c.wantTruth(c.finish(made.ID))
			})
		})
	}
}

func TestPanicInOneProjectHurtsNothingElse(t *testing.T) {
	t.Parallel()
	run(t, 3, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		panicked := false
		c.store.beforeSaveChanges = func(changes []connect.Change) error {
			if changes[0].ProjectID == "project-002" && !panicked {
				panicked = true
				panic("a defect")
			}
			return nil
		}
		c.wantTruth(c.finish(made.ID))
		if !panicked {
			t.Error("nothing panicked")
		}
	})
}

func TestLostTaskDoesNotKeepTheUserFromTryingAgain(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.until("grant-access")
		if _, err := c.service.Restart(c.t.Context(), "user-1", nil); connect.CodeOf(err) != connect.Conflict {
			t.Errorf("while the setup is running: %v", err)
		}
		time.Sleep(16 * time.Minute) // its task never comes
		again, err := c.service.Restart(c.t.Context(), "user-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		old, err := c.store.Setup(c.t.Context(), made.ID)
		if err != nil || old.State != connect.StateFailed {
			t.Errorf("the lost setup is %s, %v", old.State, err)
		}
		if s := c.finish(again.ID); s.State != connect.StateSucceeded {
			t.Errorf("setup ended with %s %s", s.State, s.Message)
		}
	})
}

func TestAccessThatWasTakenAwayStaysAway(t *testing.T) {
	t.Parallel()
	run(t, 3, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		ctx := c.t.Context()
		disable := func(id string) {
			t.Helper()
			changes, err := c.service.SetAccess(ctx, "user-1", []setup.AccessChange{{ID: id, Enabled: false}})
			if err != nil || changes[0].Err != nil {
				t.Fatal(err, changes)
			}
		}
		bindings := func(id string) int {
			p, _ := c.google.Project(id)
			return len(p.Bindings) - 1 // the owner's
		}
		disable("project-002")
		moved, err := c.service.ChooseRoot(ctx, "user-1", "project-003")
		if err != nil {
			t.Fatal(err)
		}
		if s := c.finish(moved.ID); s.State != connect.StateSucceeded {
			t.Fatalf("setup ended with %s %s", s.State, s.Message)
		}
		if n := bindings("project-002"); n != 0 {
			t.Errorf("moving the root project gave back %d bindings", n)
		}
		p, _ := c.google.Project("project-001")
		for _, b := range p.Bindings {
			if slices.ContainsFunc(b.Members, func(m string) bool { return strings.Contains(m, "@project-001.iam") }) {
				t.Errorf("an account of the former root project still has %s", b.Role)
			}
		}
		disable("project-001")
		if n := bindings("project-001"); n != 0 {
			t.Errorf("%d bindings are left", n)
		}
	})
}

// Of two changes to access at once, setups wait for the one that takes longer,
// and for neither when both are done. While a setup runs there are none.
func TestSetupsWaitForAccessAsLongAsItIsChanged(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		set := func(id string, want connect.Code) {
			if _, err := c.service.SetAccess(c.t.Context(), "user-1", []setup.AccessChange{{ID: id}}); connect.CodeOf(err) != want {
				t.Errorf("changing the access of %s: %v, want %s", id, err, want)
			}
		}
		busy := func() bool {
			connection, err := c.store.Connection(c.t.Context(), "user-1")
			if err != nil {
				t.Fatal(err)
			}
			return connection.BusyUntil.After(time.Now())
		}
		c.until("verify-permissions")
		set("project-001", connect.Conflict)
		c.finish(made.ID)
		set("project-009", connect.Invalid)
		if busy() {
			t.Error("a change that was refused holds setups up")
		}
		c.fault(emulated.Fault{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-001", Delay: emulated.Duration(5 * time.Second)})
		var both sync.WaitGroup
		both.Go(func() { set("project-001", "") })
		time.Sleep(time.Second)
		set("project-002", "")
		if !busy() {
			t.Error("the one that takes longer is forgotten")
		}
		both.Wait()
		if busy() {
			t.Error("setups wait for nobody")
		}
	})
}

func TestDiscoveryRunsDoNotDeleteEachOthersResources(t *testing.T) {
	t.Parallel()
	runWith(t, 1, func(s *emulated.Scenario) {
		s.Pages.Size = 2
		s.Latencies.Read = emulated.Duration(time.Second)
		s.Projects[1].Resources = []emulated.Resource{{AssetType: "storage.googleapis.com/Bucket", Name: "b", Count: 9}}
	}, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		for range 2 { // a double click
			if _, err := c.service.Rediscover(c.t.Context(), "user-1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		done := make(chan error)
		var tasks [][]byte
		for _, task := range c.queue.tasks {
			if task.Function == setup.DiscoverFunction {
				tasks = append(tasks, task.Body)
			}
		}
		for i, body := range tasks {
			go func() {
				time.Sleep(time.Duration(i) * 500 * time.Millisecond)
				for {
					err := c.Discover(c.t.Context(), body, setup.Delivery{})
					if err == nil {
						break
					}
					time.Sleep(time.Second) // the queue tries again
				}
				done <- nil
			}()
		}
		for range tasks {
			<-done
		}
		page, _, err := c.store.Resources(c.t.Context(), "user-1", connect.ResourceQuery{Type: "storage_bucket"})
		if err != nil || len(page) != 9 {
			t.Errorf("%d buckets are stored, %v, want 9", len(page), err)
		}
		discoveries, err := c.store.Discoveries(c.t.Context(), "user-1")
		if err != nil || len(discoveries) != 1 || discoveries[0].State != connect.DiscoveryDone || discoveries[0].Counts["storage_bucket"] != 9 {
			t.Errorf("discoveries = %+v, %v", discoveries, err)
		}
	})
}

func TestDiscoveryThatADisconnectOvertookLeavesNothing(t *testing.T) {
	t.Parallel()
	runWith(t, 1, func(s *emulated.Scenario) {
		s.Projects[1].Resources = []emulated.Resource{{AssetType: "storage.googleapis.com/Bucket", Name: "b", Count: 9}}
	}, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		body := c.queue.tasks[len(c.queue.tasks)-1].Body
		c.store.afterSaveResources = func() {
			if _, err := c.service.Disconnect(c.t.Context(), "user-1"); err != nil {
				t.Error(err)
			}
			// What is stored from here on would be nobody's.
			if err := c.store.Store.SaveResources(c.t.Context(), "user-1", []connect.Resource{{ID: "x", ProjectID: "project-001", Run: runOf(body)}}); err != nil {
				t.Error(err)
			}
		}
		if err := c.Discover(c.t.Context(), body, setup.Delivery{}); err != nil {
			t.Fatal(err)
		}
		page, _, err := c.store.Resources(c.t.Context(), "user-1", connect.ResourceQuery{})
		if err != nil || len(page) != 0 {
			t.Errorf("%d resources are left, %v", len(page), err)
		}
	})
}

// runOf is the run in a discovery task's body.
func runOf(body []byte) string {
	_, rest, _ := strings.Cut(string(body), `"run":"`)
	run, _, _ := strings.Cut(rest, `"`)
	return run
}

func TestProjectWhoseBillingCannotBeReadIsNotPassedOverInSilence(t *testing.T) {
	t.Parallel()
	run(t, 2, func(c *chain, made *connect.Setup) {
		if err := c.google.AddFault(emulated.Fault{Method: "cloudbilling.*", Project: "project-002", Code: 503}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{Last: true}); err != nil {
				t.Fatal(err)
			}
		}
		s := c.finish(made.ID)
		if len(s.Warnings) == 0 || s.Warnings[0].Code != "billing_unknown" || s.Warnings[0].ProjectID != "project-002" {
			t.Errorf("warnings = %+v", s.Warnings)
		}
	})
}

func TestTokensNeverOutliveWhatRefersToThem(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, _ *connect.Setup) {
		ctx := c.t.Context()
		grant := setup.Consent{Token: connect.Token{Access: "a", Refresh: "r"}, Email: owner, Subject: "1"}
		stored := func(l *connect.Login) bool {
			_, _, err := c.vault.Get(ctx, l.Tokens())
			return err == nil
		}
		tokens := func() connect.TokenRef {
			connection, err := c.store.Connection(ctx, "user-1")
			if err != nil {
				t.Fatal(err)
			}
			return connection.Tokens
		}
		first := tokens()

		refused := c.login("user-1")
		c.store.beforeConnection = func() error { return connect.Errorf(connect.Conflict, "no") }
		if _, err := c.service.Connect(ctx, refused, grant); err == nil || stored(refused) {
			t.Errorf("error %v, and the tokens are kept: %v", err, stored(refused))
		}
		c.store.beforeConnection = nil

		// The browser leaves in the middle.
		left, cancel := context.WithCancel(ctx)
		cancel()
		second := c.login("user-1")
		if _, err := c.service.Connect(left, second, grant); err != nil || tokens() != second.Tokens() || !stored(second) {
			t.Errorf("connecting again: %v", err)
		}
		if _, _, err := c.vault.Get(ctx, first); connect.CodeOf(err) != connect.NotFound {
			t.Errorf("the replaced tokens: %v", err)
		}
		if _, err := c.service.Disconnect(ctx, "user-1"); err != nil || stored(second) {
			t.Errorf("disconnect: %v, tokens are left: %v", err, stored(second))
		}
		connection, err := c.store.Connection(ctx, "user-1")
		if err != nil || connection.Tokens != "" || len(connection.Stale) != 0 {
			t.Errorf("the tombstone names %q and %v, %v", connection.Tokens, connection.Stale, err)
		}
	})
}

func TestRootProjectIsSearchedForManyAtOnce(t *testing.T) {
	t.Parallel()
	runWith(t, 60, func(s *emulated.Scenario) {
		s.Latencies.Read = emulated.Duration(time.Second)
		for i := range s.Projects[1:60] { // all but project-060
			s.Projects[1+i].Bindings[0].Role = "roles/viewer"
		}
	}, func(c *chain, made *connect.Setup) {
		c.Settings.AutoProjects = 60
		started := time.Now()
		c.until("enable-apis")
		if took := time.Since(started); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		s, err := c.store.Setup(c.t.Context(), made.ID)
		if err != nil || s.RootProject != "project-060" {
			t.Errorf("the root project is %s, %v, want the only one that the user owns", s.RootProject, err)
		}
	})
}
