package setup

import (
	"context"
	"slices"
	"strings"

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

// edit asks for a grant to stand in a policy, or not to.
type edit struct {
	grant
	present bool
}

// ensure makes what edits asks of the policy true, and reports whether it, or
// an execution before it, changed anything for that.
func (e policyEditor) ensure(ctx context.Context, edits func(*Policy) []edit) (changed bool, err error) {
	for range policyTries {
		var ours bool
		if ours, err = e.once(ctx, edits); ours {
			changed = true
		}
		if connect.CodeOf(err) != connect.Conflict {
			break
		}
	}
	if err != nil && retryable(err) && e.ledger.last {
		e.lastLook(ctx, edits)
	}
	return changed, err
}

// lastLook finds out the result of a write whose answer is not known, when
// nobody will look later: what does not stand never happened. If it cannot be
// found out, the ledger goes on saying that it is not known.
func (e policyEditor) lastLook(ctx context.Context, edits func(*Policy) []edit) {
	policy, err := e.read(ctx)
	if err != nil {
		return
	}
	missing, standing := e.apply(policy, edits(policy))
	_, _ = e.ledger.found(ctx, standing)
	_ = e.ledger.never(ctx, missing)
}

// once is one read-modify-write.
func (e policyEditor) once(ctx context.Context, edits func(*Policy) []edit) (changed bool, err error) {
	policy, err := e.read(ctx)
	if err != nil {
		return false, err
	}
	missing, standing := e.apply(policy, edits(policy))
	if changed, err = e.ledger.found(ctx, standing); err != nil || len(missing) == 0 {
		return changed, err
	}
	if err := e.ledger.apply(ctx, missing, func() error { return e.write(ctx, policy) }); err != nil {
		return changed, err
	}
	return true, nil
}

// apply makes edits of a policy that was read, and returns those that changed
// it and those that stood.
func (e policyEditor) apply(policy *Policy, edits []edit) (missing, standing []connect.Change) {
	for _, edit := range edits {
		kind, apply := connect.ChangeAddBinding, policy.Add
		if !edit.present {
			kind, apply = connect.ChangeRemoveBinding, policy.Remove
		}
		change := e.ledger.entry(e.projectID, kind, e.target, edit.role, edit.member)
		if apply(edit.role, edit.member) {
			missing = append(missing, change)
		} else {
			standing = append(standing, change)
		}
	}
	return missing, standing
}

// remove takes grants out of the policy. It writes nothing to the ledger: what
// it takes out is there already.
func (e policyEditor) remove(ctx context.Context, unwanted func(*Policy) []grant) (err error) {
	for range policyTries {
		var policy *Policy
		if policy, err = e.read(ctx); err != nil {
			return err
		}
		changed := false
		for _, g := range unwanted(policy) {
			changed = policy.Remove(g.role, g.member) || changed
		}
		if !changed {
			return nil
		}
		if err = e.write(ctx, policy); connect.CodeOf(err) != connect.Conflict {
			return err
		}
	}
	return err
}

// adding asks for grants to stand, whatever else the policy says.
func adding(grants []grant) func(*Policy) []edit {
	return func(*Policy) []edit {
		edits := make([]edit, len(grants))
		for i, g := range grants {
			edits[i] = edit{g, true}
		}
		return edits
	}
}

// access asks for a project to give the user's two accounts their roles, or
// none at all. Accounts that an earlier root project holds lose theirs either
// way: nothing uses them any more.
func access(userID string, grants []grant, enabled bool) func(*Policy) []edit {
	return func(p *Policy) []edit {
		var edits []edit
		current := map[string]bool{}
		if enabled {
			edits = adding(grants)(p)
			for _, g := range grants {
				current[g.member] = true
			}
		}
		for _, b := range p.Bindings {
			for _, member := range b.Members {
				if b.Condition == nil && ownAccount(userID, member) && !current[member] {
					edits = append(edits, edit{grant{b.Role, member}, false})
				}
			}
		}
		return edits
	}
}

// ownAccount reports whether a member is one of the user's two accounts, in
// whichever project.
func ownAccount(userID, member string) bool {
	for _, suffix := range []string{suffixAgent, suffixAsk} {
		if strings.HasPrefix(member, serviceAccountMember(accountID(userID, suffix)+"@")) {
			return true
		}
	}
	return false
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
