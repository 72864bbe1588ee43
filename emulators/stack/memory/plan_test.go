package memory_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

// choosing is an environment in which every setup is of chosen projects, so
// that there is a time between the login and the first change.
var choosing = map[string]string{"MAX_AUTO_PROJECTS": "1"}

// administered makes the organization allow only its own members, and the user
// may change that.
func administered(s *google.Scenario) {
	googletest.Restricted(s)
	googletest.PolicyAdministrator(s)
}

// What a plan says is what the setup then does: every change in the ledger is
// in the plan, and every one in the plan is in the ledger, done where no
// permission was missing and not done where one was.
func TestPlan_EqualsSetup(t *testing.T) {
	t.Parallel()
	ids := []string{"project-001", "project-002", "project-003"}
	anyMember := map[string]google.PolicySpec{"iam.allowedPolicyMemberDomains": {Rules: []google.PolicyRule{{AllowAll: true}}}}
	ownerIs := func(s *google.Scenario, id string, roles ...string) {
		p := googletest.Project(s, id)
		p.Bindings = []google.Binding{{Role: "roles/owner", Members: []string{"user:someone@example.com"}}}
		for _, role := range roles {
			p.Bindings = append(p.Bindings, google.Binding{Role: role, Members: []string{"user:" + owner}})
		}
	}
	for name, c := range map[string]struct {
		change  func(*google.Scenario)
		before  func(*stacktest.System)                         // changes Google after the login
		missing map[string][]string                             // permissions by project
		changes func(p *stacktest.Plan, want func(string, int)) // more that is wanted of the plan
	}{
		"new projects": {
			change: googletest.WithPlatform,
			changes: func(p *stacktest.Plan, want func(string, int)) {
				want("create_account", 2)
				want("set_org_policy", 0)
			},
		},
		"projects with much of it": {
			change: func(s *google.Scenario) {
				p := googletest.Project(s, "project-002")
				p.EnabledAPIs = &[]string{"compute.googleapis.com", "run.googleapis.com", "storage.googleapis.com"}
				p.OrgPolicies = anyMember
				// A conditional binding of a role is another thing.
				p.Bindings = append(p.Bindings, google.Binding{Role: "roles/storage.admin", Members: []string{"user:" + owner}, Condition: &google.Condition{Title: "x", Expression: "true"}})
			},
		},
		"an organization that restricts members": {
			change: func(s *google.Scenario) {
				googletest.Restricted(s)
				googletest.Project(s, "project-002").OrgPolicies = anyMember
			},
			missing: map[string][]string{"project-001": {"orgpolicy.policy.set"}, "project-003": {"orgpolicy.policy.set"}},
			changes: func(p *stacktest.Plan, want func(string, int)) { want("set_org_policy", 2) },
		},
		"a policy administrator": {
			change:  administered,
			changes: func(p *stacktest.Plan, want func(string, int)) { want("set_org_policy", 3) },
		},
		"an editor of one": {
			change:  func(s *google.Scenario) { ownerIs(s, "project-002", "roles/editor") },
			missing: map[string][]string{"project-002": {"resourcemanager.projects.setIamPolicy"}},
		},
		"an editor of the first, which is not the root then": {
			change:  func(s *google.Scenario) { ownerIs(s, "project-001", "roles/editor") },
			missing: map[string][]string{"project-001": {"resourcemanager.projects.setIamPolicy"}},
		},
		"a viewer of one": {
			change:  func(s *google.Scenario) { ownerIs(s, "project-003", "roles/viewer", "roles/iam.securityReviewer") },
			missing: map[string][]string{"project-003": {"serviceusage.services.enable", "resourcemanager.projects.setIamPolicy"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, googletest.Scenario(3, c.change), choosing, func(y *stacktest.System) {
				y.ConnectUndecided()
				p := y.Plan(ids...)
				if p.Status != "planned" || len(p.Projects) != 3 || p.Totals.Unknown != 0 || p.Totals.Changes == 0 || p.Project("project-002").Name != "Project 2" {
					t.Errorf("the plan is %s", stacktest.Show(p))
				}
				for _, id := range ids {
					if got := p.Project(id).Lacks(); !slices.Equal(got, c.missing[id]) {
						t.Errorf("the user lacks %v in %s, want %v", got, id, c.missing[id])
					}
				}
				if c.changes != nil {
					c.changes(&p, func(kind string, n int) {
						if p.Totals.ByKind[kind] != n {
							t.Errorf("the plan has %d of %s, want %d", p.Totals.ByKind[kind], kind, n)
						}
					})
				}
				final := y.Await(y.Restart(ids...))
				if final.Result == nil || final.Result.Status != "SUCCESS" {
					t.Fatalf("the setup ended with %s", stacktest.Show(final))
				}
				var connection struct {
					Root string `json:"root_project"`
				}
				y.Call(http.StatusOK, http.MethodGet, "/api/gcp/root-project", nil, &connection)
				if connection.Root != p.Accounts.Root || !p.Project(connection.Root).Root {
					t.Errorf("the root project is %s, and %s in the plan", connection.Root, p.Accounts.Root)
				}
				var done, planned []stacktest.LedgerEntry
				refused := map[string]bool{} // kinds of changes by project
				for _, e := range y.Ledger("page_size=1000") {
					switch e.State {
					case "done":
						done = append(done, e)
					case "refused":
						refused[e.Project+" "+e.Kind] = true
					default:
						t.Errorf("the ledger has %+v", e)
					}
				}
				for _, e := range p.AllChanges() {
					if !refused[e.Project+" "+e.Kind] {
						planned = append(planned, e)
					}
				}
				if diff := cmp.Diff(stacktest.LedgerLines(planned), stacktest.LedgerLines(done)); diff != "" {
					t.Errorf("the plan and the ledger differ (-plan +ledger):\n%s", diff)
				}
				kinds := map[string]string{"serviceusage.services.enable": "enable_api", "resourcemanager.projects.setIamPolicy": "add_binding", "orgpolicy.policy.set": "set_org_policy"}
				wanted := map[string]bool{}
				for id, permissions := range c.missing {
					for _, permission := range permissions {
						wanted[id+" "+kinds[permission]] = true
					}
				}
				if diff := cmp.Diff(wanted, refused); diff != "" {
					t.Errorf("what is missing and what was refused differ (-missing +refused):\n%s", diff)
				}
				if again := y.Plan(ids...); len(c.missing) == 0 && again.Totals.Changes != 0 {
					t.Errorf("after the setup there is more to do: %s", stacktest.Show(again.Totals))
				}
			})
		})
	}
}

