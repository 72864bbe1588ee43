package setup

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gcpconnect/shared/connect"
)

// refreshBefore is how long before its expiry a token is replaced, so that a
// token in hand is good for the calls that it is for.
const refreshBefore = 5 * time.Minute

// Authority is Google's authorization server.
type Authority interface {
	// Refresh gets a new access token for a refresh token. It fails with
	// connect.NeedsReauth when Google no longer takes the refresh token.
	Refresh(ctx context.Context, t connect.Token) (connect.Token, error)
	// Revoke takes back all that the token's Google account granted. Revoking
	// what is revoked is no error.
	Revoke(ctx context.Context, t connect.Token) error
}

// Credentials gives access tokens: of users from the Vault, refreshed when it
// is time, and of service accounts by impersonation, kept in memory until
// they are about to expire.
type Credentials struct {
	vault     connect.Vault
	authority Authority
	group     singleflight.Group // one refresh or mint of a kind at a time in this instance

	mu       sync.Mutex
	accounts map[string]connect.AccessToken // by generation's token reference and email
}

// NewCredentials returns Credentials over a Vault.
func NewCredentials(vault connect.Vault, authority Authority) *Credentials {
	return &Credentials{vault: vault, authority: authority, accounts: map[string]connect.AccessToken{}}
}

// User returns the token source of the user whose tokens are at ref. The Vault
// is read when a token is first needed, and once.
func (c *Credentials) User(ref connect.TokenRef) TokenSource {
	return &userSource{credentials: c, ref: ref}
}

// Account returns the token source of a service account, impersonated by
// Google as user sees it. Tokens are shared by all sources with the same
// reference and email in this instance.
func (c *Credentials) Account(user Cloud, ref connect.TokenRef, email string) TokenSource {
	return &accountSource{credentials: c, user: user, key: string(ref) + " " + email, email: email}
}

// Format keeps the tokens out of print: fmt shows fields that are not exported
// without asking their types.
func (c *Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "credentials") }

// userSource gives one user's access tokens.
type userSource struct {
	credentials *Credentials
	ref         connect.TokenRef

	mu    sync.Mutex
	token connect.Token
}

// Format keeps the token out of print.
func (u *userSource) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "tokens of "+string(u.ref))
}

// Token implements TokenSource.
func (u *userSource) Token(ctx context.Context) (connect.Secret, error) {
	return u.get(ctx, func(t connect.Token) bool { return time.Until(t.Expiry) > refreshBefore })
}

// Renew implements TokenSource.
func (u *userSource) Renew(ctx context.Context, rejected connect.Secret) (connect.Secret, error) {
	return u.get(ctx, func(t connect.Token) bool { return t.Access != rejected && time.Until(t.Expiry) > 0 })
}

func (u *userSource) get(ctx context.Context, good func(connect.Token) bool) (connect.Secret, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token.Access != "" && good(u.token) {
		return u.token.Access, nil
	}
	// Sources of one connection in this instance wait for one refresh.
	v, err, _ := u.credentials.group.Do(string(u.ref), func() (any, error) {
		return u.credentials.renewUser(ctx, u.ref, good)
	})
	if err != nil {
		return "", err
	}
	t, _ := v.(connect.Token)
	if !good(t) {
		// Another's refresh, which ran while we waited, gave what we cannot use.
		if t, err = u.credentials.renewUser(ctx, u.ref, good); err != nil {
			return "", err
		}
	}
	u.token = t
	return t.Access, nil
}

// renewUser returns the token in the Vault if it is good, and refreshes it
// otherwise. The new one is stored by check-and-set: of two instances that
// refresh at once, both come away with a working token and none is lost.
func (c *Credentials) renewUser(ctx context.Context, ref connect.TokenRef, good func(connect.Token) bool) (connect.Token, error) {
	if ref == "" {
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	t, version, err := c.vault.Get(ctx, ref)
	switch {
	case connect.CodeOf(err) == connect.NotFound:
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken).Because(err)
	case err != nil:
		return connect.Token{}, fmt.Errorf("read the user's token: %w", err)
	case good(t):
		return t, nil
	case t.Refresh == "":
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	fresh, err := c.authority.Refresh(ctx, t)
	if err != nil {
		return connect.Token{}, fmt.Errorf("refresh the user's token: %w", err)
	}
	_, err = c.vault.Put(ctx, ref, fresh, version)
	if connect.CodeOf(err) == connect.Conflict {
		// Another instance refreshed at the same time. Ours works as well; the
		// stored one is the one that counts from here on.
		if stored, _, err := c.vault.Get(ctx, ref); err == nil && good(stored) {
			return stored, nil
		}
		return fresh, nil
	}
	if err != nil {
		return connect.Token{}, fmt.Errorf("store the refreshed token: %w", err)
	}
	return fresh, nil
}

// accountSource gives one service account's access tokens.
type accountSource struct {
	credentials *Credentials
	user        Cloud
	key, email  string
}

// Token implements TokenSource.
func (a *accountSource) Token(ctx context.Context) (connect.Secret, error) {
	return a.get(ctx, "")
}

// Renew implements TokenSource.
func (a *accountSource) Renew(ctx context.Context, rejected connect.Secret) (connect.Secret, error) {
	return a.get(ctx, rejected)
}

func (a *accountSource) get(ctx context.Context, rejected connect.Secret) (connect.Secret, error) {
	c := a.credentials
	if t, ok := c.account(a.key); ok && t.Value != rejected {
		return t.Value, nil
	}
	v, err, _ := c.group.Do(a.key, func() (any, error) {
		if t, ok := c.account(a.key); ok && t.Value != rejected {
			return t, nil // minted by the one we waited for
		}
		t, err := a.user.Impersonate(ctx, a.email)
		if err != nil {
			return nil, fmt.Errorf("impersonate %s: %w", a.email, err)
		}
		c.keep(a.key, t)
		return t, nil
	})
	if err != nil {
		return "", err
	}
	t, _ := v.(connect.AccessToken)
	return t.Value, nil
}

func (c *Credentials) account(key string) (connect.AccessToken, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.accounts[key]
	return t, ok && time.Until(t.Expiry) > refreshBefore
}

// keep remembers a minted token and forgets those that are past their use.
func (c *Credentials) keep(key string, t connect.AccessToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, old := range c.accounts {
		if time.Until(old.Expiry) <= refreshBefore {
			delete(c.accounts, k)
		}
	}
	c.accounts[key] = t
}
