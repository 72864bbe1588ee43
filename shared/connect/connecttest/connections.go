package connecttest

import (
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// later is an end of life that no test lives to see.
var later = time.Now().Add(connect.SetupLifetime).Truncate(time.Microsecond)

// newConnection returns a connection with every field filled.
func newConnection(userID, setupID string) *connect.Connection {
	c := filled[connect.Connection]("connection")
	c.UserID, c.SetupID = userID, setupID
	return &c
}

// newSetup returns a setup with every field filled that has not expired.
func newSetup(userID, id string) *connect.Setup {
	s := filled[connect.Setup]("setup")
	s.ID, s.UserID, s.ExpireAt = id, userID, later
	return &s
}

// begin stores the user's connection and a setup that it points at, and
// returns the setup's ID.
func begin(t *testing.T, s connect.Store, userID string) string {
	t.Helper()
	id := connect.NewID()
	_, err := s.UpdateConnection(t.Context(), userID, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		*c = *newConnection(userID, id)
		return newSetup(userID, id), nil
	})
	ok(t, err)
	return id
}

// wantConnection checks what is stored.
func wantConnection(t *testing.T, s connect.Store, want *connect.Connection) {
	t.Helper()
	got, err := s.Connection(t.Context(), want.UserID)
	ok(t, err)
	equal(t, "the stored connection", got, want)
}

// wantSetup checks what is stored.
func wantSetup(t *testing.T, s connect.Store, want *connect.Setup) {
	t.Helper()
	got, err := s.Setup(t.Context(), want.ID)
	ok(t, err)
	equal(t, "the stored setup", got, want)
}

