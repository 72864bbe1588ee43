package memory

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

var errNoLogin = connect.Errorf(connect.NotFound, "This login is unknown, used or expired.")

// CreateLogin stores a login under its state's hash; Conflict if that is taken.
func (s *Store) CreateLogin(ctx context.Context, l *connect.Login) error {
	if err := alive(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Transactions++
	row := s.logins.open(l.StateHash, nil)
	if row.doc != nil {
		return connect.Errorf(connect.Conflict, "This login exists already.")
	}
	s.forgetLogins(l.CreatedAt)
	row.doc = l.Clone()
	row.save()
	s.counts.Writes++
	return nil
}

// ConsumeLogin returns the login of that state and marks it used.
func (s *Store) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	return s.UpdateLogin(ctx, stateHash, func(l *connect.Login) error {
		if !l.Consume(now) {
			return errNoLogin
		}
		return nil
	})
}

// UpdateLogin runs fn over a login.
func (s *Store) UpdateLogin(ctx context.Context, stateHash string, fn func(l *connect.Login) error) (*connect.Login, error) {
	var l *working[*connect.Login]
	err := s.transact(ctx,
		func() (int, error) {
			if l = s.logins.open(stateHash, nil); l.doc == nil {
				return 1, errNoLogin
			}
			return 1, nil
		},
		func() ([]participant, error) { return []participant{l}, fn(l.doc) })
	if err != nil {
		return nil, err
	}
	return l.doc, nil
}

// UsedLogins returns logins that were used before a time, the oldest first.
func (s *Store) UsedLogins(ctx context.Context, before time.Time, limit int) ([]connect.Login, error) {
	used, err := selected(ctx, s, s.logins.all, limit, func(l *connect.Login) time.Time { return l.ConsumedAt }, before)
	return values(used), err
}

// UserLogins returns logins of a user.
func (s *Store) UserLogins(ctx context.Context, userID string, limit int) ([]connect.Login, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []connect.Login
	for _, r := range s.logins.rows {
		if r.doc.UserID == userID && len(all) < limit {
			all = append(all, *r.doc.Clone())
		}
	}
	s.counts.Reads += int64(cmp.Or(len(all), 1))
	return all, nil
}

// DeleteLogin deletes a login.
func (s *Store) DeleteLogin(ctx context.Context, stateHash string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins.rows, stateHash)
	s.counts.Deletes++
	return nil
}

// Grants returns what is held of a Google account.
func (s *Store) Grants(ctx context.Context, subject string) ([]connect.Grant, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []connect.Grant
	for _, r := range s.connections.rows {
		if r.doc.Subject == subject && r.doc.Holds() {
			held = append(held, r.doc.Grant())
		}
	}
	for _, r := range s.logins.rows {
		if r.doc.Subject == subject && r.doc.Holds() {
			held = append(held, r.doc.Grant())
		}
	}
	s.counts.Reads += int64(len(held))
	return held, nil
}

// StaleConnections returns connections that have had stale tokens since before
// a time, the longest first.
func (s *Store) StaleConnections(ctx context.Context, before time.Time, limit int) ([]connect.Connection, error) {
	stale, err := selected(ctx, s, s.connections.all, limit, func(c *connect.Connection) time.Time { return c.StaleAt }, before)
	return values(stale), err
}

// selected returns copies of at most limit documents that have a time before
// another, the earliest first.
func selected[T cloner[T]](ctx context.Context, s *Store, documents iter.Seq[T], limit int, at func(T) time.Time, before time.Time) ([]T, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []T
	for d := range documents {
		if moment := at(d); !moment.IsZero() && moment.Before(before) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b T) int { return at(a).Compare(at(b)) })
	all = slices.Clone(all[:min(limit, len(all))])
	for i := range all {
		all[i] = all[i].Clone()
	}
	s.counts.Reads += int64(cmp.Or(len(all), 1))
	return all, nil
}

func values[T any](pointers []*T) []T {
	var all []T
	for _, p := range pointers {
		all = append(all, *p)
	}
	return all
}

// forgetLogins does for logins what Firestore's TTL policy does: it removes
// expired ones, about a day later. now is the new login's time and not the
// clock's, because ConsumeLogin judges by its caller's time too.
func (s *Store) forgetLogins(now time.Time) {
	if len(s.logins.rows) < s.sweepLogins {
		return
	}
	s.logins.deleteFunc(func(l *connect.Login) bool { return now.Sub(l.ExpireAt) > 24*time.Hour })
	s.sweepLogins = max(sweepFrom, 2*len(s.logins.rows))
}
