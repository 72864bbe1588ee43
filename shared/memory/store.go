package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"gcpconnect/shared/connect"
)

// Store is a connect.Store in memory. Its transactions are optimistic: a
// closure runs outside the lock, over copies, and runs again when another
// transaction has written what it read. So closures may block, may use the
// store, and do run more than once under contention, as in Firestore.
type Store struct {
	mu          sync.Mutex
	counts      Counts
	logins      table[*connect.Login] // by state hash
	connections table[*connect.Connection]
	setups      table[*connect.Setup]
	users       map[string]*user

	sweepLogins, sweepSetups int // sizes at which expired documents are looked for
}

var _ connect.Store = (*Store)(nil)

// user is what a user has besides a connection.
type user struct {
	ledger      shelf[connect.Change]
	inventory   inventory
	discoveries table[*connect.Discovery] // by project ID
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		users: map[string]*user{}, sweepLogins: sweepFrom, sweepSetups: sweepFrom,
	}
}

// Counts returns what the store has done so far.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// user returns the user's things; s.mu is held.
func (s *Store) user(id string) *user {
	u := s.users[id]
	if u == nil {
		u = &user{ledger: shelf[connect.Change]{compare: newestFirst}}
		s.users[id] = u
	}
	return u
}

// Connection returns the user's connection.
func (s *Store) Connection(ctx context.Context, userID string) (*connect.Connection, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Reads++
	c, found := s.connections.get(userID)
	if !found {
		return nil, connect.Errorf(connect.NotFound, "This user has no connection to Google Cloud.")
	}
	return c, nil
}

// UpdateConnection runs fn over the user's connection and its current setup.
func (s *Store) UpdateConnection(ctx context.Context, userID string, fn func(c *connect.Connection, current *connect.Setup) (made *connect.Setup, err error)) (*connect.Connection, error) {
	var c *working[*connect.Connection]
	var current *working[*connect.Setup] // nil: the connection points at none
	err := s.transact(ctx,
		func() (int, error) {
			c = s.connections.open(userID, &connect.Connection{UserID: userID})
			if current = s.openSetup(c.doc.SetupID); current == nil {
				return 1, nil
			}
			return 2, nil
		},
		func() ([]participant, error) {
			documents := []participant{c}
			var given *connect.Setup
			if current != nil {
				documents, given = append(documents, current), current.doc
			}
			made, err := fn(c.doc, given)
			if err != nil || made == nil || made == given {
				return documents, err
			}
			setup, err := s.create(made)
			return append(documents, setup), err
		})
	if err != nil {
		return nil, err
	}
	return c.doc, nil
}

// Setup returns a setup by its ID.
func (s *Store) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Reads++
	setup := s.openSetup(id)
	if setup == nil {
		return nil, errNoSetup
	}
	return setup.doc, nil
}

var errNoSetup = connect.Errorf(connect.NotFound, "There is no such setup.")

// openSetup begins work on a setup; nil if it is not there or has expired.
// s.mu is held.
func (s *Store) openSetup(id string) *working[*connect.Setup] {
	setup := s.setups.open(id, nil)
	if setup.doc == nil || setupExpired(setup.doc, time.Now()) {
		return nil
	}
	return setup
}

