package functions

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// status answers how far a setup is: one read, and a pure function of it. Those
// who ask while it is being read wait for that read: when the database is slow,
// polls that pile up do not make it slower.
func (e *edge) status(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	s, err := e.readSetup(r.Context(), r.PathValue("task_id"))
	if connect.CodeOf(err) == connect.NotFound || err == nil && s.UserID != user {
		return connect.Errorf(connect.NotFound, "There is no such setup.")
	}
	if err != nil {
		return err
	}
	answer := render(s)
	if r.URL.Query().Get("view") == "detail" {
		answer.detail = renderDetail(s)
	}
	return e.json(w, http.StatusOK, answer)
}

// readSetup reads a setup, which is nobody's to change. The read goes on when
// who began it leaves: the store bounds it.
func (e *edge) readSetup(ctx context.Context, id string) (*connect.Setup, error) {
	read, err, _ := e.reads.Do(id, func() (any, error) { return e.Store.Setup(context.WithoutCancel(ctx), id) })
	s, _ := read.(*connect.Setup)
	return s, err
}

// statusAnswer is the answer of GET /gcp/setup/status/{task_id}.
type statusAnswer struct {
	State      string `json:"state"`
	Status     string `json:"status"`
	Complete   bool   `json:"complete"`
	Progress   *int   `json:"progress,omitempty"`
	Step       int    `json:"step,omitempty"`
	TotalSteps int    `json:"total_steps,omitempty"`
	// Propagation is a *propagation: null in a running setup until the checks
	// begin, absent in any other.
	Propagation any     `json:"propagation,omitempty"`
	Error       bool    `json:"error,omitempty"`
	Result      *result `json:"result,omitempty"`
	*detail
}

type propagation struct {
	Current int `json:"current"`
	Total   int `json:"total"`
}

// result is how a setup ended.
type result struct {
	Status      string     `json:"status"`
	Redirect    string     `json:"redirect_params,omitempty"`
	Message     string     `json:"message,omitempty"`
	Propagation string     `json:"propagation_status,omitempty"`
	Verified    *int       `json:"verified_projects,omitempty"`
	Total       *int       `json:"total_projects,omitempty"`
	Eligible    []eligible `json:"eligible_projects,omitempty"`
	Count       int        `json:"count,omitempty"`
	Changes     *changes   `json:"changes,omitempty"`

	// Of a removal.
	Cleanup string `json:"cleanup_status,omitempty"`
	Undone  *int   `json:"undone,omitempty"` // changes
	Left    []left `json:"not_undone,omitempty"`
}

// left is what a removal could not undo in a project.
type left struct {
	ProjectID string `json:"projectId"`
	Reason    string `json:"reason"`
}

type eligible struct {
	ID   string `json:"projectId"`
	Name string `json:"name"`
}

// render turns a setup into its status.
func render(s *connect.Setup) statusAnswer {
	switch {
	case s.State == connect.StatePending:
		return statusAnswer{State: "PENDING", Status: words(s, "Starting GCP setup", "Starting GCP cleanup"), Progress: new(0)}
	case s.State == connect.StateRunning:
		chain := setup.Chain(s.Kind)
		n := setup.StepNumber(chain, s.Step)
		var checks *propagation
		if s.Propagation.Total > 0 {
			checks = &propagation{s.Propagation.Checks, s.Propagation.Total}
		}
		return statusAnswer{
			State: "PROGRESS", Status: chain[max(n, 1)-1].Status,
			Progress: new(min(max(s.Progress, 5), 90)), Step: n, TotalSteps: len(chain), Propagation: checks,
		}
	case s.State == connect.StateCanceled, s.State == connect.StateFailed && s.Code == setup.CodeBroken:
		return statusAnswer{State: "FAILURE", Status: s.Message, Complete: true, Error: true}
	}
	return statusAnswer{State: "SUCCESS", Status: words(s, "Setup completed", "Cleanup completed"), Complete: true, Result: renderResult(s)}
}

// words chooses between those for a setup and those for a removal.
func words(s *connect.Setup, setup, removal string) string {
	if s.Kind == connect.KindRemoval {
		return removal
	}
	return setup
}

// renderRemoval turns a removal that has come to its end into its result: full
// only if nothing was left.
func renderRemoval(s *connect.Setup) *result {
	r := &result{Status: "SUCCESS", Cleanup: "FULL", Undone: &s.ChangesMade}
	for _, w := range s.Warnings {
		r.Message = strings.TrimSpace(r.Message + " " + w.Message)
		if w.Code == setup.CodeTooMany {
			r.Cleanup = "PARTIAL"
		}
	}
	for _, p := range s.Projects {
		for _, err := range p.Errors {
			r.Cleanup = "PARTIAL"
			r.Left = append(r.Left, left{p.ID, err.Message})
		}
	}
	return r
}

