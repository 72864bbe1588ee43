package stack_test

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
)

// plan is what POST /gcp/setup/plan answers.
type plan struct {
	Status   string `json:"status"`
	Eligible []struct {
		ID string `json:"projectId"`
	} `json:"eligible_projects"`
	Accounts struct {
		Root string `json:"root_project"`
	} `json:"service_accounts"`
	Projects []plannedProject `json:"projects"`
	Totals   struct {
		Changes int            `json:"changes"`
		ByKind  map[string]int `json:"by_kind"`
		Missing int            `json:"missing_permissions"`
		Unknown int            `json:"unknown"`
	} `json:"totals"`
	Warnings []struct{ Code, ProjectID string } `json:"warnings"`
}

type plannedProject struct {
	ID      string `json:"projectId"`
	Name    string `json:"name"`
	Root    bool   `json:"isRootProject"`
	Changes []struct {
		entry
		Why string `json:"why"`
	} `json:"changes"`
	Missing []obstacle `json:"missing_permissions"`
	Unknown []obstacle `json:"unknown"`
}

type obstacle struct{ Step, Permission, Message string }

// project returns the plan for a project.
func (p *plan) project(id string) plannedProject {
	for _, project := range p.Projects {
		if project.ID == id {
			return project
		}
	}
	return plannedProject{}
}

// lacks are the permissions that are missing in a project.
func (p plannedProject) lacks() []string {
	var missing []string
	for _, m := range p.Missing {
		missing = append(missing, m.Permission)
	}
	return missing
}