// create begins work on a new setup; Conflict if there is one of that ID.
func (s *Store) create(made *connect.Setup) (*working[*connect.Setup], error) {
	if made.ID == "" {
		return nil, connect.Errorf(connect.Internal, "A setup without an ID cannot be stored.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	setup := s.setups.open(made.ID, nil)
	if setup.doc != nil {
		return nil, connect.Errorf(connect.Conflict, "This setup exists already.")
	}
	setup.doc = made
	return setup, nil
}

func setupExpired(s *connect.Setup, now time.Time) bool {
	return !s.ExpireAt.IsZero() && !now.Before(s.ExpireAt)
}

// UpdateSetup runs fn over a setup and its user's connection.
func (s *Store) UpdateSetup(ctx context.Context, id string, fn func(c *connect.Connection, s *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	var c *working[*connect.Connection]
	var setup *working[*connect.Setup]
	err := s.transact(ctx,
		func() (int, error) {
			if setup = s.openSetup(id); setup == nil {
				return 1, errNoSetup
			}
			c = s.connections.open(setup.doc.UserID, &connect.Connection{UserID: setup.doc.UserID})
			return 2, nil
		},
		func() ([]participant, error) {
			return []participant{c, setup}, fn(c.doc, setup.doc)
		})
	if err != nil {
		return nil, nil, err
	}
	return c.doc, setup.doc, nil
}

// StalledSetups returns setups that stall before a time, the longest first.
func (s *Store) StalledSetups(ctx context.Context, before time.Time, limit int) ([]connect.Setup, error) {
	stalled, err := selected(ctx, s, s.setups.all, limit, func(setup *connect.Setup) time.Time { return setup.StallsAt }, before)
	return values(stalled), err
}

// StalledDiscoveries returns discoveries that stall before a time, the longest
// first.
func (s *Store) StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]connect.Discovery, error) {
	every := func(yield func(*connect.Discovery) bool) {
		for _, u := range s.users {
			for d := range u.discoveries.all {
				if !yield(d) {
					return
				}
			}
		}
	}
	stalled, err := selected(ctx, s, every, limit, func(d *connect.Discovery) time.Time { return d.StallsAt }, before)
	return values(stalled), err
}

// Discoveries returns the user's discoveries, ordered by project ID.
func (s *Store) Discoveries(ctx context.Context, userID string) ([]connect.Discovery, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	table := &s.user(userID).discoveries
	var all []connect.Discovery
	for _, project := range slices.Sorted(table.keys()) {
		d, _ := table.get(project)
		all = append(all, *d)
	}
	s.counts.Reads += int64(len(all))
	return all, nil
}

// openLean begins work on the user's connection without its projects, which stay
// as they are. s.mu is held.
func (s *Store) openLean(userID string) *working[*connect.Connection] {
	stored, found := s.connections.rows[userID]
	if !found {
		return s.connections.open(userID, &connect.Connection{UserID: userID})
	}
	lean := *stored.doc
	lean.Projects = nil
	return &working[*connect.Connection]{
		table: &s.connections, key: userID, revision: stored.revision, before: &lean, doc: lean.Clone(),
		whole: func(c *connect.Connection) *connect.Connection {
			c.Projects = stored.doc.Projects // of a row: nobody changes them in place
			return c
		},
	}
}

// UpdateDiscovery runs fn over the user's connection, without its projects, and a
// project's discovery.
func (s *Store) UpdateDiscovery(ctx context.Context, userID, projectID string, fn func(c *connect.Connection, d *connect.Discovery) error) (*connect.Connection, *connect.Discovery, error) {
	var c *working[*connect.Connection]
	var d *working[*connect.Discovery]
	err := s.transact(ctx,
		func() (int, error) {
			c = s.openLean(userID)
			d = s.user(userID).discoveries.open(projectID, &connect.Discovery{UserID: userID, ProjectID: projectID})
			return 2, nil
		},
		func() ([]participant, error) {
			err := fn(c.doc, d.doc)
			c.doc.Projects = nil // they are not for fn to change
			return []participant{c, d}, err
		})
	if err != nil {
		return nil, nil, err
	}
	return c.doc, d.doc, nil
}

// DeleteDiscoveries deletes the user's discoveries of older generations.
func (s *Store) DeleteDiscoveries(ctx context.Context, userID string, before int64) error {
	if err := alive(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	deleted := s.user(userID).discoveries.deleteFunc(func(d *connect.Discovery) bool { return d.Generation < before })
	s.counts.Deletes += int64(deleted)
	return nil
}

// sweepFrom is how many logins or setups there are before expired ones are
// removed; from there on whenever their number has doubled, so that the cost
// of it is constant per document.
const sweepFrom = 1024

// forgetSetups does for setups what Firestore's TTL policy does.
func (s *Store) forgetSetups(now time.Time) {
	if len(s.setups.rows) < s.sweepSetups {
		return
	}
	s.setups.deleteFunc(func(setup *connect.Setup) bool { return setupExpired(setup, now) })
	s.sweepSetups = max(sweepFrom, 2*len(s.setups.rows))
}