// What has changed since is in the next plan, and no more.
func TestPlan_AfterSetupHasOnlyWhatWasUndone(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), choosing, func(y *stacktest.System) {
		y.ConnectUndecided()
		ids := []string{"project-001", "project-002"}
		y.WantSuccess(y.Await(y.Restart(ids...)), 2, 2)
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/sa-project-access", map[string]any{"projects": []map[string]any{{"projectId": "project-002", "enabled": false}}}, nil)
		p := y.Plan(ids...)
		if len(p.Project("project-001").Changes) != 0 || len(p.Project("project-002").Changes) != p.Totals.ByKind["add_binding"] || p.Totals.Changes != 22 || p.Accounts.Root != "project-001" {
			t.Errorf("the plan is %s", stacktest.Show(p.Totals))
		}
		// Another root project: its accounts, and the roles of the old ones go.
		y.Call(http.StatusAccepted, http.MethodPost, "/api/gcp/root-project", map[string]any{"project_id": "project-002"}, nil)
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if p := y.Plan("project-001"); p.Totals.Changes != 0 || p.Accounts.Root != "project-002" || len(p.Projects) != 2 {
			t.Errorf("the plan of a project that is not the root is %s", stacktest.Show(p))
		}
		// A root project that cannot be it any more.
		if err := y.Google.AddFault(google.Fault{Method: "cloudbilling.*", Project: "project-002", Code: 403}); err != nil {
			t.Fatal(err)
		}
		p = y.Plan("project-001")
		if p.Accounts.Root != "project-001" || len(p.Warnings) != 1 || p.Warnings[0].Code != "root_project_changed" || p.Totals.ByKind["create_account"] != 0 ||
			p.Totals.ByKind["add_binding"] != 22 || p.Totals.ByKind["remove_binding"] != 22 {
			t.Errorf("the plan without the root project is %s %+v", stacktest.Show(p.Totals), p.Warnings)
		}
		y.Google.ClearFaults()
		// The root project is not among the chosen ones, and its accounts are
		// disabled, and then gone.
		snapshot, _ := y.Google.Project("project-002")
		for _, account := range snapshot.ServiceAccounts {
			y.CallGoogle(owner, http.MethodPost, "/iam/v1/projects/project-002/serviceAccounts/"+account.Email+":disable", map[string]any{})
		}
		if p := y.Plan("project-001"); p.Totals.Changes != 2 || p.Totals.ByKind["enable_account"] != 2 {
			t.Errorf("the plan with disabled accounts is %s", stacktest.Show(p.Totals))
		}
		for _, account := range snapshot.ServiceAccounts {
			y.CallGoogle(owner, http.MethodDelete, "/iam/v1/projects/project-002/serviceAccounts/"+account.Email, nil)
		}
		p = y.Plan("project-001")
		root := p.Project("project-002")
		if !root.Root || root.Name != "Project 2" || len(root.Changes) == 0 || root.Changes[0].Kind != "create_account" || p.Totals.ByKind["create_account"] != 2 || len(root.Changes) != 2+2 {
			t.Errorf("the plan without accounts is %s", stacktest.Show(p))
		}
	})
}

