package setup

import (
	"context"
	"slices"
	"sync"

	"gcpconnect/shared/connect"
)

// Plan is what a setup would change, as Google's state is now.
type Plan struct {
	// Eligible are the projects to choose from, where there are more than are
	// taken without asking. Then there is nothing else in the plan.
	Eligible []connect.ProjectRef

	Accounts connect.ServiceAccounts // with the root project
	Projects []PlannedProject        // the root project is among them
	Warnings []connect.Warning
}

// NeedsSelection reports whether the user has to choose projects first.
func (p *Plan) NeedsSelection() bool { return len(p.Eligible) > 0 }

// PlannedProject is what a setup would change in one project, and what is
// known to keep it from that.
type PlannedProject struct {
	connect.ProjectRef
	Changes []PlannedChange // in the order in which a setup makes them
	Missing []Obstacle      // permissions that the user lacks for the changes
	Unknown []Obstacle      // what could not be looked at: there may be more changes than these
}

// PlannedChange is a change with the reason for it.
type PlannedChange struct {
	connect.Change
	Why string
}

// Obstacle is what is in the way of a step in a project, and what to do.
type Obstacle struct {
	Step       string
	Permission string // empty: none that is known
	Message    string
}

// need is the permission that a kind of change takes.
type need struct {
	step, permission string
	toDo             string // what cannot be done without it
	remedy           string
}

var (
	needEnable  = need{stepEnable, "serviceusage.services.enable", "enable APIs", "Ask for Editor, or Service Usage Admin, on the project."}
	needCreate  = need{"create-service-accounts", "iam.serviceAccounts.create", "make service accounts", "Ask for Service Account Admin on the project, or choose another root project."}
	needRevive  = need{"create-service-accounts", "iam.serviceAccounts.enable", "enable the service accounts", "Ask for Service Account Admin on the project."}
	needAccount = need{"grant-access", "iam.serviceAccounts.setIamPolicy", "let Aurora use the service accounts", "Ask for Service Account Admin on the project, or choose another root project."}
	needGrant   = need{"grant-access", "resourcemanager.projects.setIamPolicy", "grant access", "Ask for Owner, or Project IAM Admin, on the project."}
	needPolicy  = need{"update-org-policies", "orgpolicy.policy.set", "allow public Cloud Run services", "Ask an Organization Policy Administrator to allow all members in " + memberDomains + ", or go on without."}
)

// needOf is what a change takes.
func needOf(c *connect.Change) need {
	switch c.Kind {
	case connect.ChangeEnableAPI:
		return needEnable
	case connect.ChangeCreateAccount:
		return needCreate
	case connect.ChangeEnableAccount:
		return needRevive
	case connect.ChangeOrgPolicy:
		return needPolicy
	case connect.ChangeAddBinding, connect.ChangeRemoveBinding:
		if c.Target != c.ProjectID {
			return needAccount
		}
	}
	return needGrant
}

// tested are the permissions of all needs: one call asks for them.
var tested = []string{
	needEnable.permission, needCreate.permission, needRevive.permission, needAccount.permission, needGrant.permission, needPolicy.permission,
}

// Plan says what a setup of the selected projects would change; with none
// selected, of those that connecting would take. It changes nothing, at Google
// or here. It asks Google at most five things about a project, and four about
// the service accounts.
func (s *Service) Plan(ctx context.Context, userID string, selected []string) (*Plan, error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return nil, err
	}
	if c.NeedsReauth {
		return nil, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	if err := s.checkSize(selected); err != nil {
		return nil, err
	}
	found, err := s.find(ctx, c, selected)
	if err != nil {
		return nil, err
	}
	switch err := found.check(&s.Settings).(type) { //nolint:errorlint // check makes it
	case nil:
	case stop:
		if err.state == connect.StateNeedsSelection {
			return &Plan{Eligible: found.refs(), Warnings: found.warnings()}, nil
		}
		return nil, connect.Errorf(connect.Precondition, "%s", err.message)
	}
	p := planner{Service: s, connection: c, cloud: s.as(c), found: found, granted: map[string][]string{}}
	plan, err := p.plan(ctx)
	return plan, s.noted(ctx, c, err)
}

// planner makes one plan.
type planner struct {
	*Service
	connection *connect.Connection
	cloud      Cloud
	found      *foundProjects

	mu      sync.Mutex
	granted map[string][]string // the tested permissions that the user has, by project; none where it is not known
}

