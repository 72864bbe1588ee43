package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gcpconnect/shared/connect"
)

// SweepFunction is the name of the function that a scheduler calls, every
// minute or so.
const SweepFunction = "sweep"

// sweepPage is how many records of a kind one sweep looks at. What is left is
// the next one's.
const sweepPage = 200

// sweepPatience is how long tokens that are to be given up are left to
// the request that is still at work.
const sweepPatience = time.Minute

// Sweep finds what nobody works on any more, and finishes it:
//   - setups and discoveries that have not moved for longer than they ever
//     wait: their task was lost. They get another one; setups for which that is
//     for too long fail.
//   - logins whose tokens became no connection: not confirmed in time, or
//     overtaken by the death of a process. They are given up.
//   - tokens of connections that are no more. They are given up.
//
// It may run many times at once: everything it does may be repeated. One
// record's trouble does not keep it from the others; the error joins all.
func (s *Service) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Settings.Deadline)
	defer cancel()
	now := time.Now()
	setups, err := s.Store.StalledSetups(ctx, now, sweepPage)
	faults := []error{wrap(err, "list stalled setups"), forAll(ctx, setups, s.revive)}
	discoveries, err := s.Store.StalledDiscoveries(ctx, now, sweepPage)
	faults = append(faults, wrap(err, "list stalled discoveries"), forAll(ctx, discoveries, s.reviveDiscovery))
	logins, err := s.Store.UsedLogins(ctx, now.Add(-connect.LoginLifetime), sweepPage)
	faults = append(faults, wrap(err, "list used logins"), forAll(ctx, logins, s.settleUsed))
	stale, err := s.Store.StaleConnections(ctx, now.Add(-sweepPatience), sweepPage)
	faults = append(faults, wrap(err, "list stale connections"), forAll(ctx, stale, func(ctx context.Context, c *connect.Connection) error {
		switch err := s.lookLast(ctx, c, false); {
		case errors.Is(err, errNotYet):
			return nil
		case err != nil:
			return wrap(err, "look once more after the removal of %s", c.UserID)
		}
		revocation, err := s.releaseStale(ctx, c)
		if err == nil {
			s.Log.InfoContext(ctx, "stale tokens were given up", "user", c.UserID, "grant", revocation)
		}
		return wrap(err, "give up stale tokens of %s", c.UserID)
	}))
	return errors.Join(faults...)
}

// forAll does work for each of some records, and joins what went wrong.
func forAll[T any](ctx context.Context, records []T, work func(context.Context, *T) error) error {
	faults := make([]error, len(records))
	_ = concurrently(ctx, len(records), func(ctx context.Context, i int) error { // never fails
		faults[i] = safely(func() error { return work(ctx, &records[i]) })
		return nil
	})
	return errors.Join(faults...)
}

// errMoved: what had stalled when it was listed is not to be revived.
var errMoved = errors.New("it moves")

// textStalled says what to do about a setup that did not move any more.
const textStalled = "The setup stopped moving. Retry it: it goes on from what is done."

// revive has the step that is due for a stalled setup delivered once more. A
// setup that has been revived for too long without moving fails.
func (s *Service) revive(ctx context.Context, stalled *connect.Setup) error {
	_, x, err := s.Store.UpdateSetup(ctx, stalled.ID, func(c *connect.Connection, x *connect.Setup) error {
		now := time.Now()
		switch {
		case !x.Stalled(now):
			return errMoved
		case c.Generation != x.Generation || !serves(c, x): // nothing leaves one behind; nobody could go on with it
			x.End(connect.StateCanceled, CodeDisconnected, "Google Cloud was disconnected.", now)
		case !x.StalledSince.IsZero() && now.Sub(x.StalledSince) >= s.Settings.GiveUpAfter:
			end(c, x, stop{connect.StateFailed, CodeBroken, stepOf(x).Failure + ": " + textStalled}, now)
		default:
			x.Revive(now)
		}
		return nil
	})
	switch {
	case errors.Is(err, errMoved), connect.CodeOf(err) == connect.NotFound:
		return nil
	case err != nil:
		return fmt.Errorf("revive setup %s: %w", stalled.ID, err)
	}
	log := s.Log.With("setup", x.ID, "step", x.Step, "attempt", x.Attempt, "generation", x.Generation)
	if x.State.Ended() {
		log.ErrorContext(ctx, "stalled setup was given up", "state", x.State)
		s.Measures.ended(ctx, x)
		return nil
	}
	log.WarnContext(ctx, "stalled setup was revived", "since", x.StalledSince)
	return s.enqueue(ctx, x)
}

