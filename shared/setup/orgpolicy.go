package setup

import (
	"context"
	"fmt"
	"strings"

	"gcpconnect/shared/connect"
)

// memberDomains is the constraint that decides whether allUsers may be given
// a role, which is what makes a Cloud Run service public
// (https://cloud.google.com/resource-manager/docs/organization-policy/restricting-domains).
const memberDomains = "iam.allowedPolicyMemberDomains"

// updateOrgPolicies allows public Cloud Run services in each project. Most
// users may not do that (Owner does not include orgpolicy.policy.set): a
// refusal is an expected answer, reported and not fatal.
func updateOrgPolicies(ctx context.Context, r *Run) error {
	if !r.Settings.OrgPolicy {
		for i := range r.Setup.Projects {
			r.Setup.Projects[i].OrgPolicy = connect.OutcomeNotApplicable
		}
		return nil
	}
	err := r.each(ctx,
		func(p *connect.Project) bool { return p.OrgPolicy == "" },
		func(ctx context.Context, p *connect.Project) error {
			changed, err := r.allowMembers(ctx, p.ID)
			switch {
			case err == nil && changed:
				p.OrgPolicy = connect.OutcomeChanged
			case err == nil:
				p.OrgPolicy = connect.OutcomeUnchanged
			default:
				p.OrgPolicy = r.outcome(err)
				if p.OrgPolicy != "" {
					r.log.WarnContext(ctx, "org policy stays", "error", err)
					return nil // the outcome says it, and the warning below
				}
				return err
			}
			return nil
		})
	if err != nil {
		return err
	}
	var failed []string
	for _, p := range r.Setup.Projects {
		if p.OrgPolicy == connect.OutcomeForbidden || p.OrgPolicy == connect.OutcomeFailed && p.Access.OK() {
			failed = append(failed, p.ID)
		}
	}
	if len(failed) > 0 {
		r.Setup.Warn(connect.Warning{Code: "org_policy", Message: fmt.Sprintf(
			"Org Policy update failed for some projects: %s. Cloud Run services there cannot be made public. Ask an Organization Policy Administrator to allow all members in %s, or go on without.",
			listed(failed), memberDomains)})
	}
	return nil
}

// allowMembers makes the constraint allow every member in the project.
func (r *Run) allowMembers(ctx context.Context, projectID string) (changed bool, err error) {
	allowed, err := r.user.EffectivelyAllowsAll(ctx, projectID, memberDomains)
	if err != nil {
		return false, err
	}
	// What an execution before this one noted to have stood there is kept: by
	// now it may read its own work.
	entry, planned, err := r.ledger.known(ctx, r.ledger.entry(projectID, connect.ChangeOrgPolicy, memberDomains, "", ""))
	if err != nil {
		return false, err
	}
	set := func(etag string) error {
		return r.ledger.apply(ctx, []connect.Change{entry}, func() error {
			return r.user.AllowAll(ctx, projectID, memberDomains, etag)
		})
	}
	if allowed {
		return r.ledger.found(ctx, []connect.Change{entry})
	}
	if !planned {
		if err = set(""); connect.CodeOf(err) != connect.Conflict {
			return err == nil, err
		}
	}
	own, err := r.user.OrgPolicy(ctx, projectID, memberDomains)
	switch {
	case connect.CodeOf(err) == connect.NotFound:
		err = set("")
		return err == nil, err
	case err != nil:
		return false, err
	case own.AllowsAll: // it has not spread yet
		return r.ledger.found(ctx, []connect.Change{entry})
	}
	// The project has a policy of its own: it is kept in the ledger.
	entry.Before = own.Spec
	err = set(own.Etag)
	return err == nil, err
}

// listed names at most ten things and counts the rest.
func listed(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