// What cannot be looked at is unknown, and never said to stand.
func TestPlan_NamesUnknowns(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2, administered), choosing, func(y *stacktest.System) {
		y.ConnectUndecided()
		for _, c := range []struct {
			method, step string
			not          string // the kind of change of which nothing can be said
		}{
			{"serviceusage.services.batchGet", "enable-apis", "enable_api"},
			{"cloudresourcemanager.projects.getIamPolicy", "grant-access", "add_binding"},
			{"orgpolicy.policies.getEffectivePolicy", "update-org-policies", "set_org_policy"},
			{"cloudresourcemanager.projects.testIamPermissions", "", "none"},
		} {
			if err := y.Google.AddFault(google.Fault{Method: c.method, Project: "project-002", Code: 403}); err != nil {
				t.Fatal(err)
			}
			p := y.Plan("project-001", "project-002")
			o := p.Project("project-002")
			if len(o.Unknown) != 1 || o.Unknown[0].Step != c.step || !strings.Contains(o.Unknown[0].Message, "project-002") || len(p.Project("project-001").Unknown) != 0 || p.Project("project-002").Lacks() != nil {
				t.Errorf("without %s the plan is %s", c.method, stacktest.Show(o))
			}
			kinds := map[string]bool{}
			for _, change := range o.Changes {
				kinds[change.Kind] = true
			}
			want := map[string]bool{"enable_api": true, "add_binding": true, "set_org_policy": true}
			delete(want, c.not)
			if !cmp.Equal(kinds, want) {
				t.Errorf("without %s there are changes of kinds %v, want %v", c.method, kinds, want)
			}
			y.Google.ClearFaults()
		}
		for _, method := range []string{"iam.serviceAccounts.get"} {
			if err := y.Google.AddFault(google.Fault{Method: method, Code: 403}); err != nil {
				t.Fatal(err)
			}
			p := y.Plan("project-001", "project-002")
			if root := p.Project("project-001"); len(root.Unknown) != 2 || p.Totals.ByKind["create_account"] != 0 {
				t.Errorf("without %s the plan is %s", method, stacktest.Show(p))
			}
			y.Google.ClearFaults()
		}
		// A Google that is down is a reason to ask again, and for no plan.
		for _, method := range []string{"serviceusage.services.batchGet", "cloudresourcemanager.projects.getIamPolicy", "cloudresourcemanager.projects.testIamPermissions", "iam.serviceAccounts.get", "cloudbilling.*", "*.search"} {
			if err := y.Google.AddFault(google.Fault{Method: method, Code: 503}); err != nil {
				t.Fatal(err)
			}
			y.Call(http.StatusServiceUnavailable, http.MethodPost, "/gcp/setup/plan", map[string]any{"selected_project_ids": []string{"project-001"}}, nil)
			y.Google.ClearFaults()
		}
	})
}

