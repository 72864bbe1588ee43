package connecttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// Writers and rounds of the tests for lost updates: 20 updates of the same
// two documents, all at once, each of which lets the others in between its
// read and its write. That loses some where transactions are none. More would
// make the suite slow without telling more: Firestore sustains about one write
// a second to a document, its emulator holds locks for seconds under
// contention, and both make losers wait before they retry.
const (
	writers = 5
	rounds  = 4
)

// overlap gives other writers time to come between a read and its write.
func overlap() { time.Sleep(2 * time.Millisecond) }

// write makes all updates, each under a name of its own, until none answers
// Unavailable.
func write(t *testing.T, update func(writer int, name string) error) {
	t.Helper()
	together(writers, func(writer int) {
		for round := range rounds {
			name := names()[writer*rounds+round]
			if err := insist(t.Context(), func() error { return update(writer, name) }); err != nil {
				t.Errorf("update %s: %v", name, err)
			}
		}
	})
}

// names are those of all updates, in order.
func names() []string {
	var all []string
	for i := range writers * rounds {
		all = append(all, fmt.Sprintf("update-%02d", i))
	}
	return all
}

// once adds a name to a sorted list unless it is there. An update that was
// answered with Unavailable may have taken effect and is made again: it is no
// lost one that is counted twice.
func once(list *[]string, name string) {
	if at, found := slices.BinarySearch(*list, name); !found {
		*list = slices.Insert(*list, at, name)
	}
}

var transactionCases = []storeCase{
	{"an error of the closure is returned as it is, and nothing is written", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		stop := errors.New("stop")
		coded := connect.Errorf(connect.Precondition, "Not now.").Because(stop)

		_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			c.Generation++
			current.Attempt++
			return nil, stop
		})
		wantError(t, "UpdateConnection", err, stop)
		_, _, err = s.UpdateSetup(ctx, id, func(c *connect.Connection, setup *connect.Setup) error {
			c.Generation++
			setup.Attempt++
			return coded
		})
		wantError(t, "UpdateSetup", err, stop)
		wantError(t, "UpdateSetup", err, coded)
		wantCode(t, "UpdateSetup", err, connect.Precondition)
		_, _, err = s.UpdateDiscovery(ctx, user, "project", func(c *connect.Connection, d *connect.Discovery) error {
			c.Generation++
			d.Attempt++
			return stop
		})
		wantError(t, "UpdateDiscovery", err, stop)

		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, newSetup(user, id))
		discoveries, err := s.Discoveries(ctx, user)
		ok(t, err)
		equal(t, "the discoveries", discoveries, []connect.Discovery{})
	}},
	{"an error of the closure creates nothing for a new user", func(t *testing.T, s connect.Store) {
		ctx, user, id := t.Context(), newUser(), connect.NewID()
		stop := errors.New("stop")
		_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			c.Generation++
			return newSetup(user, id), stop
		})
		wantError(t, "UpdateConnection", err, stop)
		_, err = s.Connection(ctx, user)
		wantCode(t, "reading the connection", err, connect.NotFound)
		_, err = s.Setup(ctx, id)
		wantCode(t, "reading the setup", err, connect.NotFound)
	}},
	{"an error of the closure that looks like the store's own is returned too, and does not make it run again for ever", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		for _, code := range []connect.Code{connect.Unavailable, connect.Conflict, connect.NotFound} {
			mine := connect.Errorf(code, "Mine.")
			_, _, err := s.UpdateSetup(ctx, id, func(*connect.Connection, *connect.Setup) error { return mine })
			wantError(t, "UpdateSetup", err, mine)
		}
	}},
	{"a call whose context has ended fails and writes nothing", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			c.Generation++
			return nil, nil
		}); err == nil {
			t.Error("UpdateConnection succeeded")
		}
		if _, _, err := s.UpdateSetup(ctx, id, func(_ *connect.Connection, setup *connect.Setup) error {
			setup.Attempt++
			return nil
		}); err == nil {
			t.Error("UpdateSetup succeeded")
		}
		if err := s.SaveChanges(ctx, user, []connect.Change{newChange(user, "change")}); err == nil {
			t.Error("SaveChanges succeeded")
		}
		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, newSetup(user, id))
		page, _, err := s.Changes(t.Context(), user, connect.ChangeQuery{})
		ok(t, err)
		equal(t, "the ledger", page, []connect.Change{})
	}},
	{"no update of a connection is lost among writers at the same time", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		write(t, func(_ int, name string) error {
			_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				overlap()
				once(&c.Scopes, name)
				c.Version = connect.SchemaVersion
				return nil, nil
			})
			return err
		})
		wantConnection(t, s, &connect.Connection{UserID: user, Scopes: names(), Version: connect.SchemaVersion})
	}},
	{"no update of a setup and its connection is lost, whichever method makes it", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		write(t, func(writer int, name string) error {
			if writer%2 == 0 {
				_, _, err := s.UpdateSetup(ctx, id, func(c *connect.Connection, setup *connect.Setup) error {
					overlap()
					once(&c.Scopes, name)
					once(&setup.Selected, name)
					return nil
				})
				return err
			}
			_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
				overlap()
				once(&c.Scopes, name)
				once(&current.Selected, name)
				return nil, nil
			})
			return err
		})
		wantC, wantS := newConnection(user, id), newSetup(user, id)
		for _, name := range names() {
			once(&wantC.Scopes, name)
			once(&wantS.Selected, name)
		}
		wantConnection(t, s, wantC)
		wantSetup(t, s, wantS)
	}},
	{"a decision about one document holds until the other is written", func(t *testing.T, s connect.Store) {
		// A commit raises the setup's attempt if the connection is up. In the
		// middle of it the connection is taken down and notes the attempt that
		// it saw. Either may come first, but an attempt more than was noted is
		// a commit after the disconnect. A store that locks what it read makes
		// the disconnect wait for the commit: so the commit must not wait for
		// it longer than this.
		const wait = 300 * time.Millisecond
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		disconnected := make(chan error, 1)
		var once sync.Once
		err := insist(ctx, func() error {
			_, _, err := s.UpdateSetup(ctx, id, func(c *connect.Connection, setup *connect.Setup) error {
				once.Do(func() {
					done := make(chan struct{})
					go func() {
						defer close(done)
						disconnected <- insist(ctx, func() error {
							_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
								c.Connected, c.Generation = false, int64(current.Attempt)
								return nil, nil
							})
							return err
						})
					}()
					select {
					case <-done:
					case <-time.After(wait):
					}
				})
				if c.Connected {
					setup.Attempt++
				}
				return nil
			})
			return err
		})
		ok(t, err)
		ok(t, <-disconnected)
		c, err := s.Connection(ctx, user)
		ok(t, err)
		setup, err := s.Setup(ctx, id)
		ok(t, err)
		if int64(setup.Attempt) != c.Generation {
			t.Errorf("the setup went on to attempt %d after the disconnect at %d", setup.Attempt, c.Generation)
		}
	}},
}

// wantError checks that an error came back as it was.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s returned %v, want the closure's %v", what, err, want)
	}
}
