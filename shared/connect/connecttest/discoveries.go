package connecttest

import (
	"slices"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// newDiscovery returns a discovery with every field filled.
func newDiscovery(userID, projectID string) *connect.Discovery {
	d := filled[connect.Discovery]("discovery")
	d.UserID, d.ProjectID = userID, projectID
	return &d
}

// saveDiscovery stores d.
func saveDiscovery(t *testing.T, s connect.Store, d *connect.Discovery) {
	t.Helper()
	_, _, err := s.UpdateDiscovery(t.Context(), d.UserID, d.ProjectID, func(_ *connect.Connection, stored *connect.Discovery) error {
		*stored = *d
		return nil
	})
	ok(t, err)
}

// wantDiscoveries checks what is stored.
func wantDiscoveries(t *testing.T, s connect.Store, userID string, want ...connect.Discovery) {
	t.Helper()
	got, err := s.Discoveries(t.Context(), userID)
	ok(t, err)
	equal(t, "the discoveries", got, want)
}

var discoveryCases = []storeCase{
	{"a new user has no discoveries", func(t *testing.T, s connect.Store) {
		wantDiscoveries(t, s, newUser())
	}},
	{"the closure gets a zero discovery with the two IDs, and the connection as it is stored but for its projects", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		_, _, err := s.UpdateDiscovery(t.Context(), user, "project", func(c *connect.Connection, d *connect.Discovery) error {
			want := newConnection(user, id)
			want.Projects = nil
			equal(t, "the connection", c, want)
			equal(t, "a new discovery", d, &connect.Discovery{UserID: user, ProjectID: "project"})
			return nil
		})
		ok(t, err)
	}},
	{"what the closure left as it was is not written, for a new user neither", func(t *testing.T, s connect.Store) {
		user := newUser()
		c, d, err := s.UpdateDiscovery(t.Context(), user, "project", func(*connect.Connection, *connect.Discovery) error { return nil })
		ok(t, err)
		equal(t, "the returned connection", c, &connect.Connection{UserID: user})
		equal(t, "the returned discovery", d, &connect.Discovery{UserID: user, ProjectID: "project"})
		wantDiscoveries(t, s, user)
		_, err = s.Connection(t.Context(), user)
		wantCode(t, "reading a connection that was not written", err, connect.NotFound)
	}},
	{"the connection's projects stay, whatever the closure does to it", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		want := newConnection(user, id)
		for _, change := range []func(*connect.Connection){
			func(*connect.Connection) {},
			func(c *connect.Connection) { c.NeedsReauth = !c.NeedsReauth },
			func(c *connect.Connection) { *c = connect.Connection{UserID: user, SetupID: id, Version: c.Version} },
			func(c *connect.Connection) { c.Projects = []connect.ConnectedProject{{ID: "of nobody"}} },
		} {
			change(want)
			got, _, err := s.UpdateDiscovery(t.Context(), user, "project", func(c *connect.Connection, _ *connect.Discovery) error {
				change(c)
				return nil
			})
			ok(t, err)
			want.Projects = nil
			equal(t, "the returned connection", got, want)
			want.Projects = newConnection(user, id).Projects
			wantConnection(t, s, want)
		}
		stranger := newUser()
		_, _, err := s.UpdateDiscovery(t.Context(), stranger, "project", func(c *connect.Connection, _ *connect.Discovery) error {
			c.Generation, c.Version, c.Projects = 1, connect.SchemaVersion, []connect.ConnectedProject{{ID: "of nobody"}}
			return nil
		})
		ok(t, err)
		wantConnection(t, s, &connect.Connection{UserID: stranger, Generation: 1, Version: connect.SchemaVersion})
	}},
	{"both are written, with every field, and returned as written", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		c, d, err := s.UpdateDiscovery(t.Context(), user, "project", func(c *connect.Connection, d *connect.Discovery) error {
			c.Generation++
			*d = *newDiscovery(user, "project")
			return nil
		})
		ok(t, err)
		connection := newConnection(user, id)
		connection.Generation++
		lean := *connection
		lean.Projects = nil
		equal(t, "the returned connection", c, &lean)
		equal(t, "the returned discovery", d, newDiscovery(user, "project"))
		wantConnection(t, s, connection)
		wantDiscoveries(t, s, user, *newDiscovery(user, "project"))
	}},
	{"there is one discovery per project, ordered by project ID", func(t *testing.T, s connect.Store) {
		user := newUser()
		projects := []string{"gamma", "alpha", "example.com:beta", "alpha-2", "10"}
		for range 2 {
			for _, project := range projects {
				saveDiscovery(t, s, newDiscovery(user, project))
			}
		}
		var want []connect.Discovery
		for _, project := range slices.Sorted(slices.Values(projects)) {
			want = append(want, *newDiscovery(user, project))
		}
		wantDiscoveries(t, s, user, want...)
	}},
	{"discoveries of generations before the given one are deleted, the others stay", func(t *testing.T, s connect.Store) {
		user := newUser()
		for i, project := range []string{"zero", "one", "two", "three"} {
			d := newDiscovery(user, project)
			d.Generation = int64(i)
			saveDiscovery(t, s, d)
		}
		ok(t, s.DeleteDiscoveries(t.Context(), user, 2))
		two, three := newDiscovery(user, "two"), newDiscovery(user, "three")
		two.Generation, three.Generation = 2, 3
		wantDiscoveries(t, s, user, *three, *two)
		ok(t, s.DeleteDiscoveries(t.Context(), user, 2))
		wantDiscoveries(t, s, user, *three, *two)
	}},
	{"a deleted discovery begins again from zero", func(t *testing.T, s connect.Store) {
		user := newUser()
		saveDiscovery(t, s, newDiscovery(user, "project"))
		ok(t, s.DeleteDiscoveries(t.Context(), user, 1<<40))
		_, _, err := s.UpdateDiscovery(t.Context(), user, "project", func(_ *connect.Connection, d *connect.Discovery) error {
			equal(t, "the discovery", d, &connect.Discovery{UserID: user, ProjectID: "project"})
			return nil
		})
		ok(t, err)
	}},
	{"no update of a discovery is lost among writers at the same time", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		write(t, func(_ int, name string) error {
			_, _, err := s.UpdateDiscovery(ctx, user, "project", func(_ *connect.Connection, d *connect.Discovery) error {
				overlap()
				if d.Counts == nil {
					d.Counts = map[string]int{}
				}
				d.Counts[name] = 1
				return nil
			})
			return err
		})
		want := connect.Discovery{UserID: user, ProjectID: "project", Counts: map[string]int{}}
		for _, name := range names() {
			want.Counts[name] = 1
		}
		wantDiscoveries(t, s, user, want)
	}},
	{"a caller may change what it was given and got", func(t *testing.T, s connect.Store) {
		user := newUser()
		var given *connect.Discovery
		_, got, err := s.UpdateDiscovery(t.Context(), user, "project", func(_ *connect.Connection, d *connect.Discovery) error {
			*d = *newDiscovery(user, "project")
			given = d
			return nil
		})
		ok(t, err)
		scramble(got)
		scramble(given)
		wantDiscoveries(t, s, user, *newDiscovery(user, "project"))
		all, err := s.Discoveries(t.Context(), user)
		ok(t, err)
		scramble(&all)
		wantDiscoveries(t, s, user, *newDiscovery(user, "project"))
	}},
	{"discoveries of all users that stall before a time are listed, the longest first", func(t *testing.T, s connect.Store) {
		ctx, long := t.Context(), longAgo()
		var users []string
		for i := range 3 {
			d := newDiscovery(newUser(), "project")
			if d.StallsAt = long.Add(time.Duration(2-i) * time.Microsecond); i == 2 {
				d.StallsAt = time.Time{} // it has ended
			}
			users = append(users, d.UserID)
			saveDiscovery(t, s, d)
		}
		for before, want := range map[time.Duration][]string{1: nil, 2: {users[1]}, 3: {users[1], users[0]}} {
			stalled, err := s.StalledDiscoveries(ctx, long.Add(before*time.Microsecond), 1000)
			ok(t, err)
			equal(t, "the stalled", only(users, stalled, func(d connect.Discovery) string { return d.UserID }), want)
		}
	}},
}
