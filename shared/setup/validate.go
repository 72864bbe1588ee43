package setup

import (
	"context"
	"errors"
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
	if s.Billing == nil {
		s.Billing = map[string]bool{} // kept from try to try: what is known is not asked again
	}
	before := len(s.Billing)
	found, busy, err := findProjects(ctx, r.user, &r.Settings, s.Selected, s.Billing)
	switch {
	case err != nil:
		return err
	case busy != nil && !r.last:
		return r.laterIf(ctx, len(s.Billing) > before, busy)
	}
	for _, w := range found.warnings() {
		s.Warn(w)
	}
	err = found.check(&r.Settings)
	if err != nil && busy != nil && len(found.eligible) == 0 {
		return busy
	}
	s.Billing = nil
	if stopped, ok := errors.AsType[stop](err); ok && stopped.state == connect.StateNeedsSelection {
		s.Eligible = found.refs()
	}
	if err != nil {
		return err
	}

	s.Projects = nil
	for _, p := range found.eligible {
		s.Projects = append(s.Projects, connect.Project{ID: p.ID, Number: p.Number, Name: p.Name})
	}
	for _, id := range s.Selected {
		if s.Project(id) != nil {
			continue
		}
		// Chosen a while ago, and gone or unbilled since: it is part of what the
		// user asked for and of what the result must account for.
		p := connect.Project{ID: id, Access: connect.OutcomeFailed, APIs: connect.OutcomeFailed, OrgPolicy: connect.OutcomeFailed}
		p.Fail(s.Step, found.ineligible(id))
		s.Projects = append(s.Projects, p)
	}
	root, unfit, err := found.root(ctx, r.Connection, s.PreferredRoot, func(ctx context.Context, id string) (bool, error) {
		return fitsRoot(ctx, r.user, id, found.isEligible(id))
	})
	for _, id := range unfit {
		s.Warn(rootChanged(id))
	}
	s.RootProject = root
	return err
}

// foundProjects are the projects that a setup can be made of.
type foundProjects struct {
	selected   []string       // by the user; none: all that are eligible
	active     []CloudProject // that the user sees
	candidates []CloudProject // of those, the selected ones
	eligible   []CloudProject // of those, the billed ones
	billing    map[string]billed
}

// findProjects finds them. What is in known of the projects' billing is not
// asked again, and what is learned is added there. busy is why the billing of
// some is not known yet.
func findProjects(ctx context.Context, cloud Cloud, settings *Settings, selected []string, known map[string]bool) (f *foundProjects, busy, err error) {
	all, err := cloud.Projects(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list projects: %w", err)
	}
	f = &foundProjects{selected: selected, active: activeProjects(all, settings.IncludeSysProjects)}
	f.candidates = f.active
	if len(selected) > 0 {
		f.candidates = slices.DeleteFunc(slices.Clone(f.active), func(p CloudProject) bool { return !slices.Contains(selected, p.ID) })
	}
	f.billing, busy = readBilling(ctx, cloud, f.candidates, known)
	if f.billing == nil {
		return nil, nil, busy
	}
	for _, p := range f.candidates {
		if f.billing[p.ID].enabled {
			f.eligible = append(f.eligible, p)
		}
	}
	return f, busy, nil
}

// check returns why no setup can be made of the projects as they are: an error
// that ends one.
func (f *foundProjects) check(settings *Settings) error {
	switch n := len(f.eligible); {
	case len(f.active) == 0:
		return Stop(CodeNoProjects, textNoProjects+". Create a project in the Google Cloud console, or sign in with the account that has one, and connect again.")
	case len(f.candidates) == 0:
		return Stop(CodeSelection, "None of the selected projects is active and visible to the connected Google account any more. Select others.")
	case n == 0:
		return Stop(CodeNoBilling, textNoBilling+". Link a billing account to at least one project in the Google Cloud console, then retry.")
	case len(f.selected) == 0 && n > settings.AutoProjects:
		return stop{connect.StateNeedsSelection, string(connect.StateNeedsSelection), fmt.Sprintf("%d projects are eligible. Choose those that Aurora may manage.", n)}
	case n > connect.MaxProjects:
		return Stop(CodeTooMany, fmt.Sprintf("%d projects are more than one setup can hold (%d). Select fewer.", n, connect.MaxProjects))
	}
	return nil
}

