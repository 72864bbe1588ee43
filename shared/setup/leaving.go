package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

// Revocation is the outcome of revoking a grant at Google.
type Revocation string

// What can become of a grant at Google.
const (
	// RevocationNone: there was none to revoke any more.
	RevocationNone Revocation = ""
	// RevocationDone: Google has revoked it.
	RevocationDone Revocation = "revoked"
	// RevocationShared: it stands, because another connection of the same Google
	// account would have died with it.
	RevocationShared Revocation = "shared"
	// RevocationUnknown: Google could not be asked, or did not say.
	RevocationUnknown Revocation = "unknown"
)

// revokeTimeout bounds the call to Google: giving up does not wait for it
// longer.
const revokeTimeout = 5 * time.Second

// revokePatience is for how long tokens that nobody waits to be rid of are kept
// while Google does not answer: without them the grant could not be revoked any
// more.
const revokePatience = 24 * time.Hour

// release gives a grant up: it revokes it at Google, where that harms no other
// connection, and deletes every version of its tokens from the Vault. It may be
// repeated. That Google did not answer holds nothing up, unless the caller is
// patient: tokens that are deleted can be used by nobody.
func (p *Parts) release(ctx context.Context, g connect.Grant, patient bool) (Revocation, error) {
	t, _, err := p.Tokens.vault.Get(ctx, g.Tokens)
	if connect.CodeOf(err) == connect.Unavailable {
		return RevocationNone, fmt.Errorf("read tokens: %w", err)
	}
	result := RevocationNone
	switch {
	case err == nil:
		if result, err = p.revoke(ctx, g, t); err != nil && patient {
			return result, err
		}
	case connect.CodeOf(err) != connect.NotFound:
		p.Log.ErrorContext(ctx, "tokens to be deleted cannot be read", "error", err)
		result = RevocationUnknown
	}
	if err := p.Tokens.vault.Delete(ctx, g.Tokens); err != nil {
		return result, fmt.Errorf("delete tokens: %w", err)
	}
	return result, nil
}

