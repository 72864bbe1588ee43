package setup_test

import (
	"context"
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/setup"
)

// parked is a login of a user that came back, and waits to be confirmed.
func (c *chain) parked(userID, subject string) *connect.Login {
	c.t.Helper()
	l, _ := c.park(userID, subject)
	return l
}

func (c *chain) park(userID, subject string) (l *connect.Login, handle string) {
	c.t.Helper()
	l = c.login(userID)
	handle, err := c.service.Park(c.t.Context(), l, c.consented(subject))
	if err != nil {
		c.t.Fatal(err)
	}
	return l, handle
}

// wantGivenUp fails unless the tokens of a login are gone, the grant is revoked
// once, or not at all, and the record is forgotten.
func (c *chain) wantGivenUp(l *connect.Login, revoked int) {
	c.t.Helper()
	if c.vault.held[l.Tokens()] {
		c.t.Error("the tokens are in the Vault")
	}
	if n := len(c.consent.revoked); n != revoked {
		c.t.Errorf("the grant was revoked %d times, want %d", n, revoked)
	}
	if logins, err := c.store.UserLogins(c.t.Context(), l.UserID, 10); err != nil || len(logins) > 0 {
		c.t.Errorf("%d login records are left, %v", len(logins), err)
	}
}

// back are the two ways in which a login comes back: into a connection, and to
// be confirmed.
var back = map[string]func(*chain, *connect.Login, setup.Consent) error{
	"to connect": func(c *chain, l *connect.Login, g setup.Consent) error {
		_, err := c.service.Connect(c.t.Context(), l, g)
		return err
	},
	"to be confirmed": func(c *chain, l *connect.Login, g setup.Consent) error {
		_, err := c.service.Park(c.t.Context(), l, g)
		return err
	},
}

func TestAConsentThatNobodyHasIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		moment  string // at which the process dies
		nth     int
		confirm bool
	}{
		"the process dies before the connection is made": {"before store UpdateConnection", 1, false},
		"the process dies before the login is parked":    {"before store UpdateLogin", 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, _ *connect.Setup) {
				l, come := c.login("user-2"), back["to connect"]
				if tt.confirm {
					come = back["to be confirmed"]
				}
				c.dieAt(tt.moment, tt.nth)
				if err := come(c, l, c.consented("2")); connect.CodeOf(err) != connect.Unavailable || !c.vault.held[l.Tokens()] {
					t.Fatalf("error = %v, and the tokens are kept: %t", err, c.vault.held[l.Tokens()])
				}
				c.restart()
				time.Sleep(connect.LoginLifetime)
				c.sweep(2)
				c.wantGivenUp(l, 1)
			})
		})
	}
}

// Tokens that cannot be stored are in hand, and nobody will have them any more.
func TestAConsentThatCannotBeStoredIsGivenBackAtOnce(t *testing.T) {
	t.Parallel()
	for how, come := range back {
		for _, moment := range []string{"before vault Put", "before store UpdateLogin"} {
			t.Run(how+", "+moment, func(t *testing.T) {
				t.Parallel()
				run(t, 1, func(c *chain, _ *connect.Setup) {
					l := c.login("user-2")
					c.interpose(func(_ context.Context, m connecttest.Moment) error {
						if m.String() == moment {
							return connect.Errorf(connect.Unavailable, "it is away")
						}
						return nil
					})
					if err := come(c, l, c.consented("2")); connect.CodeOf(err) != connect.Unavailable {
						t.Errorf("error = %v", err)
					}
					if n := len(c.consent.revoked); n != 1 {
						t.Errorf("the grant was revoked %d times", n)
					}
					c.between.Store(nil)
					time.Sleep(connect.LoginLifetime + time.Minute)
					c.sweep(1)
					if c.vault.held[l.Tokens()] {
						t.Error("the tokens are in the Vault")
					}
				})
			})
		}
	}
}

