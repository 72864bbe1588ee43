package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// planned is a change in the answer of plan.
type planned struct {
	Kind   string `json:"kind"`
	Target string `json:"target"`
	Role   string `json:"role,omitempty"`
	Member string `json:"member,omitempty"`
	Why    string `json:"why"`
}

// obstacle is what is in the way of a step.
type obstacle struct {
	Step       string `json:"step,omitempty"`
	Permission string `json:"permission,omitempty"`
	Message    string `json:"message"`
}

// plannedProject is a project in the answer of plan.
type plannedProject struct {
	ID      string     `json:"projectId"`
	Name    string     `json:"name"`
	Root    bool       `json:"isRootProject"`
	Changes []planned  `json:"changes"`
	Missing []obstacle `json:"missing_permissions"`
	Unknown []obstacle `json:"unknown"` // what could not be looked at
}

// plan answers what a setup of the selected projects would change, with
// nothing changed.
func (e *edge) plan(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	selected, err := selection(r, refuseUnknown)
	if err != nil {
		return err
	}
	plan, err := e.Service.Plan(r.Context(), user, selected)
	if err != nil {
		return err
	}
	warnings := renderWarnings(plan.Warnings)
	if plan.NeedsSelection() {
		return e.json(w, http.StatusOK, struct {
			Status   string     `json:"status"`
			Eligible []eligible `json:"eligible_projects"`
			Count    int        `json:"count"`
			Warnings []warning  `json:"warnings"`
		}{"needs_selection", renderEligible(plan.Eligible), len(plan.Eligible), warnings})
	}
	type totals struct {
		Changes int                        `json:"changes"`
		ByKind  map[connect.ChangeKind]int `json:"by_kind"`
		Missing int                        `json:"missing_permissions"`
		Unknown int                        `json:"unknown"`
	}
	answer := struct {
		Status   string           `json:"status"`
		Accounts accounts         `json:"service_accounts"`
		Projects []plannedProject `json:"projects"`
		Totals   totals           `json:"totals"`
		Warnings []warning        `json:"warnings"`
	}{
		Status: "planned", Accounts: accounts(plan.Accounts), Warnings: warnings,
		Projects: make([]plannedProject, 0, len(plan.Projects)), Totals: totals{ByKind: map[connect.ChangeKind]int{}},
	}
	for _, p := range plan.Projects {
		project := plannedProject{p.ID, p.Name, p.ID == plan.Accounts.RootProject, make([]planned, 0, len(p.Changes)), make([]obstacle, 0), make([]obstacle, 0)}
		for _, c := range p.Changes {
			project.Changes = append(project.Changes, planned{string(c.Kind), c.Target, c.Role, c.Member, c.Why})
			answer.Totals.ByKind[c.Kind]++
		}
		for _, o := range p.Missing {
			project.Missing = append(project.Missing, obstacle(o))
		}
		for _, o := range p.Unknown {
			project.Unknown = append(project.Unknown, obstacle(o))
		}
		answer.Projects = append(answer.Projects, project)
		answer.Totals.Changes += len(p.Changes)
		answer.Totals.Missing += len(p.Missing)
		answer.Totals.Unknown += len(p.Unknown)
	}
	return e.json(w, http.StatusOK, answer)
}
