package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gcpconnect/shared/connect"
)

// refreshBefore is how long before its expiry a token is replaced, so that a
// token in hand is good for the calls that it is for.
const refreshBefore = 5 * time.Minute

// renewTimeout bounds a renewal, from reading the Vault to writing it. Whoever
// asked for it may have left: others wait for it too.
const renewTimeout = 30 * time.Second

// secondLook is when to look again at a refresh token that Google has refused:
// where refresh tokens rotate, another instance may have used it up and not
// have stored its successor yet.
const secondLook = time.Second

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
	platform  Cloud // nil: the platform impersonates nobody
	log       *slog.Logger
	group     singleflight.Group // one refresh or mint of a kind at a time in this instance

	mu       sync.Mutex
	accounts map[string]connect.AccessToken // by generation's token reference and email
	unsaved  map[connect.TokenRef]refreshed
}

// refreshed is what Google gave and the Vault did not take. Where Google
// rotates refresh tokens there is no other that works.
type refreshed struct {
	token    connect.Token
	replaces int // the version in the Vault that it is the successor of
	at       time.Time
}

// NewCredentials returns Credentials over a Vault. Platform is Google as
// Aurora's own service account sees it, which impersonates where it may; with
// nil, and where it may not, users do.
func NewCredentials(vault connect.Vault, authority Authority, platform Cloud, log *slog.Logger) *Credentials {
	return &Credentials{
		vault: vault, authority: authority, platform: platform, log: log,
		accounts: map[string]connect.AccessToken{}, unsaved: map[connect.TokenRef]refreshed{},
	}
}

// User returns the token source of the user whose tokens are at ref. The Vault
// is read when a token is first needed, and once.
func (c *Credentials) User(ref connect.TokenRef) TokenSource {
	return &userSource{credentials: c, ref: ref}
}

// Account returns the token source of a service account, impersonated by the
// platform, or by user where the platform may not: so daily life does not
// depend on the user's refresh token, which a session's end can kill. Tokens
// are shared by all sources with the same reference and email in this
// instance.
func (c *Credentials) Account(user Cloud, ref connect.TokenRef, email string) TokenSource {
	return c.account(user, ref, email)
}

func (c *Credentials) account(user Cloud, ref connect.TokenRef, email string) *accountSource {
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
	held := u.token
	u.mu.Unlock()
	if held.Access != "" && good(held) {
		return held.Access, nil
	}
	// Sources of one connection in this instance wait for one refresh. One that
	// ran already for somebody else may have given what we cannot use; the next
	// is judged by us, or by somebody who refuses the same.
	var t connect.Token
	for tries := 0; tries < 3 && (t.Access == "" || !good(t)); tries++ {
		var err error
		t, err = once(ctx, u.credentials, string(u.ref), func(ctx context.Context) (connect.Token, error) {
			return u.credentials.renewUser(ctx, u.ref, good)
		})
		if err != nil {
			return "", err
		}
	}
	u.mu.Lock()
	u.token = t
	u.mu.Unlock()
	return t.Access, nil
}

// once runs get, or waits for the run of it that is under way in this instance
// for the same key. The run goes on when who began it leaves.
func once[T any](ctx context.Context, c *Credentials, key string, get func(context.Context) (T, error)) (T, error) {
	running := c.group.DoChan(key, func() (result any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
		defer cancel()
		err = safely(func() (err error) {
			result, err = get(ctx)
			return err
		})
		return result, err
	})
	var none T
	select {
	case <-ctx.Done():
		return none, errCutOff(ctx.Err())
	case got := <-running:
		if got.Err != nil {
			return none, got.Err
		}
		result, _ := got.Val.(T)
		return result, nil
	}
}