var connectionCases = []storeCase{
	{"a user who never had a connection has none: NotFound", func(t *testing.T, s connect.Store) {
		_, err := s.Connection(t.Context(), newUser())
		wantCode(t, "reading a connection that never was", err, connect.NotFound)
	}},
	{"the closure gets a zero connection with the user's ID and no setup for a new user", func(t *testing.T, s connect.Store) {
		user := newUser()
		_, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			equal(t, "a new user's connection", c, &connect.Connection{UserID: user})
			if current != nil {
				t.Errorf("a new user has a current setup: %v", current)
			}
			return nil, nil
		})
		ok(t, err)
	}},
	{"a zero connection that the closure left as it was is returned and not written", func(t *testing.T, s connect.Store) {
		user := newUser()
		got, err := s.UpdateConnection(t.Context(), user, func(*connect.Connection, *connect.Setup) (*connect.Setup, error) { return nil, nil })
		ok(t, err)
		equal(t, "the connection", got, &connect.Connection{UserID: user})
		_, err = s.Connection(t.Context(), user)
		wantCode(t, "reading a connection that was not written", err, connect.NotFound)
	}},
	{"every field of a connection survives, and it is returned as written", func(t *testing.T, s connect.Store) {
		user := newUser()
		got, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			*c = *newConnection(user, "none")
			return nil, nil
		})
		ok(t, err)
		want := newConnection(user, "none")
		equal(t, "the returned connection", got, want)
		wantConnection(t, s, want)
	}},
	{"fields that are emptied are stored empty", func(t *testing.T, s connect.Store) {
		user := newUser()
		begin(t, s, user)
		_, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			*c = connect.Connection{UserID: user, Generation: 7, Version: connect.SchemaVersion}
			return nil, nil
		})
		ok(t, err)
		wantConnection(t, s, &connect.Connection{UserID: user, Generation: 7, Version: connect.SchemaVersion})
	}},
	{"a new setup that the closure returns is created, with every field", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, newSetup(user, id))
	}},
	{"a new setup is written even if the connection stays as it was", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		other := connect.NewID()
		_, err := s.UpdateConnection(t.Context(), user, func(*connect.Connection, *connect.Setup) (*connect.Setup, error) {
			return newSetup(user, other), nil
		})
		ok(t, err)
		wantSetup(t, s, newSetup(user, other))
		wantSetup(t, s, newSetup(user, id))
		wantConnection(t, s, newConnection(user, id))
	}},
	{"the closure gets the setup that the connection points at, and what was stored of both", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		_, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			equal(t, "the connection", c, newConnection(user, id))
			equal(t, "the current setup", current, newSetup(user, id))
			return nil, nil
		})
		ok(t, err)
	}},
	{"what the closure changed of the current setup is written too, whether it returns none, a new one or the same", func(t *testing.T, s connect.Store) {
		for _, returns := range []string{"none", "new", "same"} {
			user := newUser()
			id, other := begin(t, s, user), connect.NewID()
			got, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
				c.Generation++
				current.Message = "canceled"
				switch returns {
				case "new":
					c.SetupID = other
					return newSetup(user, other), nil
				case "same":
					return current, nil
				}
				return nil, nil
			})
			ok(t, err)
			connection, setup := newConnection(user, id), newSetup(user, id)
			connection.Generation++
			setup.Message = "canceled"
			if returns == "new" {
				connection.SetupID = other
				wantSetup(t, s, newSetup(user, other))
			}
			equal(t, "the returned connection", got, connection)
			wantConnection(t, s, connection)
			wantSetup(t, s, setup)
		}
	}},
	{"the current setup is written even if the connection stays as it was", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		_, err := s.UpdateConnection(t.Context(), user, func(_ *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			current.Attempt++
			return nil, nil
		})
		ok(t, err)
		setup := newSetup(user, id)
		setup.Attempt++
		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, setup)
	}},
	{"a new setup under an ID that is taken is a Conflict, and nothing is written", func(t *testing.T, s connect.Store) {
		user, other := newUser(), newUser()
		id, taken := begin(t, s, user), begin(t, s, other)
		_, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			c.Generation++
			current.Attempt++
			return &connect.Setup{ID: taken, UserID: user}, nil
		})
		wantCode(t, "creating a setup that exists", err, connect.Conflict)
		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, newSetup(user, id))
		wantSetup(t, s, newSetup(other, taken))
	}},
	{"the current setup is the one that the connection pointed at before the closure", func(t *testing.T, s connect.Store) {
		user := newUser()
		first := begin(t, s, user)
		second := connect.NewID()
		move := func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			if current == nil || current.ID != first {
				t.Errorf("the current setup is %v, want %s", current, first)
			}
			c.SetupID = second
			return newSetup(user, second), nil
		}
		_, err := s.UpdateConnection(t.Context(), user, move)
		ok(t, err)
		_, err = s.UpdateConnection(t.Context(), user, func(_ *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
			if current == nil || current.ID != second {
				t.Errorf("the current setup is %v, want %s", current, second)
			}
			return nil, nil
		})
		ok(t, err)
		wantSetup(t, s, newSetup(user, first))
	}},
	{"a connection that points at no setup that is there has no current one", func(t *testing.T, s connect.Store) {
		for what, id := range map[string]string{"missing": connect.NewID(), "expired": connect.NewID(), "impossible": "a/b/../c"} {
			user := newUser()
			_, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				c.SetupID = id
				if what != "expired" {
					return nil, nil
				}
				setup := newSetup(user, id)
				setup.ExpireAt = time.Now().Add(-time.Minute)
				return setup, nil
			})
			ok(t, err)
			_, err = s.UpdateConnection(t.Context(), user, func(_ *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
				if current != nil {
					t.Errorf("the closure gets a setup that is %s: %v", what, current)
				}
				return nil, nil
			})
			ok(t, err)
		}
	}},
	{"a caller may change what it gave, was given and got", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := connect.NewID()
		var given *connect.Connection
		var created *connect.Setup
		got, err := s.UpdateConnection(t.Context(), user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
			*c = *newConnection(user, id)
			given, created = c, newSetup(user, id)
			return created, nil
		})
		ok(t, err)
		scramble(got)
		scramble(given)
		scramble(created)
		wantConnection(t, s, newConnection(user, id))
		wantSetup(t, s, newSetup(user, id))

		read, err := s.Connection(t.Context(), user)
		ok(t, err)
		scramble(read)
		wantConnection(t, s, newConnection(user, id))
	}},
}
