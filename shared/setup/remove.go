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
// asked for, the APIs.
//
// What cannot be undone is recorded beside its project, and stays in the
// ledger as done. It keeps nothing from being given up: the user asked for
// that first of all.
func removeAccess(ctx context.Context, r *Run) error {
	s := r.Setup
	if s.Projects == nil {
		if err := r.findChanges(ctx); err != nil {
			return err
		}
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
	// What is undone is written down before the tokens go: a second execution
	// could not find it out.
	r.savedAt = time.Time{}
	if err := r.checkpoint(ctx); err != nil {
		return err
	}
	result, err := r.release(ctx, r.Connection.Grant())
	if err != nil {
		return err
	}
	if text := result.Words(); text != "" {
		s.Warn(connect.Warning{Code: "not_revoked", Message: text})
	}
	r.onCommit = append(r.onCommit, func(c *connect.Connection) { c.Tokens = "" })
	return nil
}

// findChanges lists the projects in which the ledger has changes that stand, as
// far as it knows, and the accounts that setups made.
func (r *Run) findChanges(ctx context.Context) error {
	s := r.Setup
	projects := map[string]bool{}
	err := r.ledger.standing(ctx, "", func(c connect.Change) {
		projects[c.ProjectID] = true
		if c.Kind == connect.ChangeCreateAccount && !slices.Contains(s.MadeAccounts, c.Target) {
			s.MadeAccounts = append(s.MadeAccounts, c.Target)
		}
	})
	if err != nil {
		return err
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
