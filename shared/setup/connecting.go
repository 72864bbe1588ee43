package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gcpconnect/shared/connect"
)

// Consent is what a user's consent at Google came to.
type Consent struct {
	Token   connect.Token
	Email   string // verified
	Subject string // verified
	Name    string
}

// connectTimeout bounds what follows a consent: four short operations.
const connectTimeout = 20 * time.Second

// Connect stores the tokens of a consent, makes the connection and starts its
// first setup. A connection that stands is replaced, and its setup ends.
func (s *Service) Connect(ctx context.Context, l *connect.Login, g Consent) (*connect.Setup, error) {
	// A browser that leaves now must not leave tokens that nobody refers to. If
	// the process dies, the used login names them, and the sweep finds them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	if err := s.keep(ctx, l, g); err != nil {
		return nil, err
	}
	made, err := s.establish(ctx, l, g, connect.NewID())
	if made == nil && connect.CodeOf(err) != connect.Unavailable {
		// Where the store did not answer, the connection may have been made, and
		// the tokens stay. Otherwise nothing refers to them.
		err = errors.Join(err, s.giveUpLogin(ctx, l, false, always))
	}
	return made, err
}

// keep stores the tokens of a consent, and before that whose they are: from
// then on a disconnect of another user with the same Google account knows of
// them, and the sweep can give them back. Where one of it fails, the consent is
// given back with the tokens in hand: nobody will have them any more.
func (s *Service) keep(ctx context.Context, l *connect.Login, g Consent) error {
	_, err := s.Store.UpdateLogin(ctx, l.StateHash, func(l *connect.Login) error {
		l.Email, l.Subject, l.Name, l.Scopes = g.Email, g.Subject, g.Name, g.Token.Scopes
		return nil
	})
	if err == nil {
		_, err = s.Tokens.vault.Put(ctx, l.Tokens(), g.Token, 0)
	}
	if err != nil {
		_, _ = s.revoke(ctx, connect.Grant{Tokens: l.Tokens(), Subject: g.Subject}, g.Token) // it logs what it could not do
		return fmt.Errorf("store tokens: %w", err)
	}
	return nil
}

// Park stores the tokens of a consent and makes nothing of them until the user
// who began the login confirms it. The returned handle is for the browser that
// came back from Google alone: an attacker who began the login elsewhere and had
// another person consent does not learn it.
func (s *Service) Park(ctx context.Context, l *connect.Login, g Consent) (handle string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	switch c, err := s.Store.Connection(ctx, l.UserID); {
	case err == nil && l.CreatedAt.Before(c.LeftAt):
		_, _ = s.revoke(ctx, connect.Grant{Tokens: l.Tokens(), Subject: g.Subject}, g.Token) // it logs what it could not do
		return "", errLeft
	case err != nil && connect.CodeOf(err) != connect.NotFound:
		return "", fmt.Errorf("read connection: %w", err)
	}
	if err := s.keep(ctx, l, g); err != nil {
		return "", err
	}
	handle = l.Handle()
	_, err = s.Store.UpdateLogin(ctx, l.StateHash, func(l *connect.Login) error {
		l.ConfirmHash, l.ParkedAt = connect.Hash(handle), time.Now()
		return nil
	})
	if err != nil { // the sweep finds the tokens
		return "", fmt.Errorf("park login: %w", err)
	}
	return handle, nil
}

