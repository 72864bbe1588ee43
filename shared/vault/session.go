package vault

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/vault/api"

	"gcpconnect/shared/connect"
)

// session is our own Vault token: made by a login at first use, renewed in
// the background as long as Vault lets it, and made anew when it has ended.
type session struct {
	client *api.Client
	enter  func(ctx context.Context) (*api.Secret, error) // logs in
	again  bool                                           // whether that can be repeated

	turn    chan struct{} // held by who reads or writes what follows
	id      int           // counts logins
	live    bool
	closed  bool
	expires time.Time // zero: never
	stop    func()    // ends the renewal; nil: there is none
}

// expiryMargin is how long before its end a token is not used any more.
const expiryMargin = 10 * time.Second

func newSession(client *api.Client, a Auth) (*session, error) {
	enter, again, err := a.login(client)
	if err != nil {
		return nil, err
	}
	return &session{client: client, enter: enter, again: again, turn: make(chan struct{}, 1)}, nil
}

// login is one login and its token.
type login struct {
	id    int
	token connect.Secret
}

// dead reports whether Vault refuses the token of that login itself, and not
// only something that the policy denies it, and it can be replaced. It asks
// about the token that was used: another call may have logged in meanwhile.
func (s *session) dead(ctx context.Context, used login) bool {
	if !s.again {
		return false
	}
	asking, err := s.client.Clone()
	if err != nil {
		return false
	}
	asking.SetToken(used.token.Reveal())
	_, err = asking.Auth().Token().LookupSelfWithContext(ctx)
	return forbidden(err)
}

// ensure logs in unless there is a token that lives. One caller logs in, others
// wait for it.
func (s *session) ensure(ctx context.Context) (login, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return login{}, ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.closed {
		return login{}, errors.New("the vault is closed")
	}
	// An instance without CPU between requests renews nothing, so the time
	// counts and not only what the renewal says.
	if s.live && (s.expires.IsZero() || time.Now().Add(expiryMargin).Before(s.expires)) {
		return s.current(), nil
	}
	s.end()
	secret, err := s.enter(ctx)
	if err != nil {
		return login{}, err
	}
	if secret == nil || secret.Auth == nil {
		return login{}, errors.New("the login gave no token")
	}
	s.client.SetToken(secret.Auth.ClientToken)
	s.id++
	s.live, s.expires = true, time.Time{}
	if secret.Auth.LeaseDuration > 0 {
		s.expires = time.Now().Add(time.Duration(secret.Auth.LeaseDuration) * time.Second)
	}
	if secret.Auth.Renewable && secret.Auth.LeaseDuration > 0 {
		return s.current(), s.renew(secret)
	}
	return s.current(), nil
}

func (s *session) current() login { return login{s.id, connect.Secret(s.client.Token())} }

// renew keeps the token alive in the background.
func (s *session) renew(secret *api.Secret) error {
	watcher, err := s.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		return err
	}
	s.stop = watcher.Stop
	id := s.id
	go watcher.Start()
	go func() {
		for {
			select {
			case renewal := <-watcher.RenewCh():
				if auth := renewal.Secret.Auth; auth != nil {
					s.extend(id, renewal.RenewedAt.Add(time.Duration(auth.LeaseDuration)*time.Second))
				}
			case err := <-watcher.DoneCh():
				_ = err // it ends when it is stopped or cannot be renewed; time tells which
				return
			}
		}
	}()
	return nil
}

// extend notes that a login's token lives until then.
func (s *session) extend(id int, until time.Time) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.id == id && s.live {
		s.expires = until
	}
}

// forget ends the session of that login, unless it was replaced already.
func (s *session) forget(id int) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.id == id {
		s.end()
	}
}

// close ends the session for good.
func (s *session) close() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.closed = true
	s.end()
}

// end stops the renewal; s.turn is held.
func (s *session) end() {
	if s.stop != nil {
		s.stop()
	}
	s.live, s.stop = false, nil
}
