package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gcpconnect/shared/connect"
)

// rootPermissions are what the user must have in a project for the service
// accounts to be made there.
var rootPermissions = []string{"iam.serviceAccounts.create", "iam.serviceAccounts.setIamPolicy"}

// validateProjects finds the projects that the setup is for: active, billed,
// and chosen where the user chose. It also chooses the root project.
func validateProjects(ctx context.Context, r *Run) error {
	s := r.Setup
	all, err := r.user.Projects(ctx)
	if err != nil {
		return fmt.Errorf("list projects: %w", err)
	}
	active := activeProjects(all, r.Settings.IncludeSysProjects)
	if len(active) == 0 {
		return Stop(CodeNoProjects, textNoProjects+". Create a project in the Google Cloud console, or sign in with the account that has one, and connect again.")
	}
	candidates := active
	if len(s.Selected) > 0 {
		candidates = slices.DeleteFunc(slices.Clone(active), func(p CloudProject) bool { return !slices.Contains(s.Selected, p.ID) })
	}
	if len(candidates) == 0 {
		return Stop(CodeSelection, "None of the selected projects is active and visible to the connected Google account any more. Select others.")
	}
	if s.Billing == nil {
		s.Billing = map[string]bool{} // kept from try to try: what is known is not asked again
	}
	before := len(s.Billing)
	billing, err := readBilling(ctx, r.user, candidates, s.Billing)
	switch {
	case billing == nil:
		return err
	case err != nil && !r.last:
		return r.laterIf(len(s.Billing) > before, err)
	}
	for _, p := range candidates {
		if b := billing[p.ID]; b.err != nil {
			s.Warn(connect.Warning{Code: "billing_unknown", ProjectID: p.ID, Message: "The billing of " + p.ID + " could not be read, so it was left out: " + connect.MessageOf(b.err) + " Select it to try again."})
		}
	}
	eligible := make([]CloudProject, 0, len(candidates))
	for _, p := range candidates {
		if billing[p.ID].enabled {
			eligible = append(eligible, p)
		}
	}
	switch n := len(eligible); {
	case n == 0 && err != nil:
		return err
	case n == 0:
		s.Billing = nil
		return Stop(CodeNoBilling, textNoBilling+". Link a billing account to at least one project in the Google Cloud console, then retry.")
	case len(s.Selected) == 0 && n > r.Settings.AutoProjects:
		for _, p := range eligible[:min(n, connect.MaxProjects)] {
			s.Eligible = append(s.Eligible, connect.ProjectRef{ID: p.ID, Name: p.Name})
		}
		s.Billing = nil
		return stop{connect.StateNeedsSelection, string(connect.StateNeedsSelection), fmt.Sprintf("%d projects are eligible. Choose those that Aurora may manage.", n)}
	case n > connect.MaxProjects:
		return Stop(CodeTooMany, fmt.Sprintf("%d projects are more than one setup can hold (%d). Select fewer.", n, connect.MaxProjects))
	}

	s.Projects, s.Billing = nil, nil
	for _, p := range eligible {
		s.Projects = append(s.Projects, connect.Project{ID: p.ID, Number: p.Number, Name: p.Name})
	}
	for _, id := range s.Selected {
		if s.Project(id) != nil {
			continue
		}
		// Chosen a while ago, and gone or unbilled since: it is part of what the
		// user asked for and of what the result must account for.
		p := connect.Project{ID: id, Access: connect.OutcomeFailed, APIs: connect.OutcomeFailed, OrgPolicy: connect.OutcomeFailed}
		p.Fail(s.Step, ineligible(id, active, billing[id]))
		s.Projects = append(s.Projects, p)
	}
	return chooseRoot(ctx, r, active, eligible)
}

// activeProjects are those that a setup can work on, ordered by ID. Projects
// sys-* are made by Apps Script, thousands in some organizations
// (https://developers.google.com/apps-script/guides/cloud-platform-projects).
func activeProjects(all []CloudProject, includeSys bool) []CloudProject {
	var active []CloudProject
	for _, p := range all {
		if p.State == "ACTIVE" && (includeSys || !strings.HasPrefix(p.ID, "sys-")) {
			active = append(active, p)
		}
	}
	slices.SortFunc(active, func(a, b CloudProject) int { return strings.Compare(a.ID, b.ID) })
	return active
}

// billed is what is known of a project's billing.
type billed struct {
	enabled bool
	err     error // why it is not known
}