// Confirm makes the connection of a login that waits for it, and starts its
// first setup, whose ID is the handle. It may be repeated: what was confirmed
// stays so. A login of another user, of another browser, or one that has waited
// too long is NotFound.
func (s *Service) Confirm(ctx context.Context, userID, handle string) (*connect.Setup, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	key, ok := connect.ParseHandle(handle)
	if !ok {
		return nil, errNoLogin
	}
	made, err := s.confirmed(ctx, userID, handle)
	if connect.CodeOf(err) != connect.NotFound {
		return made, err
	}
	l, err := s.Store.UpdateLogin(ctx, key, func(l *connect.Login) error {
		now := time.Now()
		if l.UserID != userID || !l.Confirms(handle, now) {
			return errNoLogin
		}
		l.ConfirmedAt = now // also when it is repeated: from here on nobody gives the login up
		return nil
	})
	if connect.CodeOf(err) == connect.NotFound {
		return s.confirmed(ctx, userID, handle) // at this moment, or never
	}
	if err != nil {
		return nil, fmt.Errorf("confirm login: %w", err)
	}
	consent := Consent{Token: connect.Token{Scopes: l.Scopes}, Email: l.Email, Subject: l.Subject, Name: l.Name}
	made, err = s.establish(ctx, l, consent, handle)
	switch {
	case connect.CodeOf(err) == connect.Conflict: // confirmed twice at once, and replaced since
		return s.confirmed(ctx, userID, handle)
	case errors.Is(err, errLeft):
		err = errors.Join(err, s.giveUpLogin(ctx, l, false, always))
	}
	return made, err
}

// errLeft: the user has disconnected since the login was begun.
var errLeft = connect.Errorf(connect.NotFound, "Google Cloud was disconnected after this login had begun. Connect again.")

var errNoLogin = connect.Errorf(connect.NotFound, "This login is unknown or has expired. Connect again.")

// confirmed returns the setup of a login that was confirmed.
func (s *Service) confirmed(ctx context.Context, userID, handle string) (*connect.Setup, error) {
	made, err := s.Store.Setup(ctx, handle)
	switch {
	case connect.CodeOf(err) == connect.NotFound, err == nil && made.UserID != userID:
		return nil, errNoLogin
	case err == nil && made.State == connect.StatePending:
		s.start(ctx, made) // its first task may never have been enqueued
	}
	return made, err
}

// establish makes the connection of a login whose tokens are in the Vault, and
// its first setup under that ID.
func (s *Service) establish(ctx context.Context, l *connect.Login, g Consent, id string) (*connect.Setup, error) {
	var made, over *connect.Setup
	var other bool // the connection was another Google account's
	c, err := s.Store.UpdateConnection(ctx, l.UserID, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		now := time.Now()
		over = nil
		if c.SetupID == id { // this ran before
			made = current
			return nil, nil
		}
		if l.CreatedAt.Before(c.LeftAt) {
			return nil, errLeft
		}
		over = c.Cancel(current, CodeReconnected, "Google Cloud was connected anew.", now)
		other = c.Subject != g.Subject
		c.Discard(now)
		next := &connect.Connection{
			UserID: c.UserID, Generation: c.Generation + 1, Connected: true,
			Email: g.Email, Subject: g.Subject, Name: g.Name, Scopes: g.Token.Scopes, Tokens: l.Tokens(),
			PreferredRoot: c.PreferredRoot, ConnectedAt: now, UpdatedAt: now, Version: connect.SchemaVersion,
			Stale: c.Stale, StaleAt: c.StaleAt, LeftAt: c.LeftAt, BusyUntil: c.BusyUntil,
		}
		if !other { // the same Google account: what was set up for it still stands
			next.Accounts, next.Projects = c.Accounts, c.Projects
		}
		*c = *next
		made = newSetup(c, id, connect.KindSetup, now)
		return made, nil
	})
	if s.stands(ctx, made, err) {
		c, err = s.Store.Connection(ctx, l.UserID)
	}
	if err != nil {
		return nil, fmt.Errorf("make connection: %w", err)
	}
	if made == nil {
		return nil, connect.Errorf(connect.NotFound, "This setup was deleted.")
	}
	s.Measures.ended(ctx, over)
	s.start(ctx, made)
	if err := s.Store.DeleteLogin(ctx, l.StateHash); err != nil {
		s.Log.WarnContext(ctx, "login record stays for now", "error", err)
	}
	if _, err := s.releaseStale(ctx, c); err != nil {
		s.Log.WarnContext(ctx, "tokens of replaced connections stay for now", "error", err)
	}
	if other {
		if err := s.forgetResources(ctx, c); err != nil {
			s.Log.WarnContext(ctx, "resources of the replaced connection stay for now", "error", err)
		}
	}
	return made, nil
}
