package connecttest

import (
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
		want := newLogin(state)
		want.ConsumedAt = loginTime
		equal(t, "the login", got, want)
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
		want := newLogin(state)
		want.ConsumedAt = loginTime
		equal(t, "the login", got, want)
		scramble(got)
		_, err = s.ConsumeLogin(ctx, connect.Hash(state), loginTime)
		wantCode(t, "consuming a used login", err, connect.NotFound)
	}},
}