// revoke revokes a grant unless another of the same Google account would die
// with it: Google revokes all that an account granted to the platform
// (https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke).
// The error says why the outcome is unknown.
func (p *Parts) revoke(ctx context.Context, g connect.Grant, t connect.Token) (Revocation, error) {
	if g.Subject == "" {
		return RevocationUnknown, nil // whose other grants could not be looked for
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	held, err := p.Store.Grants(ctx, g.Subject)
	if err == nil && slices.ContainsFunc(held, func(other connect.Grant) bool { return other.Tokens != g.Tokens }) {
		return RevocationShared, nil
	}
	if err == nil {
		err = p.Tokens.authority.Revoke(ctx, t)
	}
	if err != nil {
		p.Log.WarnContext(ctx, "grant could not be revoked", "error", err)
		return RevocationUnknown, fmt.Errorf("revoke grant: %w", err)
	}
	return RevocationDone, nil
}

// releaseStale gives up the tokens of connections that are no more, and what was
// discovered for c where it is down. The connection names the tokens until all
// of it is gone. It returns the least that can be said of all of them.
func (p *Parts) releaseStale(ctx context.Context, c *connect.Connection) (Revocation, error) {
	worst := RevocationNone
	if len(c.Stale) == 0 {
		return worst, nil
	}
	order := []Revocation{RevocationNone, RevocationDone, RevocationShared, RevocationUnknown}
	var faults []error
	for _, g := range c.Stale {
		result, err := p.release(ctx, g, false)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if slices.Index(order, result) > slices.Index(order, worst) {
			worst = result
		}
	}
	if !c.Connected { // and with them whatever else there is: who dies before the end is made up for
		faults = append(faults, p.forgetResources(ctx, c))
	}
	if err := errors.Join(faults...); err != nil {
		return worst, err
	}
	_, err := p.Store.UpdateConnection(ctx, c.UserID, func(now *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		now.Released(c.Stale)
		return nil, nil
	})
	return worst, err
}

// forgetResources deletes what was discovered for generations before c's.
func (p *Parts) forgetResources(ctx context.Context, c *connect.Connection) error {
	if err := p.Store.DeleteResources(ctx, c.UserID, connect.ResourceFilter{}); err != nil {
		return fmt.Errorf("delete resources: %w", err)
	}
	if err := p.Store.DeleteDiscoveries(ctx, c.UserID, c.Generation); err != nil {
		return fmt.Errorf("delete discoveries: %w", err)
	}
	return nil
}

// forgetLogins ends the user's logins that were begun before c was taken down:
// those that are open, those that wait to be confirmed, and those that made c.
// One that is under way finds the connection down, and makes none.
func (s *Service) forgetLogins(ctx context.Context, c *connect.Connection) error {
	logins, err := s.Store.UserLogins(ctx, c.UserID, connect.MaxPageSize)
	if err != nil {
		return fmt.Errorf("list logins: %w", err)
	}
	return forAll(ctx, logins, func(ctx context.Context, l *connect.Login) error {
		if !l.CreatedAt.Before(c.LeftAt) {
			return nil
		}
		return s.settle(ctx, l, c, false)
	})
}

// Disconnect ends the connection and whatever runs for it, gives the grant up,
// and removes the tokens, the logins and what was discovered. What setups
// changed in the customer's cloud stays. It is idempotent: called again, it
// removes what an earlier call could not.
func (s *Service) Disconnect(ctx context.Context, userID string) (Revocation, error) {
	var over *connect.Setup
	c, err := s.Store.UpdateConnection(ctx, userID, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		now := time.Now()
		over = c.Cancel(current, CodeDisconnected, "Google Cloud was disconnected.", now)
		c.Disconnect(now)
		return nil, nil
	})
	if err != nil {
		return RevocationNone, err
	}
	s.Measures.ended(ctx, over)
	// The logins first: a grant that waits to be confirmed would keep the
	// connection's from being revoked.
	logins := s.forgetLogins(ctx, c)
	looked := s.lookLast(ctx, c, true)
	revocation, err := s.releaseStale(ctx, c)
	return revocation, errors.Join(logins, looked, err)
}

// Remove ends the connection and whatever runs for it, and starts the removal
// that undoes what setups changed in the customer's cloud, after which the
// tokens and what was discovered go. disableAPIs has it disable the APIs too
// that setups enabled. While a removal runs, and after one that ended, it
// returns that one.
func (s *Service) Remove(ctx context.Context, userID string, disableAPIs bool) (*connect.Setup, error) {
	var made, over *connect.Setup
	c, err := s.Store.UpdateConnection(ctx, userID, func(c *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		now := time.Now()
		over = nil
		switch {
		case !c.Connected && current != nil && current.Kind == connect.KindRemoval:
			made = current
			return nil, nil
		case !c.Connected:
			return nil, connect.Errorf(connect.Conflict, "Google Cloud is not connected, so Aurora can change nothing there. Connect it again, then disconnect with cleanup.")
		case c.NeedsReauth:
			return nil, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken+" Then disconnect with cleanup. Or disconnect without it.")
		}
		over = c.Cancel(current, CodeDisconnected, "Google Cloud was disconnected.", now)
		c.Leave(now)
		made = newSetup(c, connect.NewID(), connect.KindRemoval, now)
		made.DisableAPIs = disableAPIs
		return made, nil
	})
	if s.stands(ctx, made, err) {
		c, err = s.Store.Connection(ctx, userID)
	}
	if err != nil {
		return nil, err
	}
	s.Measures.ended(ctx, over)
	faults := s.forgetLogins(ctx, c)        // also when it is called again: the first call may have failed here
	if made.State == connect.StatePending { // its task has a name: enqueuing it twice is harmless
		s.start(ctx, made)
	}
	return made, faults
}