// plan asks for the plan of a setup of the projects, and fails if asking has
// changed or stored anything, or asked Google more than it should.
func (y *system) plan(selected ...string) plan {
	y.t.Helper()
	if err := y.Idle(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
	before, counts := y.Google.Snapshot(), y.Counts()
	y.Google.ClearCalls()
	var body any
	if len(selected) > 0 {
		body = map[string]any{"selected_project_ids": selected}
	}
	var p plan
	y.call(http.StatusOK, http.MethodPost, "/gcp/setup/plan", body, &p)
	calls := y.Google.CallCounts()
	if diff := google.Diff(before, y.Google.Snapshot()); len(diff) > 0 || calls.Writes > 0 {
		y.t.Errorf("the plan wrote %d times and changed %v", calls.Writes, diff)
	}
	after := y.Counts()
	after.Reads, after.Transactions, after.VaultCalls = counts.Reads, counts.Transactions, counts.VaultCalls
	if after != counts {
		y.t.Errorf("the plan stored something: %+v, want %+v", after, counts)
	}
	most := 1 + 5*len(p.Projects) + 4 + 1 // a root project that is not chosen may turn out not to be billed
	if n := calls.ByMethod["serviceusage.services.batchGet"]; n > len(p.Projects) {
		most += n - len(p.Projects) // asked again where it may not be counted against the customer's project
	}
	if len(p.Eligible) == 0 && calls.Total-calls.ByMethod["oauth.token"] > most {
		y.t.Errorf("Google was asked %v, want %d calls at most", calls.ByMethod, most)
	}
	changes, kinds, missing, unknown := 0, map[string]int{}, 0, 0
	for _, project := range p.Projects {
		changes, missing, unknown = changes+len(project.Changes), missing+len(project.Missing), unknown+len(project.Unknown)
		for _, c := range project.Changes {
			kinds[c.Kind]++
			if c.Why == "" || (c.Kind == "remove_binding") != strings.Contains(c.Why, "earlier root project") {
				y.t.Errorf("the reason for %+v is %q", c.entry, c.Why)
			}
		}
	}
	if p.Totals.Changes != changes || p.Totals.Missing != missing || p.Totals.Unknown != unknown || len(p.Eligible) == 0 && !cmp.Equal(p.Totals.ByKind, kinds) {
		y.t.Errorf("the totals are %+v, want %d changes %v, %d missing permissions, %d unknown", p.Totals, changes, kinds, missing, unknown)
	}
	return p
}

// lines are changes as text, in order.
func lines(entries []entry) []string {
	var text []string
	for _, e := range entries {
		text = append(text, strings.Join([]string{e.Project, e.Kind, e.Target, e.Role, e.Member}, " "))
	}
	slices.Sort(text)
	return text
}

// changes are those of all projects.
func (p *plan) changes() []entry {
	var all []entry
	for _, project := range p.Projects {
		for _, c := range project.Changes {
			c.Project = project.ID
			all = append(all, c.entry)
		}
	}
	return all
}

// choosing is an environment in which every setup is of chosen projects, so
// that there is a time between the login and the first change.
var choosing = map[string]string{"MAX_AUTO_PROJECTS": "1"}

// undecided logs in and leaves it at the question which projects to take.
func (y *system) undecided() {
	y.t.Helper()
	if s := y.complete(); s.Result == nil || s.Result.Status != "needs_selection" {
		y.t.Fatalf("the setup ended with %s", show(s))
	}
}

// administered makes the organization allow only its own members, and the user
// may change that.
func administered(s *google.Scenario) {
	googletest.Restricted(s)
	googletest.PolicyAdministrator(s)
}

// What a plan says is what the setup then does: every change in the ledger is
// in the plan, and every one in the plan is in the ledger, done where no
// permission was missing and not done where one was.
func TestAPlanIsWhatTheSetupDoes(t *testing.T) {
	t.Parallel()
	ids := []string{"project-001", "project-002", "project-003"}
	anyMember := map[string]google.PolicySpec{"iam.allowedPolicyMemberDomains": {Rules: []google.PolicyRule{{AllowAll: true}}}}
	ownerIs := func(s *google.Scenario, id string, roles ...string) {
		p := project(s, id)
		p.Bindings = []google.Binding{{Role: "roles/owner", Members: []string{"user:someone@example.com"}}}
		for _, role := range roles {
			p.Bindings = append(p.Bindings, google.Binding{Role: role, Members: []string{"user:" + owner}})
		}
	}
	for name, c := range map[string]struct {
		change  func(*google.Scenario)
		before  func(*system)                         // changes Google after the login
		missing map[string][]string                   // permissions by project
		changes func(p *plan, want func(string, int)) // more that is wanted of the plan
	}{
		"new projects": {
			change: withPlatform,
			changes: func(p *plan, want func(string, int)) {
				want("create_account", 2)
				want("set_org_policy", 0)
			},
		},
		"projects with much of it": {
			change: func(s *google.Scenario) {
				p := project(s, "project-002")
				p.EnabledAPIs = &[]string{"compute.googleapis.com", "run.googleapis.com", "storage.googleapis.com"}
				p.OrgPolicies = anyMember
				// A conditional binding of a role is another thing.
				p.Bindings = append(p.Bindings, google.Binding{Role: "roles/storage.admin", Members: []string{"user:" + owner}, Condition: &google.Condition{Title: "x", Expression: "true"}})
			},
		},
		"an organization that restricts members": {
			change: func(s *google.Scenario) {
				googletest.Restricted(s)
				project(s, "project-002").OrgPolicies = anyMember
			},
			missing: map[string][]string{"project-001": {"orgpolicy.policy.set"}, "project-003": {"orgpolicy.policy.set"}},
			changes: func(p *plan, want func(string, int)) { want("set_org_policy", 2) },
		},
		"a policy administrator": {
			change:  administered,
			changes: func(p *plan, want func(string, int)) { want("set_org_policy", 3) },
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
			run(t, scenario(3, c.change), choosing, func(y *system) {
				y.undecided()
				p := y.plan(ids...)
				if p.Status != "planned" || len(p.Projects) != 3 || p.Totals.Unknown != 0 || p.Totals.Changes == 0 || p.project("project-002").Name != "Project 2" {
					t.Errorf("the plan is %s", show(p))
				}
				for _, id := range ids {
					if got := p.project(id).lacks(); !slices.Equal(got, c.missing[id]) {
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
				final := y.await(y.restart(ids...))
				if final.Result == nil || final.Result.Status != "SUCCESS" {
					t.Fatalf("the setup ended with %s", show(final))
				}
				var connection struct {
					Root string `json:"root_project"`
				}
				y.call(http.StatusOK, http.MethodGet, "/api/gcp/root-project", nil, &connection)
				if connection.Root != p.Accounts.Root || !p.project(connection.Root).Root {
					t.Errorf("the root project is %s, and %s in the plan", connection.Root, p.Accounts.Root)
				}
				var done, planned []entry
				refused := map[string]bool{} // kinds of changes by project
				for _, e := range y.entries("page_size=1000") {
					switch e.State {
					case "done":
						done = append(done, e)
					case "refused":
						refused[e.Project+" "+e.Kind] = true
					default:
						t.Errorf("the ledger has %+v", e)
					}
				}
				for _, e := range p.changes() {
					if !refused[e.Project+" "+e.Kind] {
						planned = append(planned, e)
					}
				}
				if diff := cmp.Diff(lines(planned), lines(done)); diff != "" {
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
				if again := y.plan(ids...); len(c.missing) == 0 && again.Totals.Changes != 0 {
					t.Errorf("after the setup there is more to do: %s", show(again.Totals))
				}
			})
		})
	}
}

// What has changed since is in the next plan, and no more.
func TestAPlanAfterASetupIsOfWhatWasUndone(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), choosing, func(y *system) {
		y.undecided()
		ids := []string{"project-001", "project-002"}
		y.wantSuccess(y.await(y.restart(ids...)), 2, 2)
		y.call(http.StatusOK, http.MethodPost, "/api/gcp/sa-project-access", map[string]any{"projects": []map[string]any{{"projectId": "project-002", "enabled": false}}}, nil)
		p := y.plan(ids...)
		if len(p.project("project-001").Changes) != 0 || len(p.project("project-002").Changes) != p.Totals.ByKind["add_binding"] || p.Totals.Changes != 22 || p.Accounts.Root != "project-001" {
			t.Errorf("the plan is %s", show(p.Totals))
		}
		// Another root project: its accounts, and the roles of the old ones go.
		y.call(http.StatusAccepted, http.MethodPost, "/api/gcp/root-project", map[string]any{"project_id": "project-002"}, nil)
		if err := y.Idle(y.t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if p := y.plan("project-001"); p.Totals.Changes != 0 || p.Accounts.Root != "project-002" || len(p.Projects) != 2 {
			t.Errorf("the plan of a project that is not the root is %s", show(p))
		}
		// A root project that cannot be it any more.
		if err := y.Google.AddFault(google.Fault{Method: "cloudbilling.*", Project: "project-002", Code: 403}); err != nil {
			t.Fatal(err)
		}
		p = y.plan("project-001")
		if p.Accounts.Root != "project-001" || len(p.Warnings) != 1 || p.Warnings[0].Code != "root_project_changed" || p.Totals.ByKind["create_account"] != 0 ||
			p.Totals.ByKind["add_binding"] != 22 || p.Totals.ByKind["remove_binding"] != 22 {
			t.Errorf("the plan without the root project is %s %+v", show(p.Totals), p.Warnings)
		}
		y.Google.ClearFaults()
		// The root project is not among the chosen ones, and its accounts are
		// disabled, and then gone.
		snapshot, _ := y.Google.Project("project-002")
		for _, account := range snapshot.ServiceAccounts {
			y.asOwner(http.MethodPost, "/iam/v1/projects/project-002/serviceAccounts/"+account.Email+":disable", map[string]any{})
		}
		if p := y.plan("project-001"); p.Totals.Changes != 2 || p.Totals.ByKind["enable_account"] != 2 {
			t.Errorf("the plan with disabled accounts is %s", show(p.Totals))
		}
		for _, account := range snapshot.ServiceAccounts {
			y.asOwner(http.MethodDelete, "/iam/v1/projects/project-002/serviceAccounts/"+account.Email, nil)
		}
		p = y.plan("project-001")
		root := p.project("project-002")
		if !root.Root || root.Name != "Project 2" || len(root.Changes) == 0 || root.Changes[0].Kind != "create_account" || p.Totals.ByKind["create_account"] != 2 || len(root.Changes) != 2+2 {
			t.Errorf("the plan without accounts is %s", show(p))
		}
	})
}

// asOwner calls Google as the owner of all projects.
func (y *system) asOwner(method, path string, body any) {
	y.t.Helper()
	token, err := y.Google.MintToken(owner, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		y.t.Fatal(err)
	}
	content, err := json.Marshal(body)
	if err != nil {
		y.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(y.t.Context(), method, y.GoogleURL+path, strings.NewReader(string(content)))
	if err != nil {
		y.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := y.Client().Do(r)
	if err != nil {
		y.t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		y.t.Fatalf("%s %s answered %d", method, path, response.StatusCode)
	}
}

// What cannot be looked at is unknown, and never said to stand.
func TestAPlanSaysWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, administered), choosing, func(y *system) {
		y.undecided()
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
			p := y.plan("project-001", "project-002")
			o := p.project("project-002")
			if len(o.Unknown) != 1 || o.Unknown[0].Step != c.step || !strings.Contains(o.Unknown[0].Message, "project-002") || len(p.project("project-001").Unknown) != 0 || p.project("project-002").lacks() != nil {
				t.Errorf("without %s the plan is %s", c.method, show(o))
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
			p := y.plan("project-001", "project-002")
			if root := p.project("project-001"); len(root.Unknown) != 2 || p.Totals.ByKind["create_account"] != 0 {
				t.Errorf("without %s the plan is %s", method, show(p))
			}
			y.Google.ClearFaults()
		}
		// A Google that is down is a reason to ask again, and for no plan.
		for _, method := range []string{"serviceusage.services.batchGet", "cloudresourcemanager.projects.getIamPolicy", "cloudresourcemanager.projects.testIamPermissions", "iam.serviceAccounts.get", "cloudbilling.*", "*.search"} {
			if err := y.Google.AddFault(google.Fault{Method: method, Code: 503}); err != nil {
				t.Fatal(err)
			}
			y.call(http.StatusServiceUnavailable, http.MethodPost, "/gcp/setup/plan", map[string]any{"selected_project_ids": []string{"project-001"}}, nil)
			y.Google.ClearFaults()
		}
	})
}

func TestPlansAreRefusedAsSetupsAre(t *testing.T) {
	t.Parallel()
	run(t, scenario(3, func(s *google.Scenario) { project(s, "project-003").BillingAccount = "" }), choosing, func(y *system) {
		const path = "/gcp/setup/plan"
		y.call(http.StatusNotFound, http.MethodPost, path, nil, nil)
		y.undecided()
		if p := y.plan(); p.Status != "needs_selection" || len(p.Eligible) != 2 || len(p.Projects) != 0 {
			t.Errorf("a plan of no chosen projects is %s", show(p))
		}
		for body, words := range map[string]string{
			`{"selected_project_ids":["project-003","elsewhere","project-001"]}`: "project-003 (no active billing), elsewhere (not visible or not active).",
			`{"selected_project_ids":[]}`:                                        "at least 1 project",
			`{"selected_project_ids":["project-001"],"cleanup":true}`:            "cleanup",
			`{}`: "selected_project_ids is missing",
			`{"selected_project_ids":["project-001",7]}`: "selected_project_ids[1]",
		} {
			if got := y.call(http.StatusBadRequest, http.MethodPost, path, json.RawMessage(body), nil); !strings.Contains(got, words) {
				t.Errorf("%s was answered %s, want %q", body, got, words)
			}
		}
		many := make([]string, 101)
		for i := range many {
			many[i] = strings.Repeat("x", i+1)
		}
		if got := y.call(http.StatusBadRequest, http.MethodPost, path, map[string]any{"selected_project_ids": many}, nil); !strings.Contains(got, "at most 100") {
			t.Errorf("101 projects were answered %s", got)
		}
		if err := y.Google.RevokeUser(owner); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, asked := range []bool{true, false} { // found out at Google, and known then
			y.Google.ClearCalls()
			if got := y.call(http.StatusForbidden, http.MethodPost, path, nil, nil); !strings.Contains(got, "needs_reauth") || asked != (y.Google.CallCounts().Total > 0) {
				t.Errorf("without the user's consent a plan is answered %s after %d calls", got, y.Google.CallCounts().Total)
			}
		}
	})
	run(t, scenario(0, nil), nil, func(y *system) {
		login, task, err := y.user.Connect(y.t.Context(), demo.Choice{})
		if err != nil || login != "gcp_setup_pending" {
			t.Fatal(login, err)
		}
		y.await(task)
		if got := y.call(http.StatusConflict, http.MethodPost, "/gcp/setup/plan", nil, nil); !strings.Contains(got, "No GCP projects found during login") {
			t.Errorf("without projects a plan is answered %s", got)
		}
	})
}

// Where no project can hold the accounts, the plan says what is missing for
// that, and the setup fails of it.
func TestAPlanWithoutARootProject(t *testing.T) {
	t.Parallel()
	editor := func(s *google.Scenario) {
		for _, id := range []string{"project-001", "project-002"} {
			project(s, id).Bindings = []google.Binding{
				{Role: "roles/owner", Members: []string{"user:someone@example.com"}}, {Role: "roles/editor", Members: []string{"user:" + owner}},
			}
		}
		googletest.Restricted(s)
	}
	environment := map[string]string{"MAX_AUTO_PROJECTS": "1", "UPDATE_ORG_POLICIES": "false"}
	run(t, scenario(2, editor), environment, func(y *system) {
		y.undecided()
		p := y.plan("project-001", "project-002")
		if got, want := p.project("project-001").lacks(), []string{"iam.serviceAccounts.setIamPolicy", "resourcemanager.projects.setIamPolicy"}; p.Accounts.Root != "project-001" || !slices.Equal(got, want) {
			t.Errorf("the user lacks %v in the root project %s, want %v", got, p.Accounts.Root, want)
		}
		if got, want := p.project("project-002").lacks(), []string{"resourcemanager.projects.setIamPolicy"}; !slices.Equal(got, want) {
			t.Errorf("the user lacks %v in the other project, want %v", got, want)
		}
		if p.Totals.ByKind["set_org_policy"] != 0 {
			t.Error("an organization policy is to be set where that is switched off")
		}
		y.wantFailed(y.await(y.restart("project-001", "project-002")), "login=gcp_failed", "Service Account Admin")
	})
}

func TestPlansOverRealServicesToo(t *testing.T) {
	t.Parallel()
	everywhere(t, func() *google.Scenario { return scenario(2, nil) }, choosing, func(y *system) {
		y.undecided()
		before := y.plan("project-002")
		if before.Accounts.Root != "project-002" || before.Totals.ByKind["create_account"] != 2 {
			y.t.Errorf("the plan is %s", show(before))
		}
		y.wantSuccess(y.await(y.restart("project-002")), 1, 1)
		if diff := cmp.Diff(lines(before.changes()), lines(y.entries("page_size=1000"))); diff != "" {
			y.t.Errorf("the plan and the ledger differ (-plan +ledger):\n%s", diff)
		}
		if after := y.plan("project-002"); after.Totals.Changes != 0 {
			y.t.Errorf("after the setup there is more to do: %s", show(after.Totals))
		}
	})
}