func (p *planner) plan(ctx context.Context) (*Plan, error) {
	found, c := p.found, p.connection
	err := concurrently(ctx, len(found.eligible), func(ctx context.Context, i int) error {
		_, err := p.test(ctx, found.eligible[i].ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	// No root project is asked for: that is kept with the connection.
	root, unfit, err := found.root(ctx, c, "", p.fits)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Accounts: accountsOf(c.UserID, root), Warnings: found.warnings()}
	for _, id := range unfit {
		plan.Warnings = append(plan.Warnings, rootChanged(id))
	}
	for _, project := range found.eligible {
		plan.Projects = append(plan.Projects, PlannedProject{ProjectRef: connect.ProjectRef{ID: project.ID, Name: project.Name}})
	}
	of := slices.IndexFunc(plan.Projects, func(project PlannedProject) bool { return project.ID == root })
	if of < 0 { // the accounts live in a project that is not set up itself
		of = len(plan.Projects)
		plan.Projects = append(plan.Projects, PlannedProject{ProjectRef: connect.ProjectRef{ID: root, Name: found.name(root)}})
	}
	accounts := PlannedProject{ProjectRef: connect.ProjectRef{ID: root}}
	grants := grantsOf(plan.Accounts, &p.Settings)
	err = concurrently(ctx, 1+len(found.eligible), func(ctx context.Context, i int) error {
		if i == 0 {
			return p.accounts(ctx, &accounts, plan.Accounts)
		}
		return p.project(ctx, &plan.Projects[i-1], grants)
	})
	if err != nil {
		return nil, err
	}
	// Accounts are made after APIs are enabled and before access is granted.
	project := &plan.Projects[of]
	at := slices.IndexFunc(project.Changes, func(c PlannedChange) bool { return c.Kind != connect.ChangeEnableAPI })
	if at < 0 {
		at = len(project.Changes)
	}
	project.Changes = slices.Insert(project.Changes, at, accounts.Changes...)
	project.Unknown = append(project.Unknown, accounts.Unknown...)
	for i := range plan.Projects {
		p.lacking(&plan.Projects[i])
	}
	return plan, nil
}

// test returns the tested permissions that the user has in a project; nil if
// Google does not tell.
func (p *planner) test(ctx context.Context, projectID string) ([]string, error) {
	p.mu.Lock()
	granted, ok := p.granted[projectID]
	p.mu.Unlock()
	if ok {
		return granted, nil
	}
	granted, err := p.cloud.TestPermissions(ctx, projectID, tested)
	switch {
	case undecided(err):
		return nil, wrap(err, "test permissions in %s", projectID)
	case err == nil && granted == nil:
		granted = []string{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.granted[projectID] = granted
	return granted, nil
}

// fits is fitsRoot with the permissions that are tested anyway.
func (p *planner) fits(ctx context.Context, projectID string) (bool, error) {
	if !p.found.isEligible(projectID) {
		enabled, err := p.cloud.BillingEnabled(ctx, projectID)
		if undecided(err) {
			return false, wrap(err, "read billing of %s", projectID)
		}
		if readable := err == nil; !readable || !enabled {
			return false, nil
		}
	}
	granted, err := p.test(ctx, projectID)
	return len(without(rootPermissions, granted)) == 0, err
}

// undecided reports whether err leaves nothing to say, for now.
func undecided(err error) bool {
	return err != nil && (retryable(err) || connect.CodeOf(err) == connect.NeedsReauth)
}

// look records what could not be looked at; it returns errors that leave
// nothing to say.
func (o *PlannedProject) look(step, what string, err error) error {
	if err == nil || undecided(err) {
		return wrap(err, "%s of %s", what, o.ID)
	}
	o.Unknown = append(o.Unknown, Obstacle{Step: step, Message: "The " + what + " of project " + o.ID + " could not be read: " + connect.MessageOf(err)})
	return nil
}

// change adds changes, each with why.
func (o *PlannedProject) change(why func(connect.Change) string, changes ...connect.Change) {
	for _, c := range changes {
		o.Changes = append(o.Changes, PlannedChange{c, why(c)})
	}
}

// project finds out what the steps would change in a project, but for the
// accounts that it may hold.
func (p *planner) project(ctx context.Context, o *PlannedProject, grants []grant) error {
	draft := &ledger{userID: p.connection.UserID}
	missing, err := p.cloud.DisabledAPIs(ctx, o.ID, requiredAPIs())
	if err := o.look(stepEnable, "enabled APIs", err); err != nil {
		return err
	}
	for _, name := range missing {
		o.change(whyAPI, draft.entry(o.ID, connect.ChangeEnableAPI, name, "", ""))
	}

	editor := projectPolicy(p.cloud, draft, o.ID)
	policy, err := editor.read(ctx)
	if err := o.look(needGrant.step, "access policy", err); err != nil {
		return err
	}
	if err == nil {
		changes, _ := editor.apply(policy, access(p.connection.UserID, grants, true)(policy))
		o.change(p.whyBinding, changes...)
	}

	if !p.Settings.OrgPolicy {
		return nil
	}
	allowed, err := p.cloud.EffectivelyAllowsAll(ctx, o.ID, memberDomains)
	if err == nil && !allowed {
		o.change(whyOrgPolicy, draft.entry(o.ID, connect.ChangeOrgPolicy, memberDomains, "", ""))
	}
	return o.look(needPolicy.step, "organization policy "+memberDomains, err)
}

// accounts finds out what the steps would change about the two accounts.
func (p *planner) accounts(ctx context.Context, o *PlannedProject, accounts connect.ServiceAccounts) error {
	draft := &ledger{userID: p.connection.UserID}
	grants := impersonators(p.connection, &p.Settings)
	var makes, lets []connect.Change
	for _, email := range []string{accounts.Agent, accounts.Ask} {
		account, err := p.cloud.Account(ctx, o.ID, email)
		policy := &Policy{} // of an account that is not there
		editor := accountPolicy(p.cloud, draft, o.ID, email)
		switch {
		case connect.CodeOf(err) == connect.NotFound:
			makes = append(makes, draft.entry(o.ID, connect.ChangeCreateAccount, email, "", ""))
		case err != nil:
			if err := o.look(needCreate.step, "service account "+email, err); err != nil {
				return err
			}
			continue
		default:
			if account.Disabled {
				makes = append(makes, draft.entry(o.ID, connect.ChangeEnableAccount, email, "", ""))
			}
			if policy, err = editor.read(ctx); err != nil {
				if err := o.look(needAccount.step, "access policy of the account "+email, err); err != nil {
					return err
				}
				continue
			}
		}
		missing, _ := editor.apply(policy, adding(grants)(policy))
		lets = append(lets, missing...)
	}
	o.change(whyAccount(accounts), makes...)
	o.change(p.whyBinding, lets...)
	return nil
}

// lacking adds the permissions that the user lacks for the changes.
func (p *planner) lacking(o *PlannedProject) {
	granted := p.granted[o.ID]
	if granted == nil {
		o.Unknown = append(o.Unknown, Obstacle{Message: "Google does not tell your permissions in project " + o.ID + "."})
		return
	}
	var seen []string
	for i := range o.Changes {
		n := needOf(&o.Changes[i].Change)
		if slices.Contains(granted, n.permission) || slices.Contains(seen, n.permission) {
			continue
		}
		seen = append(seen, n.permission)
		o.Missing = append(o.Missing, Obstacle{n.step, n.permission, "You cannot " + n.toDo + " in project " + o.ID + ": you lack " + n.permission + " there. " + n.remedy})
	}
}

// The reasons for changes.

func whyAPI(c connect.Change) string {
	for _, a := range apis {
		if a.name+apiSuffix == c.Target {
			return a.why
		}
	}
	return ""
}

func whyAccount(accounts connect.ServiceAccounts) func(connect.Change) string {
	return func(c connect.Change) string {
		if c.Target == accounts.Agent {
			return "Aurora's agent acts as this account, and as no other, in your projects"
		}
		return "Aurora answers questions as this account, which only reads"
	}
}

func (p *planner) whyBinding(c connect.Change) string {
	switch {
	case c.Kind == connect.ChangeRemoveBinding:
		return "nothing uses this account of an earlier root project any more"
	case c.Role == tokenCreator && c.Member == "user:"+p.connection.Email:
		return "lets you act as this one account, to verify it"
	case c.Role == tokenCreator:
		return "lets Aurora's own service act as this one account, without your tokens"
	}
	for _, r := range slices.Concat(p.Settings.AgentRoles, p.Settings.AskRoles) {
		if r.Name == c.Role {
			return r.Why
		}
	}
	return ""
}

func whyOrgPolicy(connect.Change) string {
	return "lets Cloud Run services in this project be public, if you make one so"
}
