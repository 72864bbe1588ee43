package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gcpconnect/shared/connect"
)

// ledger records changes to a customer's cloud before they are made and marks
// them done after.
type ledger struct {
	store   connect.Store
	userID  string
	setupID string // empty: the changes are made outside a setup
	salt    string // tells such changes apart
	resumed bool   // an execution of the same step was there before
	// interrupted says that an execution of the setup has failed or crashed.
	interrupted bool
	last        bool // no later execution finds out the result of a change

	mu      sync.Mutex
	planned map[string]connect.Change  // of this execution or one before it, and not known to be done
	older   map[string]connect.Change  // of setups before, and not known to be done; by what they say
	made    int                        // changes marked done
	stood   int                        // changes that needed not be made, of work that is settled
	seen    map[string]map[string]bool // the IDs of those of other work, by what it is about
}

// entry returns a change of this ledger with its ID.
func (l *ledger) entry(projectID string, kind connect.ChangeKind, target, role, member string) connect.Change {
	c := connect.Change{
		UserID: l.userID, SetupID: l.setupID, ProjectID: projectID,
		Kind: kind, Target: target, Role: role, Member: member,
		State: connect.ChangePlanned, Unanswered: l.interrupted, PlannedAt: time.Now(), Version: connect.SchemaVersion,
	}
	c.Identify(l.salt)
	return c
}

// open begins the ledger's part in a step of a setup that was made at that time:
// it reads what setups before had planned and not marked done. Whether that
// happened is found out by the steps, which read Google's state anyway. Where an
// execution of the step was there before, what the setup has made by now is
// counted in the ledger itself: an execution that died took its count with it.
func (l *ledger) open(ctx context.Context, made time.Time, resumed bool) error {
	l.resumed = resumed
	// Newest first, from the setup's beginning back.
	token, err := connect.Cursor{Of: "changes", PlannedAt: made.UTC()}.Token()
	if err != nil {
		return err
	}
	q := connect.ChangeQuery{State: connect.ChangePlanned, PageSize: connect.MaxPageSize, PageToken: token}
	for q.PageToken != "" {
		page, next, err := l.store.Changes(ctx, l.userID, q)
		if err != nil {
			return fmt.Errorf("read planned changes: %w", err)
		}
		l.mu.Lock()
		if l.older == nil {
			l.older = map[string]connect.Change{}
		}
		for _, c := range page {
			if c.SetupID != l.setupID { // one of the very moment of the setup's beginning is not a setup's before
				c.Unanswered = true
				l.older[says(c)] = c
			}
		}
		l.mu.Unlock()
		q.PageToken = next
	}
	if !resumed {
		return nil
	}
	n, err := l.store.CountChanges(ctx, l.userID, connect.ChangeQuery{SetupID: l.setupID, State: connect.ChangeDone})
	if err != nil {
		return fmt.Errorf("count changes: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = n
	return nil
}

// says is the text of a change, in whichever setup it was planned.
func says(c connect.Change) string {
	return strings.Join([]string{c.ProjectID, string(c.Kind), c.Target, c.Role, c.Member}, "\x00")
}

// adopt marks in the ledger the results of changes that setups before this one
// had planned: they stand, or, because they are about to be made anew, never
// happened. Organization policies are left out: their own time tells.
func (l *ledger) adopt(ctx context.Context, changes []connect.Change, state connect.ChangeState) error {
	l.mu.Lock()
	var known []connect.Change
	for _, c := range changes {
		if before, ok := l.older[says(c)]; ok && c.Kind != connect.ChangeOrgPolicy {
			known = append(known, before)
			delete(l.older, says(c))
		}
	}
	l.mu.Unlock()
	return l.save(ctx, known, state)
}

// apply makes changes: it records them as planned, calls do, and marks them
// done. If Google refused, they are marked refused. If it is not known what
// happened, they stay planned, until found says that they stand; a conflict is
// of that kind, because a call that is repeated after its answer was lost
// conflicts with itself.
func (l *ledger) apply(ctx context.Context, changes []connect.Change, do func() error) error {
	if err := l.plan(ctx, changes); err != nil {
		return err
	}
	err := do()
	switch {
	case err == nil:
		return l.mark(ctx, changes, connect.ChangeDone)
	case retryable(err) || connect.CodeOf(err) == connect.NeedsReauth:
		return err
	}
	// The cause matters more than whether this record was written: a planned
	// change claims nothing.
	_ = l.mark(ctx, changes, connect.ChangeRefused)
	return err
}

// plan records changes that are about to be made: if setups before this one had
// planned them, they did not happen then.
func (l *ledger) plan(ctx context.Context, changes []connect.Change) error {
	l.mu.Lock()
	for i, c := range changes {
		if _, asked := l.older[says(c)]; asked {
			changes[i].Unanswered = true
		}
	}
	l.mu.Unlock()
	if err := l.store.SaveChanges(ctx, l.userID, changes); err != nil {
		return fmt.Errorf("record planned changes: %w", err)
	}
	if err := l.adopt(ctx, changes, connect.ChangeRefused); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.planned == nil {
		l.planned = map[string]connect.Change{}
	}
	for _, c := range changes {
		l.planned[c.ID] = c
	}
	return nil
}

// known returns the change as an execution before this one planned it, with
// what it had found to stand before; or the change as it is.
func (l *ledger) known(ctx context.Context, c connect.Change) (change connect.Change, before bool, err error) {
	if _, err := l.recall(ctx, []connect.Change{c}); err != nil {
		return c, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if planned, ok := l.planned[c.ID]; ok {
		return planned, true, nil
	}
	return c, false, nil
}

// mark records that changes have come to a state.
func (l *ledger) mark(ctx context.Context, changes []connect.Change, state connect.ChangeState) error {
	if err := l.save(ctx, changes, state); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		delete(l.planned, c.ID)
	}
	if state != connect.ChangeRefused {
		l.made += len(changes)
	}
	return nil
}

// save writes changes in a state, with its time.
func (l *ledger) save(ctx context.Context, changes []connect.Change, state connect.ChangeState) error {
	if len(changes) == 0 {
		return nil
	}
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i].State = state
		switch state {
		case connect.ChangeDone:
			changes[i].DoneAt = time.Now()
		case connect.ChangeUndone:
			changes[i].UndoneAt = time.Now()
		}
	}
	if err := l.store.SaveChanges(ctx, l.userID, changes); err != nil {
		return fmt.Errorf("record changes as %s: %w", state, err)
	}
	return nil
}

