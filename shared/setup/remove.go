package setup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

// stepRemove is where errors of undoing belong.
const stepRemove = "remove-access"

// removeAccess undoes what the ledger says that setups changed, then gives the
// user's grant up. In each project first the access of Aurora's accounts and
// the organization policy; when that is done everywhere, the accounts
// themselves, so that no policy names an account that is gone; last, where
// asked for, the APIs. Then it looks again at what may have arrived late.
//
// If something may still arrive after that, the tokens are kept until the sweep
// has looked once more, lateFor later. See late.go.
//
// What cannot be undone is recorded beside its project, and stays in the
// ledger as done. It keeps nothing from being given up: the user asked for
// that first of all.
func removeAccess(ctx context.Context, r *Run) error {
	if err := r.takeStock(ctx); err != nil {
		return err
	}
	phases := []struct {
		due  connect.Outcome
		undo func(*undoing, context.Context) error
	}{
		{"", (*undoing).access},
		{connect.OutcomeStarted, (*undoing).accountsAndAPIs},
	}
	for _, phase := range phases {
		err := r.each(ctx,
			func(p *connect.Project) bool { return p.Removal == phase.due },
			func(ctx context.Context, p *connect.Project) error { return r.undo(ctx, p, phase.undo) })
		if connect.CodeOf(err) == connect.NeedsReauth {
			r.log.WarnContext(ctx, "the user's tokens died before all was undone", "error", err)
			r.giveUp()
			break
		}
		if err != nil {
			return err
		}
	}
	if err := r.lookAgain(ctx); err != nil {
		return err
	}
	late, left, err := r.late(ctx)
	if err != nil {
		return err
	}
	r.ledger.settleUndone(left)
	if len(late) > 0 { // the tokens are kept for the last look
		r.onCommit = append(r.onCommit, func(c *connect.Connection) { c.LookAt = time.Now().Add(lateFor) })
		return nil
	}
	// What is undone, and the outcome of the revocation, is written down before the
	// tokens go: a second execution could not find it out.
	grant := r.Connection.Grant()
	if err := r.revokeGrant(ctx, grant); err != nil {
		return err
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	if err := r.Tokens.vault.Delete(ctx, grant.Tokens); err != nil {
		return fmt.Errorf("delete tokens: %w", err)
	}
	r.onCommit = append(r.onCommit, func(c *connect.Connection) { c.Tokens = "" })
	return nil
}

// revokeGrant revokes the user's grant at Google, and warns in the setup if it
// stands after that.
func (r *Run) revokeGrant(ctx context.Context, grant connect.Grant) error {
	t, _, err := r.Tokens.vault.Get(ctx, grant.Tokens)
	switch {
	case connect.CodeOf(err) == connect.NotFound:
		return nil
	case err != nil:
		return fmt.Errorf("read tokens: %w", err)
	}
	result, err := r.revoke(ctx, grant, t)
	if err != nil && !r.last { // nobody waits, and without the tokens it cannot be revoked
		return connect.Errorf(connect.Unavailable, "Google could not be asked to revoke the grant.").Because(err)
	}
	if text := result.Words(); text != "" {
		r.Setup.Warn(connect.Warning{Code: "not_revoked", Message: text})
	}
	return nil
}

// takeStock finds what there is to undo, and writes it down before anything is
// undone: an execution that goes on after another counts what that one has
// undone by what is missing.
func (r *Run) takeStock(ctx context.Context) error {
	if r.Setup.Projects == nil {
		if err := r.forgetResources(ctx, r.Connection); err != nil {
			return err
		}
		if err := r.findChanges(ctx); err != nil {
			return err
		}
		return r.save(ctx)
	}
	left, err := r.standing(ctx, func(connect.Change) {})
	if err == nil {
		r.ledger.settleUndone(left)
	}
	return err
}

// standing counts the changes of the ledger that stand, as far as it knows, and
// shows each.
func (r *Run) standing(ctx context.Context, show func(connect.Change)) (n int, err error) {
	err = r.ledger.standing(ctx, "", func(c connect.Change) {
		n++
		show(c)
	})
	return n, err
}

// findChanges lists the projects in which the ledger has changes that stand, as
// far as it knows, and the accounts that setups made.
func (r *Run) findChanges(ctx context.Context) error {
	s := r.Setup
	projects := map[string]bool{}
	var accounts []connect.Change
	standing, err := r.standing(ctx, func(c connect.Change) {
		projects[c.ProjectID] = true
		if c.Kind == connect.ChangeCreateAccount {
			accounts = append(accounts, c)
		}
	})
	if err != nil {
		return err
	}
	r.ledger.stood = standing
	for _, c := range accounts {
		ours, err := r.made(ctx, c)
		if err != nil {
			return err
		}
		if ours && !slices.Contains(s.MadeAccounts, c.Target) {
			s.MadeAccounts = append(s.MadeAccounts, c.Target)
		}
	}
	ids := slices.Sorted(maps.Keys(projects))
	if len(ids) > connect.MaxProjects {
		s.Warn(connect.Warning{Code: CodeTooMany, Message: fmt.Sprintf(
			"%d projects were changed, and one removal reaches %d. Connect again, then disconnect with cleanup once more.", len(ids), connect.MaxProjects)})
		ids = ids[:connect.MaxProjects]
	}
	s.Projects = []connect.Project{}
	for _, id := range ids {
		s.Projects = append(s.Projects, connect.Project{ID: id})
	}
	return nil
}

// made reports whether a setup made an account. Where the answer to that was
// lost, the account's own mark tells.
func (r *Run) made(ctx context.Context, c connect.Change) (bool, error) {
	if c.State == connect.ChangeDone {
		return true, nil
	}
	account, err := r.user.Account(ctx, c.ProjectID, c.Target)
	if err != nil && (retryable(err) && !r.last) {
		return false, wrap(err, "read %s", c.Target)
	}
	return err == nil && account.madeBy(c.SetupID), nil
}

// giveUp records of each project that is not done that it cannot be.
func (r *Run) giveUp() {
	for i := range r.Setup.Projects {
		if p := &r.Setup.Projects[i]; p.Removal == "" || p.Removal == connect.OutcomeStarted {
			p.Removal = connect.OutcomeFailed
			p.Refuse(stepRemove, leftBefore, map[string]string{"what was not reached": connect.NoRefreshToken}, leftAfter)
		}
	}
}

// undo does one phase of undoing in one project.
func (r *Run) undo(ctx context.Context, p *connect.Project, phase func(*undoing, context.Context) error) error {
	before := p.Removal
	u := &undoing{r: r, p: p, left: map[string]string{}}
	err := r.ledger.standing(ctx, p.ID, func(c connect.Change) { u.changes = append(u.changes, c) })
	slices.SortStableFunc(u.changes, func(a, b connect.Change) int { return b.PlannedAt.Compare(a.PlannedAt) })
	if err == nil {
		err = phase(u, ctx)
	}
	if err != nil {
		if p.Removal = r.outcome(err); p.Removal == "" {
			p.Removal = before
			return err
		}
		r.log.WarnContext(ctx, "project could not be cleaned up", "error", err)
		u.left["what was not reached"] = connect.MessageOf(err)
	}
	p.Refuse(stepRemove, leftBefore, u.left, leftAfter)
	return nil
}

// The words around what could not be undone in a project.
const (
	leftBefore = "These stay: "
	leftAfter  = ". Remove them by hand, or connect again and disconnect with cleanup."
)

// Words say what a person should know of a revocation; "" where there is
// nothing.
func (v Revocation) Words() string {
	switch v {
	case RevocationShared:
		return "Aurora is still listed at Google for this account, because another connection of the same Google account uses it."
	case RevocationUnknown:
		return "Aurora has deleted its tokens, but Google did not confirm that the grant is revoked. Look at https://myaccount.google.com/connections and remove Aurora there."
	}
	return ""
}
