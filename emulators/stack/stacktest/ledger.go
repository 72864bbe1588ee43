package stacktest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
)

// LedgerEntry is an entry of the ledger or of a plan.
type LedgerEntry struct {
	Project string  `json:"projectId"`
	Kind    string  `json:"kind"`
	Target  string  `json:"target"`
	Role    string  `json:"role"`
	Member  string  `json:"member"`
	State   string  `json:"state"`
	Done    *string `json:"done_at"`
}

// Ledger returns the entries of the ledger that a query selects.
func (y *System) Ledger(query string) []LedgerEntry {
	y.T.Helper()
	var entries []LedgerEntry
	for token := ""; ; {
		var page struct {
			Changes []LedgerEntry `json:"changes"`
			Next    string        `json:"next_page_token"`
		}
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/changes?"+query+"&page_token="+token, nil, &page)
		entries = append(entries, page.Changes...)
		if token = page.Next; token == "" {
			return entries
		}
	}
}

// DisconnectWithCleanup disconnects with cleanup and returns how the removal
// ended.
func (y *System) DisconnectWithCleanup(body map[string]any) *demo.Status {
	y.T.Helper()
	body["cleanup"] = true
	var accepted struct {
		Success bool   `json:"success"`
		TaskID  string `json:"task_id"`
	}
	y.Call(http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", body, &accepted)
	if !accepted.Success || accepted.TaskID == "" {
		y.T.Fatalf("disconnect answered %+v", accepted)
	}
	return y.Await(accepted.TaskID)
}

// ChangedAtGoogle returns what has changed at Google since a snapshot. It
// leaves out the consents of users, and enabled APIs if apis is set.
func (y *System) ChangedAtGoogle(before google.Snapshot, apis bool) []string {
	return slices.DeleteFunc(google.Diff(before, y.Google.Snapshot()), func(line string) bool {
		return strings.Contains(line, "consent ") || apis && strings.Contains(line, " api ")
	})
}

// WantRemoved fails unless a removal undid everything.
func (y *System) WantRemoved(s *demo.Status) {
	y.T.Helper()
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Cleanup != "FULL" || s.Result.Undone == 0 || len(s.Result.Left) != 0 {
		y.T.Errorf("the removal ended with %s", Show(s))
	}
}

// LedgerCounts counts the entries of the ledger by kind and state.
func (y *System) LedgerCounts() map[string]int {
	y.T.Helper()
	counts := map[string]int{}
	for _, c := range y.Ledger("page_size=1000") {
		counts[c.Kind+" "+c.State]++
	}
	return counts
}

// Plan is the answer of POST /gcp/setup/plan.
type Plan struct {
	Status   string `json:"status"`
	Eligible []struct {
		ID string `json:"projectId"`
	} `json:"eligible_projects"`
	Accounts struct {
		Root string `json:"root_project"`
	} `json:"service_accounts"`
	Projects []PlannedProject `json:"projects"`
	Totals   struct {
		Changes int            `json:"changes"`
		ByKind  map[string]int `json:"by_kind"`
		Missing int            `json:"missing_permissions"`
		Unknown int            `json:"unknown"`
	} `json:"totals"`
	Warnings []struct{ Code, ProjectID string } `json:"warnings"`
}

// PlannedProject is the plan for a project.
type PlannedProject struct {
	ID      string `json:"projectId"`
	Name    string `json:"name"`
	Root    bool   `json:"isRootProject"`
	Changes []struct {
		LedgerEntry
		Why string `json:"why"`
	} `json:"changes"`
	Missing []PlanObstacle `json:"missing_permissions"`
	Unknown []PlanObstacle `json:"unknown"`
}

// PlanObstacle is a missing permission, or something that could not be read.
type PlanObstacle struct{ Step, Permission, Message string }

// Project returns the plan for a project.
func (p *Plan) Project(id string) PlannedProject {
	for _, project := range p.Projects {
		if project.ID == id {
			return project
		}
	}
	return PlannedProject{}
}

// Lacks returns the permissions that are missing in a project.
func (p PlannedProject) Lacks() []string {
	var missing []string
	for _, m := range p.Missing {
		missing = append(missing, m.Permission)
	}
	return missing
}

// Plan requests the plan of a setup of the projects. It fails if the request
// changed or stored anything, or made more calls to Google than planning needs.
func (y *System) Plan(selected ...string) Plan {
	y.T.Helper()
	if err := y.Idle(y.T.Context()); err != nil {
		y.T.Fatal(err)
	}
	before, counts := y.Google.Snapshot(), y.Counts()
	y.Google.ClearCalls()
	var body any
	if len(selected) > 0 {
		body = map[string]any{"selected_project_ids": selected}
	}
	var p Plan
	y.Call(http.StatusOK, http.MethodPost, "/gcp/setup/plan", body, &p)
	calls := y.Google.CallCounts()
	if diff := google.Diff(before, y.Google.Snapshot()); len(diff) > 0 || calls.Writes > 0 {
		y.T.Errorf("the plan wrote %d times and changed %v", calls.Writes, diff)
	}
	after := y.Counts()
	after.Reads, after.Transactions, after.VaultCalls = counts.Reads, counts.Transactions, counts.VaultCalls
	if after != counts {
		y.T.Errorf("the plan stored something: %+v, want %+v", after, counts)
	}
	most := 1 + 5*len(p.Projects) + 4 + 1 // a root project that is not chosen may turn out not to be billed
	if n := calls.ByMethod["serviceusage.services.batchGet"]; n > len(p.Projects) {
		most += n - len(p.Projects) // asked again where it may not be counted against the customer's project
	}
	if len(p.Eligible) == 0 && calls.Total-calls.ByMethod["oauth.token"] > most {
		y.T.Errorf("Google was asked %v, want %d calls at most", calls.ByMethod, most)
	}
	changes, kinds, missing, unknown := 0, map[string]int{}, 0, 0
	for _, project := range p.Projects {
		changes, missing, unknown = changes+len(project.Changes), missing+len(project.Missing), unknown+len(project.Unknown)
		for _, c := range project.Changes {
			kinds[c.Kind]++
			if c.Why == "" || (c.Kind == "remove_binding") != strings.Contains(c.Why, "earlier root project") {
				y.T.Errorf("the reason for %+v is %q", c.LedgerEntry, c.Why)
			}
		}
	}
	if p.Totals.Changes != changes || p.Totals.Missing != missing || p.Totals.Unknown != unknown || len(p.Eligible) == 0 && !cmp.Equal(p.Totals.ByKind, kinds) {
		y.T.Errorf("the totals are %+v, want %d changes %v, %d missing permissions, %d unknown", p.Totals, changes, kinds, missing, unknown)
	}
	return p
}

// LedgerLines renders entries as sorted text.
func LedgerLines(entries []LedgerEntry) []string {
	var text []string
	for _, e := range entries {
		text = append(text, strings.Join([]string{e.Project, e.Kind, e.Target, e.Role, e.Member}, " "))
	}
	slices.Sort(text)
	return text
}

// AllChanges returns the planned changes of all projects.
func (p *Plan) AllChanges() []LedgerEntry {
	var all []LedgerEntry
	for _, project := range p.Projects {
		for _, c := range project.Changes {
			c.Project = project.ID
			all = append(all, c.LedgerEntry)
		}
	}
	return all
}

// ConnectUndecided connects the user, whose setup must end with the question
// which projects to select.
func (y *System) ConnectUndecided() {
	y.T.Helper()
	if s := y.Complete(); s.Result == nil || s.Result.Status != "needs_selection" {
		y.T.Fatalf("the setup ended with %s", Show(s))
	}
}