// found tells the ledger that these changes need not be made: their effect
// stands. It reports whether some of them are of this setup, made or planned by
// this execution or one before it, and marks those done that were planned.
func (l *ledger) found(ctx context.Context, changes []connect.Change) (ours bool, err error) {
	mine, err := l.recall(ctx, changes)
	if err == nil {
		err = l.adopt(ctx, changes, connect.ChangeDone)
	}
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	var done []connect.Change
	for _, c := range changes {
		if before, ok := l.planned[c.ID]; ok {
			before.UniqueID = c.UniqueID
			done = append(done, before)
		} else if !mine[c.ID] {
			l.see(c)
		}
	}
	l.mu.Unlock()
	return len(done) > 0 || len(mine) > 0, l.mark(ctx, done, connect.ChangeDone)
}

// foreign tells the ledger that these changes need not be made, and that
// somebody else made them: those that were planned never happened.
func (l *ledger) foreign(ctx context.Context, changes []connect.Change) error {
	if _, err := l.recall(ctx, changes); err != nil {
		return err
	}
	l.mu.Lock()
	for _, c := range changes {
		l.see(c)
	}
	l.mu.Unlock()
	return l.never(ctx, changes)
}

// never tells the ledger that those of the changes that were planned never
// happened.
func (l *ledger) never(ctx context.Context, changes []connect.Change) error {
	l.mu.Lock()
	var refused []connect.Change
	for _, c := range changes {
		if before, ok := l.planned[c.ID]; ok {
			refused = append(refused, before)
		}
	}
	l.mu.Unlock()
	return l.mark(ctx, refused, connect.ChangeRefused)
}

// recall reads what executions before this one have recorded of changes: it
// keeps those that were planned and not marked done, and returns those that
// were made, which were counted then. Whether what was planned has happened is
// found out by the steps, which read Google's state anyway.
//
// Only the changes at hand are read, by their IDs: of 1,000 projects the ledger
// has tens of thousands, most of them planned until the last step.
func (l *ledger) recall(ctx context.Context, changes []connect.Change) (made map[string]bool, err error) {
	if !l.resumed || len(changes) == 0 {
		return nil, nil
	}
	ids := make([]string, len(changes))
	for i, c := range changes {
		ids[i] = c.ID
	}
	recorded, err := l.store.ChangesByID(ctx, l.userID, ids)
	if err != nil {
		return nil, fmt.Errorf("read changes recorded before: %w", err)
	}
	made = map[string]bool{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range recorded {
		switch c.State {
		case connect.ChangeDone:
			made[c.ID] = true
		case connect.ChangePlanned:
			if l.planned == nil {
				l.planned = map[string]connect.Change{}
			}
			c.Unanswered = true
			l.planned[c.ID] = c
		}
	}
	return made, nil
}

// aboutAccounts is what changes to the two service accounts are about;
// others are about their project.
const aboutAccounts = "accounts"

func about(c connect.Change) string {
	if strings.Contains(c.Target, "@") {
		return aboutAccounts
	}
	return c.ProjectID
}

// see remembers a change that stands. The caller holds l.mu.
func (l *ledger) see(c connect.Change) {
	what := about(c)
	if l.seen == nil {
		l.seen = map[string]map[string]bool{}
	}
	if l.seen[what] == nil {
		l.seen[what] = map[string]bool{}
	}
	l.seen[what][c.ID] = true
}

// settle counts what was found to stand in work that has come to its end.
// Before that it does not count: the work will be done, and find it, again.
func (l *ledger) settle(about string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stood += len(l.seen[about])
	delete(l.seen, about)
}

// settleUndone counts, at a removal's end, what is undone of all that stood when
// it began. What executions that died had undone is among it.
func (l *ledger) settleUndone(left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = l.stood - left
}

// standing shows each change of the user's that stands or may stand, in one
// project or, with no ID, in all; in no order.
func (l *ledger) standing(ctx context.Context, projectID string, show func(connect.Change)) error {
	for _, state := range []connect.ChangeState{connect.ChangePlanned, connect.ChangeDone} {
		err := l.each(ctx, connect.ChangeQuery{ProjectID: projectID, State: state}, func(c connect.Change) {
			if c.Kind != connect.ChangeRemoveBinding { // of Aurora's own accounts: nothing to give back
				show(c)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each shows each of the user's changes that a query selects, newest first.
func (l *ledger) each(ctx context.Context, q connect.ChangeQuery, show func(connect.Change)) error {
	for q.PageSize = connect.MaxPageSize; ; {
		page, next, err := l.store.Changes(ctx, l.userID, q)
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		for _, c := range page {
			show(c)
		}
		if next == "" {
			return nil
		}
		q.PageToken = next
	}
}

// counts returns how many changes were made and, of what is settled, how many
// stood already.
func (l *ledger) counts() (made, stood int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made, l.stood
}
