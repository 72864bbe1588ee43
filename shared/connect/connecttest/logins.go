package connecttest

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// newLogin returns a login with every field filled, not used yet, that
// expires at loginExpiry.
func newLogin(state string) *connect.Login {
	l := filled[connect.Login]("login")
	l.StateHash = connect.Hash(state)
	l.ConsumedAt = time.Time{}
	l.ExpireAt = loginExpiry
	return &l
}

// longAgo is a time, long before those of other tests, that no other run has
// used.
func longAgo() time.Time {
	return time.Unix(0, time.Now().UnixNano()/2).Truncate(time.Microsecond)
}

// only returns the names of those records, in their order, that are among mine:
// others' tests have records too.
func only[T any](mine []string, records []T, name func(T) string) []string {
	var found []string
	for _, r := range records {
		if slices.Contains(mine, name(r)) {
			found = append(found, name(r))
		}
	}
	return found
}

// consumed is the login once it is used.
func consumed(l *connect.Login) *connect.Login {
	l.Consume(loginTime)
	return l
}

// loginTime is when the suite's logins are consumed. It is not the clock's
// time: ConsumeLogin judges by the time that its caller gives.
var (
	loginTime   = time.Date(2026, 3, 4, 5, 6, 7, 890123000, time.UTC)
	loginExpiry = loginTime.Add(connect.LoginLifetime)
)

