package connecttest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// unknownIDs are IDs of setups that nobody made. They come from URLs, so they
// may be anything; no database's idea of a document's name may show in the
// answer.
var unknownIDs = []string{
	connect.NewID(), "", ".", "..", "/", "a/b", "a/b/c", "__all__", "%2F", " ", "é☁", "\x00", "\xff", strings.Repeat("x", 2000),
}

var setupCases = []storeCase{
	{"a setup that nobody made is NotFound, whatever its ID looks like", func(t *testing.T, s connect.Store) {
		for _, id := range unknownIDs {
			_, err := s.Setup(t.Context(), id)
			wantCode(t, fmt.Sprintf("reading setup %.20q", id), err, connect.NotFound)
			_, _, err = s.UpdateSetup(t.Context(), id, func(*connect.Connection, *connect.Setup) error {
				t.Errorf("the closure ran for setup %.20q", id)
				return nil
			})
			wantCode(t, fmt.Sprintf("updating setup %.20q", id), err, connect.NotFound)
		}
	}},
	{"a setup that has expired is NotFound, also where the database still has it", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		_, _, err := s.UpdateSetup(ctx, id, func(_ *connect.Connection, setup *connect.Setup) error {
			setup.ExpireAt = time.Now().Add(-time.Second)
			return nil
		})
		ok(t, err)
		_, err = s.Setup(ctx, id)
		wantCode(t, "reading an expired setup", err, connect.NotFound)
		_, _, err = s.UpdateSetup(ctx, id, func(*connect.Connection, *connect.Setup) error {
			t.Error("the closure ran for an expired setup")
			return nil
		})
		wantCode(t, "updating an expired setup", err, connect.NotFound)
	}},
	{"setups that stall before a time are listed, the longest first, and others are not", func(t *testing.T, s connect.Store) {
		ctx, long := t.Context(), longAgo()
		var mine []string
		for i := range 4 {
			user := newUser()
			id := begin(t, s, user)
			mine = append(mine, id)
			_, _, err := s.UpdateSetup(ctx, id, func(_ *connect.Connection, setup *connect.Setup) error {
				setup.StallsAt = long.Add(time.Duration(3-i) * time.Microsecond)
				if i == 3 {
					setup.StallsAt = time.Time{} // it has ended
				}
				return nil
			})
			ok(t, err)
		}
		for before, want := range map[time.Duration][]string{1: nil, 2: {mine[2]}, 4: {mine[2], mine[1], mine[0]}} {
			stalled, err := s.StalledSetups(ctx, long.Add(before*time.Microsecond), 1000)
			ok(t, err)
			equal(t, "the stalled", only(mine, stalled, func(setup connect.Setup) string { return setup.ID }), want)
		}
		first, err := s.StalledSetups(ctx, long.Add(4*time.Microsecond), 1)
		ok(t, err)
		if len(first) != 1 {
			t.Errorf("%d setups came for a limit of 1", len(first))
		}
	}},
	{"a setup without an end does not expire", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		id := begin(t, s, user)
		_, _, err := s.UpdateSetup(ctx, id, func(_ *connect.Connection, setup *connect.Setup) error {
			setup.ExpireAt = time.Time{}
			return nil
		})
		ok(t, err)
		want := newSetup(user, id)
		want.ExpireAt = time.Time{}
		wantSetup(t, s, want)
	}},
	{"the closure gets the setup and its user's connection as they are stored", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		connection, setup, err := s.UpdateSetup(t.Context(), id, func(c *connect.Connection, setup *connect.Setup) error {
			equal(t, "the connection in the closure", c, newConnection(user, id))
			equal(t, "the setup in the closure", setup, newSetup(user, id))
			return nil
		})
		ok(t, err)
		equal(t, "the returned connection", connection, newConnection(user, id))
		equal(t, "the returned setup", setup, newSetup(user, id))
	}},
	{"both are written and returned as written", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		wantC, wantS := newConnection(user, id), newSetup(user, id)
		wantC.Email, wantC.Projects = "new@example.com", wantC.Projects[:1]
		wantS.Message, wantS.Projects[1].Errors = "new", nil
		c, setup, err := s.UpdateSetup(t.Context(), id, func(c *connect.Connection, setup *connect.Setup) error {
			c.Email, c.Projects = "new@example.com", c.Projects[:1]
			setup.Message, setup.Projects[1].Errors = "new", nil
			return nil
		})
		ok(t, err)
		equal(t, "the returned connection", c, wantC)
		equal(t, "the returned setup", setup, wantS)
		wantConnection(t, s, wantC)
		wantSetup(t, s, wantS)
	}},
	{"one of the two can be written alone", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		wantC, wantS := newConnection(user, id), newSetup(user, id)
		wantS.Attempt++
		_, _, err := s.UpdateSetup(t.Context(), id, func(_ *connect.Connection, setup *connect.Setup) error {
			setup.Attempt++
			return nil
		})
		ok(t, err)
		wantConnection(t, s, wantC)
		wantSetup(t, s, wantS)
		wantC.Generation++
		_, _, err = s.UpdateSetup(t.Context(), id, func(c *connect.Connection, _ *connect.Setup) error {
			c.Generation++
			return nil
		})
		ok(t, err)
		wantConnection(t, s, wantC)
		wantSetup(t, s, wantS)
	}},
	{"a change deep inside a setup is written", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		want := newSetup(user, id)
		want.Projects[0].Operations[1].APIs[0] = "run"
		_, _, err := s.UpdateSetup(t.Context(), id, func(_ *connect.Connection, setup *connect.Setup) error {
			setup.Projects[0].Operations[1].APIs[0] = "run"
			return nil
		})
		ok(t, err)
		wantSetup(t, s, want)
	}},
	{"a setup of a user without a connection comes with a zero one, which is not written unless changed", func(t *testing.T, s connect.Store) {
		ctx, user, id := t.Context(), newUser(), connect.NewID()
		_, err := s.UpdateConnection(ctx, user, func(*connect.Connection, *connect.Setup) (*connect.Setup, error) {
			return newSetup(user, id), nil
		})
		ok(t, err)
		_, _, err = s.UpdateSetup(ctx, id, func(c *connect.Connection, setup *connect.Setup) error {
			equal(t, "the connection", c, &connect.Connection{UserID: user})
			setup.Attempt++
			return nil
		})
		ok(t, err)
		_, err = s.Connection(ctx, user)
		wantCode(t, "reading a connection that was not written", err, connect.NotFound)
	}},
	{"a setup with as many projects as there may be is stored", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		want := newSetup(user, id)
		fillProjects(want)
		_, _, err := s.UpdateSetup(t.Context(), id, func(_ *connect.Connection, setup *connect.Setup) error {
			fillProjects(setup)
			return nil
		})
		ok(t, err)
		wantSetup(t, s, want)
	}},
	{"a caller may change what it was given and got", func(t *testing.T, s connect.Store) {
		user := newUser()
		id := begin(t, s, user)
		var givenC *connect.Connection
		var givenS *connect.Setup
		c, setup, err := s.UpdateSetup(t.Context(), id, func(c *connect.Connection, setup *connect.Setup) error {
			setup.Attempt++
			c.Generation++
			givenC, givenS = c, setup
			return nil
		})
		ok(t, err)
		scramble(c)
		scramble(setup)
		scramble(givenC)
		scramble(givenS)
		read, err := s.Setup(t.Context(), id)
		ok(t, err)
		scramble(read)
		wantC, wantS := newConnection(user, id), newSetup(user, id)
		wantC.Generation++
		wantS.Attempt++
		wantConnection(t, s, wantC)
		wantSetup(t, s, wantS)
	}},
}

// fillProjects gives s as many projects as a setup may have, each as large as
// a project of a working setup usually is.
func fillProjects(s *connect.Setup) {
	s.Projects, s.Eligible = nil, nil
	for i := range connect.MaxProjects {
		p := connect.Project{
			ID: fmt.Sprintf("customer-workloads-%06d", i), Number: fmt.Sprintf("%012d", i), Name: fmt.Sprintf("Customer workloads %d", i),
			APIs: connect.OutcomeStarted, Access: connect.OutcomeUnchanged, OrgPolicy: connect.OutcomeForbidden,
			Operations: []connect.Operation{{
				Name: fmt.Sprintf("operations/acat.p2-%012d-00000000-0000-0000-0000-000000000000", i),
				APIs: []string{"cloudresourcemanager", "serviceusage"},
			}},
			OperationsAt: firstTime,
			Errors:       []connect.ProjectError{{Step: "update-org-policies", Code: connect.Forbidden, Message: "You may not change this project's organization policy."}},
		}
		s.Projects = append(s.Projects, p)
		s.Eligible = append(s.Eligible, connect.ProjectRef{ID: p.ID, Name: p.Name})
	}
}
