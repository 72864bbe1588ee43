package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

// A process can be suspended between its last look at the clock and the moment
// when its request leaves. The request then arrives after another execution, or
// a removal, has done the work. The package comment says what makes each write
// harmless. Some need a second look after a removal, because what the removal
// deleted can be made again under the same name.
//
// A removal leaves such changes planned in the ledger, keeps the tokens and sets
// Connection.LookAt. The sweep undoes what has arrived by then, marks the changes
// undone and releases the tokens. After that Google refuses a late request,
// because the grant is revoked. The exception is a grant that another connection
// of the same Google account keeps: its access tokens work for up to an hour.
//
// A user who connects again ends this. The changes stay planned, and the next
// removal finds them.

const (
	// lateFor is how long after a removal a request may arrive that the removal
	// could not see: the longest deadline of a step, and one try's time-out at Google.
	lateFor = MaxDeadline + 30*time.Second
	// lookPatience is how long after LookAt the sweep tries to look. The tokens are
	// released then in any case.
	lookPatience = 5 * time.Minute
	// lookTime bounds one look of the sweep, and lookLease keeps other sweeps, and
	// setups that are made meanwhile, from beginning.
	lookTime  = 20 * time.Second
	lookLease = 30 * time.Second
	// accessLifetime is how long Google accepts an access token. A request that
	// arrives later is refused
	// (https://developers.google.com/identity/protocols/oauth2#expiration).
	accessLifetime = time.Hour
)

// mayArrive reports whether a request for c may still be on its way to Google.
func mayArrive(c connect.Change) bool {
	return (c.State == connect.ChangePlanned || c.Unanswered) && time.Since(c.PlannedAt) < accessLifetime
}

// late returns the changes that a removal has undone and left open, and how many
// changes stand or may stand in all.
func (r *Run) late(ctx context.Context) (open []connect.Change, standing int, err error) {
	standing, err = r.standing(ctx, func(c connect.Change) {
		p := r.Setup.Project(c.ProjectID)
		if c.State == connect.ChangePlanned && p != nil && p.Removal == connect.OutcomeChanged &&
			(c.Kind != connect.ChangeEnableAPI || r.Setup.DisableAPIs) {
			open = append(open, c)
		}
	})
	return open, standing, err
}

// lookAgain undoes what has arrived at Google since its project was cleaned up.
func (r *Run) lookAgain(ctx context.Context) error {
	open, _, err := r.late(ctx)
	if err != nil {
		return err
	}
	for _, c := range open {
		if c.Kind == connect.ChangeCreateAccount {
			if err := r.lookForAccount(ctx, c); err != nil {
				return err
			}
		}
	}
	return r.each(ctx,
		func(p *connect.Project) bool {
			return slices.ContainsFunc(open, func(c connect.Change) bool { return c.ProjectID == p.ID })
		},
		func(ctx context.Context, p *connect.Project) error {
			return r.undo(ctx, p, func(u *undoing, ctx context.Context) error {
				u.again = true
				u.changes = slices.DeleteFunc(u.changes, func(c connect.Change) bool { return c.State != connect.ChangePlanned })
				if err := u.access(ctx); err != nil {
					return err
				}
				return u.accountsAndAPIs(ctx)
			})
		})
}

// lookForAccount decides whether an account that is there by now is one that
// setups of this user made. Its mark must name a setup that planned it.
func (r *Run) lookForAccount(ctx context.Context, c connect.Change) error {
	account, err := r.user.Account(ctx, c.ProjectID, c.Target)
	switch {
	case absent(err):
		return nil
	case err != nil:
		return wrap(err, "read %s", c.Target)
	}
	ours := false
	err = r.ledger.each(ctx, connect.ChangeQuery{ProjectID: c.ProjectID}, func(planned connect.Change) {
		ours = ours || planned.Kind == c.Kind && planned.Target == c.Target && account.madeBy(planned.SetupID)
	})
	if err != nil {
		return err
	}
	made := slices.DeleteFunc(r.Setup.MadeAccounts, func(email string) bool { return email == c.Target })
	if ours {
		made = append(made, c.Target)
	}
	r.Setup.MadeAccounts = made
	return nil
}