// renewUser returns the token in the Vault if it is good, and refreshes it
// otherwise. The new one is stored by check-and-set: of two instances that
// refresh at once, both come away with a working token and none is lost.
func (c *Credentials) renewUser(ctx context.Context, ref connect.TokenRef, good func(connect.Token) bool) (connect.Token, error) {
	if ref == "" {
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	var refused error // what Google said of the refresh token of a version
	var refusedAt int
	for {
		t, version, err := c.vault.Get(ctx, ref)
		switch {
		case connect.CodeOf(err) == connect.NotFound:
			c.saved(ref)
			return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken).Because(err)
		case err != nil:
			return connect.Token{}, fmt.Errorf("read the user's token: %w", err)
		case good(t):
			return t, nil
		case t.Refresh == "":
			return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
		case refused != nil && version == refusedAt:
			return connect.Token{}, refused
		}
		fresh, err := c.refresh(ctx, ref, t, version)
		if connect.CodeOf(err) == connect.NeedsReauth && refused == nil {
			refused, refusedAt = err, version
			if err := sleep(ctx, secondLook); err != nil {
				return connect.Token{}, err
			}
			continue
		}
		if err != nil {
			return connect.Token{}, err
		}
		if _, err = c.vault.Put(ctx, ref, fresh, version); err == nil {
			c.saved(ref)
			return fresh, nil
		}
		if connect.CodeOf(err) != connect.Conflict {
			return connect.Token{}, fmt.Errorf("store the refreshed token: %w", err)
		}
		// Another instance refreshed at the same time. Ours works as well; the
		// stored one is the one that counts from here on.
		c.saved(ref)
		stored, _, err := c.vault.Get(ctx, ref)
		switch {
		case err == nil && good(stored):
			return stored, nil
		case connect.CodeOf(err) == connect.NotFound: // it was not a refresh, but a disconnect
			return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken).Because(err)
		}
		return fresh, nil
	}
}

// refresh refreshes the token that has that version in the Vault, unless that
// was done and could not be stored.
func (c *Credentials) refresh(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (connect.Token, error) {
	c.mu.Lock()
	held, found := c.unsaved[ref]
	c.mu.Unlock()
	if found && held.replaces == version && time.Until(held.token.Expiry) > refreshBefore {
		return held.token, nil
	}
	if found && held.replaces == version {
		t = held.token
	}
	fresh, err := c.authority.Refresh(ctx, t)
	if err != nil {
		return connect.Token{}, fmt.Errorf("refresh the user's token: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.unsaved, func(_ connect.TokenRef, r refreshed) bool { return time.Since(r.at) > time.Hour })
	c.unsaved[ref] = refreshed{token: fresh, replaces: version, at: time.Now()}
	return fresh, nil
}

// saved forgets what was kept for the Vault: it took it, or needs it no more.
func (c *Credentials) saved(ref connect.TokenRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unsaved, ref)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errCutOff(ctx.Err())
	case <-time.After(d):
		return nil
	}
}

// accountSource gives one service account's access tokens.
type accountSource struct {
	credentials *Credentials
	user        Cloud
	key, email  string
}

var _ Payer = (*accountSource)(nil)

// Format keeps the tokens of the credentials out of print.
func (a *accountSource) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "tokens of "+a.email)
}

// Project implements Payer.
func (a *accountSource) Project() string {
	_, domain, _ := strings.Cut(a.email, "@")
	return strings.TrimSuffix(domain, ".iam.gserviceaccount.com")
}

// Token implements TokenSource.
func (a *accountSource) Token(ctx context.Context) (connect.Secret, error) {
	t, err := a.get(ctx, "")
	return t.Value, err
}

// Renew implements TokenSource.
func (a *accountSource) Renew(ctx context.Context, rejected connect.Secret) (connect.Secret, error) {
	t, err := a.get(ctx, rejected)
	return t.Value, err
}

// get returns a token other than rejected, and when it expires.
func (a *accountSource) get(ctx context.Context, rejected connect.Secret) (connect.AccessToken, error) {
	c := a.credentials
	if t, ok := c.kept(a.key); ok && t.Value != rejected {
		return t, nil
	}
	t, err := once(ctx, c, a.key, func(ctx context.Context) (connect.AccessToken, error) {
		if t, ok := c.kept(a.key); ok && t.Value != rejected {
			return t, nil // minted by the one we waited for
		}
		t, err := a.mint(ctx)
		if err != nil {
			return connect.AccessToken{}, fmt.Errorf("impersonate %s: %w", a.email, err)
		}
		c.keep(a.key, t)
		return t, nil
	})
	return t, err
}

// mint gets a token from Google: as the platform, or as the user where that is
// denied to the platform. A Google that is busy is asked again later and not
// as somebody else.
func (a *accountSource) mint(ctx context.Context) (connect.AccessToken, error) {
	c := a.credentials
	if c.platform == nil {
		return a.user.Impersonate(ctx, a.email)
	}
	t, denied := c.platform.Impersonate(ctx, a.email)
	if denied == nil || retryable(denied) {
		return t, denied
	}
	t, err := a.user.Impersonate(ctx, a.email)
	if err != nil {
		return connect.AccessToken{}, errors.Join(err, fmt.Errorf("as the platform: %w", denied))
	}
	c.log.WarnContext(ctx, "the platform may not impersonate an account: its user did", "account", a.email, "error", denied)
	return t, nil
}

func (c *Credentials) kept(key string) (connect.AccessToken, bool) {
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