var loginCases = []storeCase{
	{"a login is consumed once, with every field as it was created, and is marked used", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		got, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		ok(t, err)
		equal(t, "the login", got, consumed(newLogin(state)))
	}},
	{"a login that was used is NotFound", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		_, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		ok(t, err)
		for range 2 {
			_, err = s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
			wantCode(t, "consuming a used login", err, connect.NotFound)
		}
	}},
	{"a login that nobody created is NotFound", func(t *testing.T, s connect.Store) {
		_, err := s.ConsumeLogin(t.Context(), connect.Hash(connect.NewID()), loginTime)
		wantCode(t, "consuming an unknown login", err, connect.NotFound)
	}},
	{"a login is not found by its state, only by the hash", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		_, err := s.ConsumeLogin(ctx, state, loginTime)
		wantCode(t, "consuming a login by its state", err, connect.NotFound)
	}},
	{"a login lasts until just before it expires", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		_, err := s.ConsumeLogin(ctx, connect.Hash(state), loginExpiry.Add(-time.Millisecond))
		ok(t, err)
	}},
	{"a login is NotFound from the moment it expires, and stays so", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		for _, late := range []time.Duration{0, time.Millisecond, 365 * 24 * time.Hour} {
			_, err := s.ConsumeLogin(ctx, connect.Hash(state), loginExpiry.Add(late))
			wantCode(t, "consuming a login "+late.String()+" after its end", err, connect.NotFound)
		}
	}},
	{"a login under a state that is taken is a Conflict and changes nothing", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		other := newLogin(state)
		other.UserID = newUser()
		wantCode(t, "creating a login twice", s.CreateLogin(ctx, other), connect.Conflict)
		got, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		ok(t, err)
		if want := newLogin(state).UserID; got.UserID != want {
			t.Errorf("the login is of user %q, want the first one's, %q", got.UserID, want)
		}
	}},
	{"a login that was used cannot be created again", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		_, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		ok(t, err)
		wantCode(t, "creating a used login again", s.CreateLogin(ctx, newLogin(state)), connect.Conflict)
	}},
	{"of 32 consumers at the same time exactly one gets the login", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		var won atomic.Int32
		together(32, func(int) {
			err := insist(ctx, func() error {
				_, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
				return err
			})
			if err == nil {
				won.Add(1)
				return
			}
			wantCode(t, "losing the race for a login", err, connect.NotFound)
		})
		if n := won.Load(); n != 1 {
			t.Errorf("%d consumers got the login, want 1", n)
		}
	}},
	{"a caller may change a login that it has created or consumed", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		l := newLogin(state)
		ok(t, s.CreateLogin(ctx, l))
		scramble(l)
		got, err := s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		ok(t, err)
		equal(t, "the login", got, consumed(newLogin(state)))
		scramble(got)
		_, err = s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		wantCode(t, "consuming a used login", err, connect.NotFound)
	}},
	{"an update of a login holds, with every field; what the closure refuses does not; and of none it is NotFound", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		update := func(fn func(l *connect.Login) error) (*connect.Login, error) {
			return s.UpdateLogin(ctx, connect.Hash(state), fn)
		}
		_, err := update(func(*connect.Login) error { return nil })
		wantCode(t, "updating a login that is not there", err, connect.NotFound)
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		want := newLogin(state)
		want.ConfirmHash, want.ParkedAt, want.Scopes = "other", loginTime, []string{"a"}
		got, err := update(func(l *connect.Login) error {
			equal(t, "the login", l, newLogin(state))
			l.ConfirmHash, l.ParkedAt, l.Scopes = "other", loginTime, []string{"a"}
			return nil
		})
		ok(t, err)
		equal(t, "the returned login", got, want)
		mine := connect.Errorf(connect.Precondition, "Mine.")
		_, err = update(func(l *connect.Login) error { l.ConfirmHash = "no"; return mine })
		wantError(t, "UpdateLogin", err, mine)
		got, err = update(func(*connect.Login) error { return nil })
		ok(t, err)
		equal(t, "the stored login", got, want)
	}},
	{"updates of one login at the same time are all in it", func(t *testing.T, s connect.Store) {
		ctx, state := t.Context(), connect.NewID()
		ok(t, s.CreateLogin(ctx, newLogin(state)))
		together(3, func(i int) {
			name := names()[i]
			ok(t, insist(ctx, func() error {
				_, err := s.UpdateLogin(ctx, connect.Hash(state), func(l *connect.Login) error {
					overlap()
					once(&l.Scopes, name)
					return nil
				})
				return err
			}))
		})
		l, err := s.UpdateLogin(ctx, connect.Hash(state), func(*connect.Login) error { return nil })
		ok(t, err)
		if len(l.Scopes) != len(newLogin(state).Scopes)+3 {
			t.Errorf("the login has %v", l.Scopes)
		}
	}},
	{"logins that were used before a time are listed, the oldest first, and a deleted one is gone", func(t *testing.T, s connect.Store) {
		ctx := t.Context()
		user := newUser()
		long := longAgo()
		var hashes []string
		for i := range 4 {
			l := newLogin(connect.NewID())
			l.UserID, l.ExpireAt = user, long.Add(time.Hour)
			ok(t, s.CreateLogin(ctx, l))
			hashes = append(hashes, l.StateHash)
			if i < 3 { // the last is not used
				_, err := s.ConsumeLogin(ctx, l.StateHash, long.Add(time.Duration(3-i)*time.Microsecond))
				ok(t, err)
			}
		}
		listed := func(before time.Time) []string {
			logins, err := s.UsedLogins(ctx, before, 1000)
			ok(t, err)
			var mine []string
			for _, l := range logins {
				if l.UserID == user {
					mine = append(mine, l.StateHash)
				}
			}
			return mine
		}
		equal(t, "those used before the third", listed(long.Add(3*time.Microsecond)), []string{hashes[2], hashes[1]})
		equal(t, "all that were used", listed(long.Add(time.Second)), []string{hashes[2], hashes[1], hashes[0]})
		one, err := s.UsedLogins(ctx, long.Add(time.Second), 1)
		ok(t, err)
		if len(one) != 1 {
			t.Errorf("%d logins came for a limit of 1", len(one))
		}
		for range 2 {
			ok(t, s.DeleteLogin(ctx, hashes[1]))
		}
		equal(t, "those that are left", listed(long.Add(time.Second)), []string{hashes[2], hashes[0]})
		_, err = s.UpdateLogin(ctx, hashes[1], func(*connect.Login) error { return nil })
		wantCode(t, "updating a deleted login", err, connect.NotFound)
	}},
	{"a user's logins are listed, used or not, and nobody else's", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), connect.NewID()
		var want []string
		for i := range 3 {
			l := newLogin(connect.NewID())
			l.UserID = user
			ok(t, s.CreateLogin(ctx, l))
			want = append(want, l.StateHash)
			if i == 0 {
				_, err := s.ConsumeLogin(ctx, l.StateHash, loginTime)
				ok(t, err)
			}
		}
		other := newLogin(connect.NewID())
		other.UserID = connect.NewID()
		ok(t, s.CreateLogin(ctx, other))
		logins, err := s.UserLogins(ctx, user, 1000)
		ok(t, err)
		var got []string
		for _, l := range logins {
			got = append(got, l.StateHash)
		}
		slices.Sort(got)
		slices.Sort(want)
		equal(t, "the user's logins", got, want)
		two, err := s.UserLogins(ctx, user, 2)
		ok(t, err)
		none, err := s.UserLogins(ctx, connect.NewID(), 1000)
		ok(t, err)
		if len(two) != 2 || len(none) != 0 {
			t.Errorf("%d logins came for a limit of 2, and %d of a user who has none", len(two), len(none))
		}
	}},
	{"the grants of a Google account are those that connections hold and logins that may become some, and no other", func(t *testing.T, s connect.Store) {
		ctx, subject := t.Context(), connect.NewID()
		waiting := newLogin(connect.NewID())
		waiting.Subject, waiting.ReleasedAt, waiting.ParkedAt = subject, time.Time{}, time.Time{} // it came back a moment ago
		ok(t, s.CreateLogin(ctx, waiting))
		for _, change := range []func(l *connect.Login){
			func(l *connect.Login) { l.Subject = "other" },
			func(l *connect.Login) { l.ReleasedAt = loginTime },
		} {
			l := newLogin(connect.NewID())
			l.Subject, l.ReleasedAt = subject, time.Time{}
			change(l)
			ok(t, s.CreateLogin(ctx, l))
		}
		for _, tokens := range []connect.TokenRef{"", "held"} {
			_, err := s.UpdateConnection(ctx, newUser(), func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				c.Subject, c.Tokens = subject, tokens
				return nil, nil
			})
			ok(t, err)
		}
		held, err := s.Grants(ctx, subject)
		ok(t, err)
		slices.SortFunc(held, func(a, b connect.Grant) int { return strings.Compare(string(a.Tokens), string(b.Tokens)) })
		equal(t, "the grants", held, []connect.Grant{{Tokens: "held", Subject: subject}, waiting.Grant()})
	}},
	{"connections with stale tokens are listed, the longest first", func(t *testing.T, s connect.Store) {
		ctx := t.Context()
		long := longAgo()
		var users []string
		for i := range 3 {
			user := newUser()
			users = append(users, user)
			_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				c.Generation = 1
				if i < 2 {
					c.Stale, c.StaleAt = []connect.Grant{{Tokens: "t", Subject: "s"}}, long.Add(time.Duration(2-i)*time.Microsecond)
				}
				return nil, nil
			})
			ok(t, err)
		}
		for before, want := range map[time.Duration][]string{2: {users[1]}, 3: {users[1], users[0]}} {
			stale, err := s.StaleConnections(ctx, long.Add(before*time.Microsecond), 1000)
			ok(t, err)
			equal(t, "the stale", only(users, stale, func(c connect.Connection) string { return c.UserID }), want)
		}
	}},
}
