package setup

import (
	"cmp"
	"context"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

// undoing is the work of undoing, in one project, changes of the ledger.
type undoing struct {
	r       *Run
	p       *connect.Project
	changes []connect.Change  // that stand, as far as the ledger knows; newest first
	left    map[string]string // what could not be undone, with Google's words
	again   bool              // it was undone before: this is another look
}

// of returns the changes of a kind.
func (u *undoing) of(kind connect.ChangeKind) []connect.Change {
	return slices.DeleteFunc(slices.Clone(u.changes), func(c connect.Change) bool { return c.Kind != kind })
}

// made reports whether setups made the account.
func (u *undoing) made(email string) bool { return slices.Contains(u.r.Setup.MadeAccounts, email) }

// access takes back everything but the accounts and the APIs.
func (u *undoing) access(ctx context.Context) error {
	for _, undo := range []func(context.Context) error{u.projectBindings, u.accountBindings, u.orgPolicies, u.disableAccounts} {
		if err := undo(ctx); err != nil {
			return err
		}
	}
	if len(u.of(connect.ChangeCreateAccount)) > 0 || u.r.Setup.DisableAPIs && len(u.of(connect.ChangeEnableAPI)) > 0 {
		u.p.Removal = connect.OutcomeStarted
		return nil
	}
	u.conclude()
	return nil
}

// accountsAndAPIs deletes the accounts that setups made, and disables APIs.
func (u *undoing) accountsAndAPIs(ctx context.Context) error {
	if err := u.deleteAccounts(ctx); err != nil {
		return err
	}
	if u.r.Setup.DisableAPIs {
		if err := u.disableAPIs(ctx); err != nil {
			return err
		}
	}
	u.conclude()
	return nil
}

// conclude sets the project's outcome.
func (u *undoing) conclude() {
	u.p.Removal = connect.OutcomeChanged
	if len(u.left) > 0 || u.p.Failed(stepRemove) {
		u.p.Removal = connect.OutcomeFailed
	}
}

// keep notes what could not be undone, unless err says that it can be later.
func (u *undoing) keep(thing string, err error) error {
	if err == nil || u.r.outcome(err) == "" {
		return err
	}
	u.left[thing] = connect.MessageOf(err)
	return nil
}

// projectBindings takes back the roles that setups gave in the project's
// policy, and every role of an account that is about to be deleted.
func (u *undoing) projectBindings(ctx context.Context) error {
	changes := slices.DeleteFunc(u.of(connect.ChangeAddBinding), func(c connect.Change) bool { return c.Target != u.p.ID })
	if len(changes) == 0 {
		return nil
	}
	err := projectPolicy(u.r.user, u.r.ledger, u.p.ID).remove(ctx, func(p *Policy) []grant {
		grants := grantsIn(changes)
		for _, b := range p.Bindings {
			for _, member := range b.Members {
				ours := slices.ContainsFunc(u.r.Setup.MadeAccounts, func(email string) bool { return serviceAccountMember(email) == member })
				switch {
				case ours && b.Condition == nil:
					grants = append(grants, grant{b.Role, member})
				case ours:
					u.left["the conditional grant of "+b.Role+" to "+member] = "Aurora did not give it"
				}
			}
		}
		return grants
	})
	if err != nil {
		return u.keep("the roles of Aurora's accounts in the project", err)
	}
	return u.undone(ctx, changes)
}

// accountBindings takes back who may use accounts that setups found there. Of
// accounts that are deleted it goes with them.
func (u *undoing) accountBindings(ctx context.Context) error {
	var accounts []string
	for _, c := range u.of(connect.ChangeAddBinding) {
		if c.Target != u.p.ID && (u.again || !u.made(c.Target)) && !slices.Contains(accounts, c.Target) {
			accounts = append(accounts, c.Target)
		}
	}
	for _, email := range accounts {
		if err := u.bindingsOf(ctx, email); err != nil {
			return err
		}
	}
	return nil
}

// bindingsOf takes back who may use an account.
func (u *undoing) bindingsOf(ctx context.Context, email string) error {
	changes := slices.DeleteFunc(u.of(connect.ChangeAddBinding), func(c connect.Change) bool { return c.Target != email })
	if len(changes) == 0 {
		return nil
	}
	err := accountPolicy(u.r.user, u.r.ledger, u.p.ID, email).remove(ctx, func(*Policy) []grant { return grantsIn(changes) })
	if err != nil && connect.CodeOf(err) != connect.NotFound {
		return u.keep("who may use "+email, err)
	}
	return u.undone(ctx, changes)
}

func grantsIn(changes []connect.Change) []grant {
	var grants []grant
	for _, c := range changes {
		grants = append(grants, grant{c.Role, c.Member})
	}
	return grants
}

// orgPolicies puts the project's own policy back that stood before, unless
// somebody has changed it since.
func (u *undoing) orgPolicies(ctx context.Context) error {
	for _, c := range u.of(connect.ChangeOrgPolicy) {
		if err := u.restore(ctx, c); err != nil {
			if err := u.keep("the organization policy "+c.Target, err); err != nil {
				return err
			}
			continue
		}
		if err := u.undone(ctx, []connect.Change{c}); err != nil {
			return err
		}
	}
	return nil
}

func (u *undoing) restore(ctx context.Context, c connect.Change) (err error) {
	for range policyTries {
		var own OrgPolicy
		own, err = u.r.user.OrgPolicy(ctx, u.p.ID, c.Target)
		if connect.CodeOf(err) == connect.NotFound || err == nil && (!own.AllowsAll || !setBy(c, own)) {
			return nil // what was set stands no more
		}
		if err == nil {
			err = u.r.user.RestoreOrgPolicy(ctx, u.p.ID, c.Target, own.Etag, c.Before)
		}
		if connect.CodeOf(err) != connect.Conflict {
			return err
		}
	}
	return err
}

// clockSkew is how far Google's clock and ours may be apart.
const clockSkew = time.Minute

// setBy reports whether a policy stands as the change left it: nobody has
// written it since.
func setBy(c connect.Change, own OrgPolicy) bool {
	latest := c.DoneAt
	switch {
	case mayArrive(c):
		latest = time.Now()
	case latest.IsZero(): // it is not known to be done; no call lasts longer than this
		latest = c.PlannedAt.Add(MaxDeadline)
	}
	return own.UpdatedAt.IsZero() || own.UpdatedAt.After(c.PlannedAt.Add(-clockSkew)) && own.UpdatedAt.Before(latest.Add(clockSkew))
}

// disableAccounts disables again what was there disabled.
func (u *undoing) disableAccounts(ctx context.Context) error {
	for _, c := range u.of(connect.ChangeEnableAccount) {
		if u.made(c.Target) && !u.again {
			continue
		}
		if err := u.r.user.DisableAccount(ctx, u.p.ID, c.Target); err != nil && connect.CodeOf(err) != connect.NotFound {
			if err := u.keep("that "+c.Target+" is enabled", err); err != nil {
				return err
			}
			continue
		}
		if err := u.undone(ctx, []connect.Change{c}); err != nil {
			return err
		}
	}
	return nil
}

// deleteAccounts deletes the accounts that setups made here.
func (u *undoing) deleteAccounts(ctx context.Context) error {
	for _, created := range u.of(connect.ChangeCreateAccount) {
		email := created.Target
		if !u.made(email) { // the answer to its making was lost, and it is another's
			if err := u.undone(ctx, []connect.Change{created}); err != nil {
				return err
			}
			continue
		}
		if err := u.deleteAccount(ctx, created); err != nil && connect.CodeOf(err) != connect.NotFound {
			if err := u.keep("the service account "+email, err); err != nil {
				return err
			}
			if err := u.bindingsOf(ctx, email); err != nil {
				return err
			}
			continue
		}
		gone := slices.DeleteFunc(slices.Clone(u.changes), func(c connect.Change) bool {
			return c.Target != email || c.Kind == connect.ChangeRemoveBinding
		})
		if err := u.undone(ctx, gone); err != nil {
			return err
		}
	}
	return nil
}

// deleteAccount deletes an account by its unique ID. A request that arrives late
// then cannot delete an account that was made since under the same email.
func (u *undoing) deleteAccount(ctx context.Context, created connect.Change) error {
	id := created.UniqueID
	if id == "" || u.again { // another one may have appeared
		account, err := u.r.user.Account(ctx, u.p.ID, created.Target)
		if err != nil && !absent(err) {
			return err
		}
		id = cmp.Or(account.UniqueID, created.Target) // one just made can be deleted before it can be read
	}
	return u.r.user.DeleteAccount(ctx, u.p.ID, id)
}

// How long disabling APIs may take in one project, and how long to wait
// between two looks at it. Google disables one after the other.
const (
	disablingTime = 15 * time.Minute
	disablingWait = 10 * time.Second
)

// disableAPIs disables the APIs that setups enabled, but for those that are
// in use or that others need.
func (u *undoing) disableAPIs(ctx context.Context) error {
	changes := u.of(connect.ChangeEnableAPI)
	if len(changes) == 0 {
		return nil
	}
	if u.p.OperationsAt.IsZero() {
		u.p.OperationsAt = time.Now()
	}
	var off, on []connect.Change
	var names []string
	for _, c := range changes {
		names = append(names, c.Target)
	}
	disabled, err := u.r.user.DisabledAPIs(ctx, u.p.ID, names)
	if err != nil {
		return u.keep("the APIs that were enabled", err)
	}
	for _, c := range changes {
		if slices.Contains(disabled, c.Target) {
			off = append(off, c)
		} else {
			on = append(on, c)
		}
	}
	if err := u.undone(ctx, off); err != nil {
		return err
	}
	moving := false
	refused := map[string]string{}
	for _, c := range on {
		err := u.r.user.DisableAPI(ctx, u.p.ID, c.Target)
		switch {
		case err == nil:
			moving = true
		case connect.CodeOf(err) == connect.NeedsReauth:
			return err
		case retryable(err):
			moving = true
			refused[c.Target] = connect.MessageOf(err)
		default: // in use, or others that are still enabled need it
			refused[c.Target] = connect.MessageOf(err)
		}
	}
	if moving && time.Since(u.p.OperationsAt) < disablingTime && !(u.r.lastLook && u.r.last) {
		return Later(disablingWait)
	}
	for _, c := range on {
		if why, ok := refused[c.Target]; ok {
			u.left[c.Target] = why
		} else {
			u.left[c.Target] = "Google has not finished disabling it"
		}
	}
	return nil
}

// undone marks changes in the ledger: they stand no more. One that may still
// arrive at Google is left planned until the last look.
func (u *undoing) undone(ctx context.Context, changes []connect.Change) error {
	var open, undone []connect.Change
	for _, c := range changes {
		if !u.r.lastLook && mayArrive(c) {
			open = append(open, c)
		} else {
			undone = append(undone, c)
		}
	}
	if err := u.r.ledger.save(ctx, open, connect.ChangePlanned); err != nil {
		return err
	}
	return u.r.ledger.mark(ctx, undone, connect.ChangeUndone)
}
