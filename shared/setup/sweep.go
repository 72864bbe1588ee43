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
// whoever is at it.
const sweepPatience = time.Minute

// Sweep finds what nobody works on any more, and finishes it:
//   - logins whose tokens became no connection: not confirmed in time, or
//     overtaken by the death of a process. They are given up.
//   - tokens of connections that are no more. They are given up.
//
// It may run many times at once: everything it does may be repeated. One
// record's trouble does not keep it from the others; the error joins all.
func (s *Service) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	now := time.Now()
	logins, err := s.Store.UsedLogins(ctx, now.Add(-connect.LoginLifetime), sweepPage)
	faults := []error{wrap(err, "list used logins")}
	err = concurrently(ctx, len(logins), func(ctx context.Context, i int) error {
		l := &logins[i]
		c, err := s.Store.Connection(ctx, l.UserID)
		if connect.CodeOf(err) == connect.NotFound {
			c, err = &connect.Connection{}, nil
		}
		if err != nil {
			return err
		}
		return s.settle(ctx, l, c)
	})
	faults = append(faults, err)
	stale, err := s.Store.StaleConnections(ctx, now.Add(-sweepPatience), sweepPage)
	faults = append(faults, wrap(err, "list stale connections"))
	err = concurrently(ctx, len(stale), func(ctx context.Context, i int) error {
		revocation, err := s.releaseStale(ctx, &stale[i])
		if err == nil {
			s.Log.InfoContext(ctx, "stale tokens were given up", "user", stale[i].UserID, "grant", revocation)
		}
		return wrap(err, "give up stale tokens of %s", stale[i].UserID)
	})
	return errors.Join(append(faults, err)...)
}

// errWaits: a login is not to be settled yet.
var errWaits = errors.New("the login is still worked on")

// settle ends a login: its tokens are the connection's by now, or nobody's. One
// that somebody may still be working on is left as it is.
func (s *Service) settle(ctx context.Context, l *connect.Login, c *connect.Connection) error {
	if !c.Names(l.Tokens()) {
		// From here on it can neither be used nor confirmed.
		l, err := s.Store.UpdateLogin(ctx, l.StateHash, func(l *connect.Login) error {
			now := time.Now()
			if l.UnderWay(now) {
				return errWaits
			}
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
			return fmt.Errorf("settle login of %s: %w", l.UserID, err)
		}
		revocation, err := s.release(ctx, l.Grant())
		if err != nil {
			return fmt.Errorf("give up tokens of a login of %s: %w", l.UserID, err)
		}
		if !l.ParkedAt.IsZero() {
			s.Log.InfoContext(ctx, "login was not confirmed and its tokens were given up", "user", l.UserID, "grant", revocation)
		}
	}
	return s.Store.DeleteLogin(ctx, l.StateHash)
}