func TestPlan_IsRefusedAsSetupIs(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(3, func(s *google.Scenario) { googletest.Project(s, "project-003").BillingAccount = "" }), choosing, func(y *stacktest.System) {
		const path = "/gcp/setup/plan"
		y.Call(http.StatusNotFound, http.MethodPost, path, nil, nil)
		y.ConnectUndecided()
		if p := y.Plan(); p.Status != "needs_selection" || len(p.Eligible) != 2 || len(p.Projects) != 0 {
			t.Errorf("a plan of no chosen projects is %s", stacktest.Show(p))
		}
		for body, words := range map[string]string{
			`{"selected_project_ids":["project-003","elsewhere","project-001"]}`: "project-003 (no active billing), elsewhere (not visible or not active).",
			`{"selected_project_ids":[]}`:                                        "at least 1 project",
			`{"selected_project_ids":["project-001"],"cleanup":true}`:            "cleanup",
			`{}`: "selected_project_ids is missing",
			`{"selected_project_ids":["project-001",7]}`: "selected_project_ids[1]",
		} {
			if got := y.Call(http.StatusBadRequest, http.MethodPost, path, json.RawMessage(body), nil); !strings.Contains(got, words) {
				t.Errorf("%s was answered %s, want %q", body, got, words)
			}
		}
		many := make([]string, 101)
		for i := range many {
			many[i] = strings.Repeat("x", i+1)
		}
		if got := y.Call(http.StatusBadRequest, http.MethodPost, path, map[string]any{"selected_project_ids": many}, nil); !strings.Contains(got, "at most 100") {
			t.Errorf("101 projects were answered %s", got)
		}
		if err := y.Google.RevokeUser(owner); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, asked := range []bool{true, false} { // found out at Google, and known then
			y.Google.ClearCalls()
			if got := y.Call(http.StatusForbidden, http.MethodPost, path, nil, nil); !strings.Contains(got, "needs_reauth") || asked != (y.Google.CallCounts().Total > 0) {
				t.Errorf("without the user's consent a plan is answered %s after %d calls", got, y.Google.CallCounts().Total)
			}
		}
	})
	stacktest.Run(t, googletest.Scenario(0), nil, func(y *stacktest.System) {
		login, task, err := y.User.Connect(y.T.Context(), demo.Choice{})
		if err != nil || login != "gcp_setup_pending" {
			t.Fatal(login, err)
		}
		y.Await(task)
		if got := y.Call(http.StatusConflict, http.MethodPost, "/gcp/setup/plan", nil, nil); !strings.Contains(got, "No GCP projects found during login") {
			t.Errorf("without projects a plan is answered %s", got)
		}
	})
}

// Where no project can hold the accounts, the plan says what is missing for
// that, and the setup fails of it.
func TestPlan_WithoutRootProject(t *testing.T) {
	t.Parallel()
	editor := func(s *google.Scenario) {
		for _, id := range []string{"project-001", "project-002"} {
			googletest.Project(s, id).Bindings = []google.Binding{
				{Role: "roles/owner", Members: []string{"user:someone@example.com"}}, {Role: "roles/editor", Members: []string{"user:" + owner}},
			}
		}
		googletest.Restricted(s)
	}
	environment := map[string]string{"MAX_AUTO_PROJECTS": "1", "UPDATE_ORG_POLICIES": "false"}
	stacktest.Run(t, googletest.Scenario(2, editor), environment, func(y *stacktest.System) {
		y.ConnectUndecided()
		p := y.Plan("project-001", "project-002")
		if got, want := p.Project("project-001").Lacks(), []string{"iam.serviceAccounts.setIamPolicy", "resourcemanager.projects.setIamPolicy"}; p.Accounts.Root != "project-001" || !slices.Equal(got, want) {
			t.Errorf("the user lacks %v in the root project %s, want %v", got, p.Accounts.Root, want)
		}
		if got, want := p.Project("project-002").Lacks(), []string{"resourcemanager.projects.setIamPolicy"}; !slices.Equal(got, want) {
			t.Errorf("the user lacks %v in the other project, want %v", got, want)
		}
		if p.Totals.ByKind["set_org_policy"] != 0 {
			t.Error("an organization policy is to be set where that is switched off")
		}
		y.WantFailed(y.Await(y.Restart("project-001", "project-002")), "login=gcp_failed", "Service Account Admin")
	})
}