// warnings are of the projects whose billing is not known.
func (f *foundProjects) warnings() []connect.Warning {
	var warnings []connect.Warning
	for _, p := range f.candidates {
		if b := f.billing[p.ID]; b.err != nil {
			warnings = append(warnings, connect.Warning{Code: "billing_unknown", ProjectID: p.ID, Message: "The billing of " + p.ID + " could not be read, so it was left out: " + connect.MessageOf(b.err) + " Select it to try again."})
		}
	}
	return warnings
}

// refs are the eligible projects that a person is shown to choose from.
func (f *foundProjects) refs() []connect.ProjectRef {
	var refs []connect.ProjectRef
	for _, p := range f.eligible[:min(len(f.eligible), connect.MaxProjects)] {
		refs = append(refs, connect.ProjectRef{ID: p.ID, Name: p.Name})
	}
	return refs
}

func (f *foundProjects) isActive(id string) bool   { return hasProject(f.active, id) }
func (f *foundProjects) isEligible(id string) bool { return hasProject(f.eligible, id) }

// name is that of an active project.
func (f *foundProjects) name(id string) string {
	for _, p := range f.active {
		if p.ID == id {
			return p.Name
		}
	}
	return ""
}

func hasProject(projects []CloudProject, id string) bool {
	return slices.ContainsFunc(projects, func(p CloudProject) bool { return p.ID == id })
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
func (f *foundProjects) ineligible(id string) connect.ProjectError {
	switch b := f.billing[id]; {
	case !f.isActive(id):
		return connect.ProjectError{Code: connect.NotFound, Message: "This project is not active or no longer visible to the connected Google account."}
	case b.err != nil:
		return connect.ProjectError{Code: connect.CodeOf(b.err), Message: "The billing of this project could not be read: " + connect.MessageOf(b.err)}
	}
	return connect.ProjectError{Code: connect.Precondition, Message: "This project has no active billing. Link a billing account to it, then retry."}
}

// root picks where the service accounts live: the project asked for, the
// stored preference, where the accounts are already, the first that fits, the
// first. unfit are those of the connection that were preferred and do not fit.
func (f *foundProjects) root(ctx context.Context, c *connect.Connection, asked string, fits func(ctx context.Context, id string) (bool, error)) (root string, unfit []string, err error) {
	for _, id := range []string{asked, c.PreferredRoot, c.Accounts.RootProject} {
		own := id == c.Accounts.RootProject || c.Project(id) != nil || f.isEligible(id)
		if id == "" || !own || !f.isActive(id) || slices.Contains(unfit, id) {
			continue
		}
		ok, err := fits(ctx, id)
		if ok || err != nil {
			return id, unfit, err
		}
		unfit = append(unfit, id)
	}
	// The first usually fits; where it does not, many at once are asked.
	for first, n := 0, 1; first < len(f.eligible); first, n = first+n, concurrency {
		batch := f.eligible[first:min(first+n, len(f.eligible))]
		fit := make([]bool, len(batch))
		err := concurrently(ctx, len(batch), func(ctx context.Context, i int) (err error) {
			fit[i], err = fits(ctx, batch[i].ID)
			return err
		})
		if err != nil {
			return "", unfit, err
		}
		if i := slices.Index(fit, true); i >= 0 {
			return batch[i].ID, unfit, nil
		}
	}
	return f.eligible[0].ID, unfit, nil
}

// rootChanged warns that a preferred root project is not taken.
func rootChanged(id string) connect.Warning {
	return connect.Warning{Code: "root_project_changed", ProjectID: id, Message: "The preferred root project can no longer hold Aurora's service accounts: it needs active billing and permission to create service accounts."}
}

// fitsRoot reports whether a project has billing, where that is not known, and
// lets the user make service accounts in it. A project that may not be read
// does not fit.
func fitsRoot(ctx context.Context, cloud Cloud, projectID string, billed bool) (fits bool, err error) {
	if !billed {
		billed, err = cloud.BillingEnabled(ctx, projectID)
	}
	if err == nil && !billed {
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
