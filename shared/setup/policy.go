package setup

import (
	"context"
	"slices"

	"gcpconnect/shared/connect"
)

// grant is one member's unconditional hold of one role.
type grant struct{ role, member string }

// policyEditor reads an allow policy, computes what is missing and writes only
// that: one read and at most one write, unless another writer comes between.
type policyEditor struct {
	ledger    *ledger
	projectID string
	target    string // what the policy is of, for the ledger
	read      func(context.Context) (*Policy, error)
	write     func(context.Context, *Policy) error
}

// projectPolicy edits the policy of a project.
func projectPolicy(cloud Cloud, l *ledger, projectID string) policyEditor {
	return policyEditor{
		ledger: l, projectID: projectID, target: projectID,
		read:  func(ctx context.Context) (*Policy, error) { return cloud.Policy(ctx, projectID) },
		write: func(ctx context.Context, p *Policy) error { return cloud.SetPolicy(ctx, projectID, p) },
	}
}

// accountPolicy edits the policy of a service account.
func accountPolicy(cloud Cloud, l *ledger, projectID, email string) policyEditor {
	return policyEditor{
		ledger: l, projectID: projectID, target: email,
		read:  func(ctx context.Context) (*Policy, error) { return cloud.AccountPolicy(ctx, projectID, email) },
		write: func(ctx context.Context, p *Policy) error { return cloud.SetAccountPolicy(ctx, projectID, email, p) },
	}
}

// policyTries is how often the whole read-modify-write is done at once when
// other writers come between. Beyond that the task is tried again later.
const policyTries = 3

// ensure makes the grants stand (or not stand, with present false) and
// reports whether it, or an execution before it, changed anything for that.
func (e policyEditor) ensure(ctx context.Context, grants []grant, present bool) (changed bool, err error) {
	kind, apply := connect.ChangeAddBinding, (*Policy).Add
	if !present {
		kind, apply = connect.ChangeRemoveBinding, (*Policy).Remove
	}
	for range policyTries {
		var policy *Policy
		policy, err = e.read(ctx)
		if err != nil {
			return changed, err
		}
		var missing, standing []connect.Change
		for _, g := range grants {
			change := e.ledger.entry(e.projectID, kind, e.target, g.role, g.member)
			if apply(policy, g.role, g.member) {
				missing = append(missing, change)
			} else {
				standing = append(standing, change)
			}
		}
		ours, err := e.ledger.found(ctx, standing)
		if err != nil {
			return changed, err
		}
		changed = changed || ours
		if len(missing) == 0 {
			return changed, nil
		}
		err = e.ledger.apply(ctx, missing, func() error { return e.write(ctx, policy) })
		if err == nil {
			return true, nil
		}
		if connect.CodeOf(err) != connect.Conflict {
			return changed, err
		}
	}
	return changed, err
}

// grantsOf pairs members with their roles.
func grantsOf(accounts connect.ServiceAccounts, settings *Settings) []grant {
	var grants []grant
	for _, role := range settings.AgentRoles {
		grants = append(grants, grant{role.Name, serviceAccountMember(accounts.Agent)})
	}
	for _, role := range settings.AskRoles {
		grants = append(grants, grant{role.Name, serviceAccountMember(accounts.Ask)})
	}
	return grants
}

// holds reports whether all grants stand in the policy.
func holds(p *Policy, grants []grant) bool {
	return !slices.ContainsFunc(grants, func(g grant) bool { return !p.Has(g.role, g.member) })
}

func serviceAccountMember(email string) string { return "serviceAccount:" + email }