// reviveDiscovery has a stalled discovery of a project go on.
func (s *Service) reviveDiscovery(ctx context.Context, stalled *connect.Discovery) error {
	_, d, err := s.Store.UpdateDiscovery(ctx, stalled.UserID, stalled.ProjectID, func(c *connect.Connection, d *connect.Discovery) error {
		now := time.Now()
		switch {
		case !d.Stalled(now):
			return errMoved
		case !c.Connected || c.Generation != d.Generation, d.Attempt >= discoveryTries:
			d.End(connect.DiscoveryFailed, discoveryMessage(connect.Errorf(connect.Unavailable, "The discovery stopped moving.")), now)
		default:
			d.Attempt++
			d.DueAt = time.Time{}
			d.Move(now)
		}
		return nil
	})
	switch {
	case errors.Is(err, errMoved):
		return nil
	case err != nil:
		return fmt.Errorf("revive the discovery of %s: %w", stalled.ProjectID, err)
	}
	s.Log.WarnContext(ctx, "discovery had stalled", "user", d.UserID, "project", d.ProjectID, "attempt", d.Attempt, "state", d.State)
	if d.State != connect.DiscoveryRunning {
		return nil
	}
	return s.enqueueDue(ctx, discoveryTask{User: d.UserID, Generation: d.Generation, Project: d.ProjectID, Run: d.Run}, d)
}

// settleUsed settles a login that came back from Google.
func (s *Service) settleUsed(ctx context.Context, l *connect.Login) error {
	c, err := s.Store.Connection(ctx, l.UserID)
	if connect.CodeOf(err) == connect.NotFound {
		c, err = &connect.Connection{}, nil
	}
	if err != nil {
		return err
	}
	return s.settle(ctx, l, c, true)
}

// errWaits: a login is not to be settled yet.
var errWaits = errors.New("the login is still worked on")

// settle ends a login: its tokens are the connection's by now, or nobody's. One
// that somebody may still be working on is left as it is.
func (s *Service) settle(ctx context.Context, l *connect.Login, c *connect.Connection, patient bool) error {
	if c.Names(l.Tokens()) {
		return s.Store.DeleteLogin(ctx, l.StateHash)
	}
	return s.giveUpLogin(ctx, l, patient, func(l *connect.Login) bool { return !l.UnderWay(time.Now()) })
}

func always(*connect.Login) bool { return true }

// giveUpLogin gives up what a login holds, if that is still due, and forgets it.
func (s *Service) giveUpLogin(ctx context.Context, l *connect.Login, patient bool, due func(*connect.Login) bool) error {
	// From here on it can neither be used nor confirmed.
	l, err := s.Store.UpdateLogin(ctx, l.StateHash, func(l *connect.Login) error {
		if !due(l) {
			return errWaits
		}
		now := time.Now()
		if l.ConsumedAt.IsZero() {
			l.ConsumedAt = now
		}
		if l.ReleasedAt.IsZero() {
			l.ReleasedAt = now
		}
		return nil
	})
	switch {
	case errors.Is(err, errWaits), connect.CodeOf(err) == connect.NotFound:
		return nil
	case err != nil:
		return fmt.Errorf("settle login: %w", err)
	}
	revocation, err := s.release(ctx, l.Grant(), patient && time.Since(l.ReleasedAt) < revokePatience)
	if err != nil {
		return fmt.Errorf("give up tokens of a login of %s: %w", l.UserID, err)
	}
	if !l.ParkedAt.IsZero() {
		s.Log.InfoContext(ctx, "login was not confirmed and its tokens were given up", "user", l.UserID, "grant", revocation)
	}
	return s.Store.DeleteLogin(ctx, l.StateHash)
}