// errNotYet means that it is too early for a removal's last look, that another
// sweep is at it, or that Google has not finished.
var errNotYet = errors.New("not yet")

// lookLast takes the last look for a removal that left something open, and records
// its outcome in it. With skip set the tokens are about to be deleted: it
// records that Aurora has not looked. It may be repeated.
func (s *Service) lookLast(ctx context.Context, c *connect.Connection, skip bool) error {
	if c.LookAt.IsZero() {
		return nil
	}
	began := time.Now()
	if !skip && began.Before(c.LookAt) {
		return errNotYet
	}
	var removal *connect.Setup
	c, err := s.Store.UpdateConnection(ctx, c.UserID, func(now *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		removal = nil
		switch {
		case now.Generation != c.Generation, now.LookAt.IsZero(), len(now.Stale) == 0, current == nil:
			return nil, nil // connected again, or done
		case !skip && now.BusyUntil.After(began):
			return nil, errNotYet
		}
		removal = current.Clone()
		if !skip { // a setup that is made from here on begins after the look
			now.WaitUntil(began.Add(min(lookLease, s.Settings.Lease)))
		}
		return nil, nil
	})
	if err != nil || removal == nil {
		return err
	}
	grant := c.Stale[len(c.Stale)-1]
	c.Tokens = grant.Tokens
	// What the look finds is in the ledger, and the removal has ended: there is
	// nothing to save on the way.
	r := newRun(&s.Parts, c, removal, "", began.After(c.LookAt.Add(lookPatience)), s.Log)
	r.lastLook, r.savedAt = true, began.Add(time.Hour)
	err = errSkipped
	if !skip {
		looking, cancel := context.WithDeadline(ctx, began.Add(min(lookTime, s.Settings.Deadline)))
		defer cancel()
		if err = r.lookAgain(looking); err == nil {
			err = r.revokeGrant(looking, grant)
		}
		switch {
		case err == nil, r.last:
		case errors.As(err, new(later)):
			return errNotYet
		case retryable(err):
			return err // the next sweep looks
		}
	}
	return s.recordLook(ctx, r, err)
}

// errSkipped is why Aurora did not look.
var errSkipped = connect.Errorf(connect.NeedsReauth, "Aurora's tokens were deleted before it looked.")

// recordLook records in a removal what its last look has undone, and what may be
// left because the look failed.
func (s *Service) recordLook(ctx context.Context, r *Run, failed error) error {
	open, standing, err := r.late(ctx)
	if err != nil {
		return err
	}
	if failed != nil {
		for _, c := range open {
			p := r.Setup.Project(c.ProjectID)
			p.Refuse(stepRemove, leftBefore, map[string]string{
				describe(c): "a late request may have made it, and Aurora could not look: " + connect.MessageOf(failed),
			}, leftAfter)
		}
		for _, c := range open {
			r.Setup.Project(c.ProjectID).Removal = connect.OutcomeFailed
		}
		s.Log.WarnContext(ctx, "last look after a removal failed", "setup", r.Setup.ID, "changes", len(open), "error", failed)
	}
	_, _, err = s.Store.UpdateSetup(ctx, r.Setup.ID, func(c *connect.Connection, x *connect.Setup) error {
		if c.Generation != x.Generation || c.LookAt.IsZero() {
			return errMoved
		}
		x.Projects, x.Warnings = r.Setup.Projects, r.Setup.Warnings
		x.ChangesMade = x.ChangesStood - standing
		return nil
	})
	if errors.Is(err, errMoved) {
		return nil
	}
	return wrap(err, "record the last look of removal %s", r.Setup.ID)
}

// describe names what a change makes, for people.
func describe(c connect.Change) string {
	switch c.Kind {
	case connect.ChangeCreateAccount:
		return "the service account " + c.Target
	case connect.ChangeEnableAccount:
		return "that " + c.Target + " is enabled"
	case connect.ChangeEnableAPI:
		return c.Target
	case connect.ChangeOrgPolicy:
		return "the organization policy " + c.Target
	case connect.ChangeAddBinding, connect.ChangeRemoveBinding:
	}
	return fmt.Sprintf("%s of %s", c.Role, c.Member)
}