// Without its tokens a grant cannot be revoked: while Google is away they are
// kept, but not for ever.
func TestTheSweepWaitsForAGoogleThatIsAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away    time.Duration
		revoked int
	}{
		"an hour":  {time.Hour, 1},
		"two days": {48 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, _ *connect.Setup) {
				l := c.parked("user-2", "2")
				time.Sleep(connect.LoginLifetime + time.Minute)
				c.consent.away = true
				began, kept := time.Now(), time.Duration(0)
				for time.Since(began) < tt.away {
					if err := c.service.Sweep(c.t.Context()); c.vault.held[l.Tokens()] {
						kept = time.Since(began)
						if connect.CodeOf(err) != connect.Unavailable {
							t.Fatalf("error = %v", err)
						}
					}
					time.Sleep(10 * time.Minute)
				}
				if kept < min(tt.away, 24*time.Hour)-20*time.Minute || kept > 24*time.Hour {
					t.Errorf("the tokens were kept for %v", kept)
				}
				c.consent.away = false
				c.sweep(1)
				c.wantGivenUp(l, tt.revoked)
			})
		})
	}
}

// The first confirmation could not make the connection. The second comes when
// the sweep is about to give the login up.
func TestAConfirmationThatIsRepeatedIsNotOvertakenByTheSweep(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, _ *connect.Setup) {
		l, handle := c.park("user-2", "2")
		time.Sleep(time.Minute)
		c.dieAt("before store UpdateConnection", 1)
		if _, err := c.service.Confirm(c.t.Context(), "user-2", handle); connect.CodeOf(err) != connect.Unavailable {
			t.Fatalf("error = %v", err)
		}
		c.restart()
		time.Sleep(connect.LoginLifetime - time.Minute)
		swept := false
		c.store.beforeConnection = func() error {
			if !swept {
				swept = true
				c.sweep(1)
			}
			return nil
		}
		if _, err := c.service.Confirm(c.t.Context(), "user-2", handle); err != nil || !swept {
			t.Fatal(err, swept)
		}
		if connection, err := c.store.Connection(c.t.Context(), "user-2"); err != nil || !connection.Connected || !c.vault.held[l.Tokens()] || len(c.consent.revoked) > 0 {
			t.Errorf("connected %t with its tokens in the Vault %t, revoked %d times, %v", connection.Connected, c.vault.held[l.Tokens()], len(c.consent.revoked), err)
		}
	})
}

// The user disconnects while the code is exchanged.
func TestALoginThatADisconnectHasOvertakenIsGivenBack(t *testing.T) {
	t.Parallel()
	for how, come := range back {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			run(t, 1, func(c *chain, _ *connect.Setup) {
				l := c.login("user-2")
				time.Sleep(time.Second)
				if _, err := c.service.Disconnect(c.t.Context(), "user-2"); err != nil {
					t.Fatal(err)
				}
				if err := come(c, l, c.consented("2")); connect.CodeOf(err) != connect.NotFound {
					t.Errorf("error = %v", err)
				}
				if n := len(c.consent.revoked); n != 1 || c.vault.held[l.Tokens()] {
					t.Errorf("the grant was revoked %d times, and its tokens are kept: %t", n, c.vault.held[l.Tokens()])
				}
				time.Sleep(connect.LoginLifetime + time.Minute)
				c.sweep(1)
				c.wantGivenUp(l, 1)
			})
		})
	}
}

func TestALoginThatIsBegunDuringADisconnectStands(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, _ *connect.Setup) {
		var l *connect.Login
		c.interpose(func(ctx context.Context, m connecttest.Moment) error {
			if m.String() != "before store UserLogins" {
				return nil
			}
			l = connecttest.Login(t, "user-1", "state", "browser", time.Now())
			return c.store.CreateLogin(ctx, l)
		})
		if _, err := c.service.Disconnect(c.t.Context(), "user-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.store.ConsumeLogin(c.t.Context(), l.StateHash, time.Now()); err != nil {
			t.Errorf("the login is %v", err)
		}
	})
}

// The user's Google account has just been connected by another user, whose
// tokens are stored and whose connection is about to be made: Google would
// revoke both.
func TestADisconnectSparesAConnectionThatIsAboutToBeMade(t *testing.T) {
	t.Parallel()
	run(t, 1, func(c *chain, made *connect.Setup) {
		c.finish(made.ID)
		var revocation setup.Revocation
		c.store.beforeConnection = func() (err error) {
			c.store.beforeConnection = nil
			revocation, err = c.service.Disconnect(c.t.Context(), "user-1")
			return err
		}
		if _, err := c.service.Connect(c.t.Context(), c.login("user-2"), c.consented("1")); err != nil {
			t.Fatal(err)
		}
		if revocation != setup.RevocationShared || len(c.consent.revoked) > 0 {
			t.Errorf("the grant is %q, and was revoked %d times", revocation, len(c.consent.revoked))
		}
	})
}