// readBilling reads the billing of projects concurrently, but for those that
// are in known, to which it adds what it reads. A project whose billing may
// not be read counts as unbilled; the error beside a map is of those that may be
// readable later.
func readBilling(ctx context.Context, cloud Cloud, projects []CloudProject, known map[string]bool) (map[string]billed, error) {
	var mu sync.Mutex
	result := make(map[string]billed, len(projects))
	var unknown []CloudProject
	for _, p := range projects {
		if enabled, ok := known[p.ID]; ok {
			result[p.ID] = billed{enabled: enabled}
		} else {
			unknown = append(unknown, p)
		}
	}
	var failed error
	err := concurrently(ctx, len(unknown), func(ctx context.Context, i int) error {
		id := unknown[i].ID
		enabled, err := cloud.BillingEnabled(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			known[id] = enabled
		case connect.CodeOf(err) == connect.NeedsReauth:
			return err
		case retryable(err):
			failed = fmt.Errorf("read billing of %s: %w", id, err)
		}
		result[id] = billed{enabled, err}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, failed
}

// ineligible says why a selected project is not part of the setup.
func ineligible(id string, active []CloudProject, b billed) connect.ProjectError {
	switch {
	case !slices.ContainsFunc(active, func(p CloudProject) bool { return p.ID == id }):
		return connect.ProjectError{Code: connect.NotFound, Message: "This project is not active or no longer visible to the connected Google account."}
	case b.err != nil:
		return connect.ProjectError{Code: connect.CodeOf(b.err), Message: "The billing of this project could not be read: " + connect.MessageOf(b.err)}
	}
	return connect.ProjectError{Code: connect.Precondition, Message: "This project has no active billing. Link a billing account to it, then retry."}
}

// chooseRoot picks where the service accounts live: the project asked for, the
// stored preference, where the accounts are already, the first with IAM
// access, the first.
func chooseRoot(ctx context.Context, r *Run, active, eligible []CloudProject) error {
	s, c := r.Setup, r.Connection
	own := func(id string) bool {
		return id == c.Accounts.RootProject || c.Project(id) != nil || slices.ContainsFunc(eligible, func(p CloudProject) bool { return p.ID == id })
	}
	for _, id := range []string{s.PreferredRoot, c.PreferredRoot, c.Accounts.RootProject} {
		if id == "" || !own(id) || !slices.ContainsFunc(active, func(p CloudProject) bool { return p.ID == id }) {
			continue
		}
		ok, err := fitsRoot(ctx, r.user, id)
		if err != nil {
			return err
		}
		if ok {
			s.RootProject = id
			return nil
		}
		s.Warn(connect.Warning{Code: "root_project_changed", ProjectID: id, Message: "The preferred root project can no longer hold Aurora's service accounts: it needs active billing and permission to create service accounts."})
	}
	// The first usually fits; where it does not, many at once are asked.
	for first, n := 0, 1; first < len(eligible); first, n = first+n, concurrency {
		batch := eligible[first:min(first+n, len(eligible))]
		fits := make([]bool, len(batch))
		err := concurrently(ctx, len(batch), func(ctx context.Context, i int) error {
			granted, err := r.user.TestPermissions(ctx, batch[i].ID, rootPermissions)
			if err != nil && (retryable(err) || connect.CodeOf(err) == connect.NeedsReauth) {
				return fmt.Errorf("test IAM access in %s: %w", batch[i].ID, err)
			}
			fits[i] = err == nil && len(granted) == len(rootPermissions)
			return nil
		})
		if err != nil {
			return err
		}
		if i := slices.Index(fits, true); i >= 0 {
			s.RootProject = batch[i].ID
			return nil
		}
	}
	s.RootProject = eligible[0].ID
	return nil
}

// fitsRoot reports whether a project has billing and lets the user make
// service accounts in it. A project that may not be read does not fit.
func fitsRoot(ctx context.Context, cloud Cloud, projectID string) (bool, error) {
	enabled, err := cloud.BillingEnabled(ctx, projectID)
	if err == nil && !enabled {
		return false, nil
	}
	var granted []string
	if err == nil {
		granted, err = cloud.TestPermissions(ctx, projectID, rootPermissions)
	}
	if err != nil {
		if retryable(err) || connect.CodeOf(err) == connect.NeedsReauth {
			return false, fmt.Errorf("look at root project %s: %w", projectID, err)
		}
		return false, nil
	}
	return len(granted) == len(rootPermissions), nil
}