// renderResult turns an orderly ending into the result that the frontend
// reads.
func renderResult(s *connect.Setup) *result {
	if s.Kind == connect.KindRemoval && s.State == connect.StateSucceeded {
		return renderRemoval(s)
	}
	switch s.State {
	case connect.StateNeedsSelection:
		return &result{Status: "needs_selection", Count: len(s.Eligible), Eligible: renderEligible(s.Eligible)}
	case connect.StateSucceeded:
		verified, total := s.Verified(), len(s.Projects)
		r := &result{Status: "SUCCESS", Propagation: "FULL", Verified: &verified, Total: &total, Changes: counts(s)}
		if verified < total {
			r.Propagation = "PARTIAL"
		}
		r.Redirect = successParams(s, verified < total)
		for _, w := range s.Warnings {
			r.Message = strings.TrimSpace(r.Message + " " + w.Message)
		}
		return r
	}
	redirect := map[string]string{
		setup.CodeNoProjects: "login=gcp_no_projects",
		setup.CodeNoBilling:  "login=gcp_failed_billing",
	}[s.Code]
	if redirect == "" {
		redirect = "login=gcp_failed"
	}
	return &result{Status: "FAILED", Redirect: redirect, Message: s.Message, Changes: counts(s)}
}

// successParams are what the frontend appends to its address. The parameter
// policy is left out when updating organization policies is switched off:
// neither of its values would be true.
func successParams(s *connect.Setup, partial bool) string {
	params := []string{"login=gcp_success"}
	policies := map[string]bool{}
	policyOK, partialSetup := true, false
	for _, p := range s.Projects {
		if p.OrgPolicy != connect.OutcomeNotApplicable {
			policies[p.ID] = p.OrgPolicy.OK()
			policyOK = policyOK && p.OrgPolicy.OK()
		}
		partialSetup = partialSetup || len(p.Errors) > 0
	}
	switch {
	case len(policies) == 0:
	case policyOK:
		params = append(params, "policy=policy_ok")
	default:
		params = append(params, "policy=policy_failed")
		if details, err := json.Marshal(policies); err == nil {
			params = append(params, "policy_details="+base64.RawURLEncoding.EncodeToString(details))
		}
	}
	if partialSetup {
		params = append(params, "partial_setup=true")
	}
	if partial {
		params = append(params, "propagation_partial=true")
	}
	return strings.Join(params, "&")
}

// detail is what ?view=detail adds.
type detail struct {
	Steps    []stepDetail    `json:"steps"`
	Projects []projectDetail `json:"projects"`
	Warnings []warning       `json:"warnings"`
	Changes  changes         `json:"changes"`
	Next     *string         `json:"next_at"` // when a setup that waits goes on; null for one that does not wait
}

type stepDetail struct {
	Name     string  `json:"name"`
	Started  *string `json:"started_at"`
	Finished *string `json:"finished_at"`
	Attempts int     `json:"attempts"`
	Outcome  string  `json:"outcome"`
}

type projectDetail struct {
	ID        string        `json:"projectId"`
	APIs      string        `json:"apis"`
	Access    string        `json:"access"`
	OrgPolicy string        `json:"org_policy"`
	Removal   string        `json:"removal,omitempty"` // of what setups changed
	Verified  bool          `json:"verified"`
	Error     *projectError `json:"error"`
}

type projectError struct {
	Step    string       `json:"step"`
	Code    connect.Code `json:"code"`
	Message string       `json:"message"`
}

type warning struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	ProjectID string `json:"projectId,omitempty"`
}

// changes counts what was written in the customer's cloud and what stood
// there already.
type changes struct {
	Made  int `json:"made"`
	Stood int `json:"already_in_place"`
}

func counts(s *connect.Setup) *changes { return &changes{s.ChangesMade, s.ChangesStood} }

func renderDetail(s *connect.Setup) *detail {
	d := &detail{
		Steps: []stepDetail{}, Projects: []projectDetail{}, Warnings: renderWarnings(s.Warnings),
		Changes: *counts(s),
	}
	if !s.State.Ended() && s.Lease.Holder == "" {
		d.Next = timestamp(s.DueAt)
	}
	for _, r := range s.Steps {
		d.Steps = append(d.Steps, stepDetail{r.Name, timestamp(r.StartedAt), timestamp(r.FinishedAt), r.Attempts, r.Outcome})
	}
	for _, p := range s.Projects {
		pd := projectDetail{p.ID, phase(p.APIs), phase(p.Access), phase(p.OrgPolicy), string(p.Removal), p.Verified, nil}
		if len(p.Errors) > 0 {
			first := projectError(p.Errors[0])
			pd.Error = &first
		}
		d.Projects = append(d.Projects, pd)
	}
	return d
}

func renderWarnings(warnings []connect.Warning) []warning {
	rendered := make([]warning, 0, len(warnings))
	for _, w := range warnings {
		rendered = append(rendered, warning(w))
	}
	return rendered
}

func renderEligible(projects []connect.ProjectRef) []eligible {
	var rendered []eligible
	for _, p := range projects {
		rendered = append(rendered, eligible(p))
	}
	return rendered
}

// phase is an outcome's word; a phase that has not come yet is pending.
func phase(o connect.Outcome) string {
	if o == "" {
		return "pending"
	}
	return string(o)
}

func timestamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return optional(t.UTC().Format(time.RFC3339Nano))
}
