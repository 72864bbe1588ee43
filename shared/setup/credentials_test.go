package setup

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// vault is a connect.Vault of one token. The package's own tests may not
// import the memory adapter's, which the tests of the whole system use.
type vault struct {
	connect.Vault
	mu      sync.Mutex
	token   connect.Token
	version int
	reads   int
	before  func() // runs before a Put: another instance comes between
	gone    bool   // a disconnect has deleted the token
	slow    time.Duration
}

func (v *vault) Get(context.Context, connect.TokenRef) (connect.Token, int, error) {
	time.Sleep(v.slow)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	if v.gone {
		return connect.Token{}, 0, connect.Errorf(connect.NotFound, "no token")
	}
	return v.token, v.version, nil
}

func (v *vault) Put(_ context.Context, _ connect.TokenRef, t connect.Token, version int) (int, error) {
	if before := v.before; before != nil {
		v.before = nil
		before()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone || version != v.version {
		return 0, connect.Errorf(connect.Conflict, "another version")
	}
	v.token, v.version = t, v.version+1
	return v.version, nil
}

// counter gives a new token each time.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) Revoke(context.Context, connect.Token) error { return nil }

func (c *counter) Refresh(_ context.Context, t connect.Token) (connect.Token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	t.Access, t.Expiry = connect.Secret(fmt.Sprint("fresh-", c.n)), time.Now().Add(time.Hour)
	return t, nil
}

func TestUserTokenIsReadOnceAndRefreshedInTime(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		left      time.Duration
		refreshes int
	}{
		"a token that lasts is used":                   {time.Hour, 0},
		"one that ends within five minutes is renewed": {4 * time.Minute, 1},
		"one that has ended is renewed":                {-time.Minute, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &vault{token: connect.Token{Access: "old", Refresh: "r", Expiry: time.Now().Add(tt.left)}, version: 1}
			r := &counter{}
			source := NewCredentials(v, r, nil, slog.Default()).User("ref")
			for range 3 {
				if _, err := source.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if r.n != tt.refreshes || v.reads != 1 {
				t.Errorf("%d refreshes and %d reads of the vault, want %d and 1", r.n, v.reads, tt.refreshes)
			}
		})
	}
}

func TestManySourcesOfOneUserRefreshOnce(t *testing.T) {
	t.Parallel()
	v := &vault{token: connect.Token{Access: "old", Refresh: "r"}, version: 1}
	r := &counter{}
	c := NewCredentials(v, r, nil, slog.Default())
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if token, err := c.User("ref").Token(t.Context()); err != nil || token.Reveal() != "fresh-1" {
				t.Errorf("token %q, %v", token.Reveal(), err)
			}
		})
	}
	group.Wait()
}

func TestTwoInstancesThatRefreshAtOnceKeepOneToken(t *testing.T) {
	t.Parallel()
	v := &vault{token: connect.Token{Access: "old", Refresh: "r"}, version: 1}
	v.before = func() {
		if _, err := v.Put(t.Context(), "ref", connect.Token{Access: "other", Refresh: "r", Expiry: time.Now().Add(time.Hour)}, 1); err != nil {
			t.Error(err)
		}
	}
	token, err := NewCredentials(v, &counter{}, nil, slog.Default()).User("ref").Token(t.Context())
	if err != nil || token.Reveal() != "other" || v.token.Access.Reveal() != "other" {
		t.Errorf("token %q, stored %q, %v, want the one that was stored first", token.Reveal(), v.token.Access.Reveal(), err)
	}
}

// The tokens are gone when the refreshed one comes: what it would give is of a
// connection that was deleted.
func TestARefreshThatADisconnectHasOvertakenGivesNothing(t *testing.T) {
	t.Parallel()
	v := &vault{token: connect.Token{Access: "old", Refresh: "r"}, version: 1}
	v.before = func() { v.gone = true }
	c := NewCredentials(v, &counter{}, nil, slog.Default())
	if token, err := c.User("ref").Token(t.Context()); connect.CodeOf(err) != connect.NeedsReauth || token != "" {
		t.Errorf("token %q, %v", token.Reveal(), err)
	}
	if len(c.unsaved) > 0 {
		t.Error("the refreshed token is kept")
	}
}

// While a token is read for one source, many others come whose call with that
// token was rejected.
func TestRenewalsBesideAReadRefreshOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{token: connect.Token{Access: "rejected", Refresh: "r", Expiry: time.Now().Add(time.Hour)}, version: 1, slow: time.Second}
		var mu sync.Mutex
		atOnce, most, n := 0, 0, 0
		r := &refreshing{do: func(t connect.Token) (connect.Token, error) {
			mu.Lock()
			atOnce++
			n++
			most = max(most, atOnce)
			t.Access, t.Expiry = connect.Secret(fmt.Sprint("fresh-", n)), time.Now().Add(time.Hour)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			atOnce--
			return t, nil
		}}
		c := NewCredentials(v, r, nil, slog.Default())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := c.User("ref").Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(100 * time.Millisecond)
		for range 16 {
			group.Go(func() {
				if token, err := c.User("ref").Renew(t.Context(), "rejected"); err != nil || token != "fresh-1" {
					t.Errorf("token %q, %v", token.Reveal(), err)
				}
			})
		}
		group.Wait()
		if most != 1 || n != 1 {
			t.Errorf("%d refreshes, %d at once", n, most)
		}
	})
}

func TestRejectedTokenIsRenewed(t *testing.T) {
	t.Parallel()
	v := &vault{token: connect.Token{Access: "revoked", Refresh: "r", Expiry: time.Now().Add(time.Hour)}, version: 1}
	source := NewCredentials(v, &counter{}, nil, slog.Default()).User("ref")
	if token, err := source.Renew(t.Context(), "revoked"); err != nil || token.Reveal() != "fresh-1" {
		t.Errorf("renewed %q, %v", token.Reveal(), err)
	}
	if token, err := source.Token(t.Context()); err != nil || token.Reveal() != "fresh-1" {
		t.Errorf("token %q, %v, want the renewed one", token.Reveal(), err)
	}
}

func TestNoRefreshTokenAsksForANewConsent(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]TokenSource{
		"none in the vault": NewCredentials(&vault{token: connect.Token{Access: "a"}}, &counter{}, nil, slog.Default()).User("ref"),
		"no reference":      NewCredentials(&vault{}, &counter{}, nil, slog.Default()).User(""),
	} {
		_, err := source.Token(t.Context())
		if connect.CodeOf(err) != connect.NeedsReauth || connect.MessageOf(err) != "No refresh token available. Please re-authenticate." {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentialsPrintNoToken(t *testing.T) {
	t.Parallel()
	c := NewCredentials(&vault{token: connect.Token{Access: "very-secret", Refresh: "r", Expiry: time.Now().Add(time.Hour)}, version: 1}, &counter{}, nil, slog.Default())
	c.keep("k", connect.AccessToken{Value: "very-secret", Expiry: time.Now().Add(time.Hour)})
	source := c.User("ref")
	if _, err := source.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{
		"credentials": c, "a user's tokens": source, "an account's tokens": c.Account(nil, "ref", "a@example.com"), "parts": Parts{Tokens: c},
		"a token of an account": AccountToken{AccessToken: connect.AccessToken{Value: "very-secret"}},
	})
}

// refreshing is an Authority that does as it is told.
type refreshing struct {
	counter
	do func(connect.Token) (connect.Token, error)
}

func (r *refreshing) Refresh(ctx context.Context, t connect.Token) (connect.Token, error) {
	t, err := r.do(t)
	if ctx.Err() != nil { // the request was given up
		return connect.Token{}, ctx.Err()
	}
	return t, err
}

// failing is a vault whose next Puts fail.
type failing struct {
	vault
	puts int
}

func (v *failing) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	if v.puts > 0 {
		v.puts--
		return 0, connect.Errorf(connect.Unavailable, "sealed")
	}
	return v.vault.Put(ctx, ref, t, version)
}

// A rotated refresh token that the Vault does not take is the only one that
// works: it is kept and stored when the Vault is back.
func TestARotatedTokenOutlivesAVaultThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &failing{vault: vault{token: connect.Token{Access: "old", Refresh: "r0"}, version: 1}, puts: 2}
		uses := map[connect.Secret]int{}
		rotating := &refreshing{do: func(t connect.Token) (connect.Token, error) {
			uses[t.Refresh]++
			if uses[t.Refresh] > 1 {
				return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
			}
			return connect.Token{Access: "a-" + t.Refresh, Refresh: t.Refresh + "'", Expiry: time.Now().Add(time.Hour)}, nil
		}}
		c := NewCredentials(v, rotating, nil, slog.Default())
		get := func() (string, error) {
			token, err := c.User("ref").Token(t.Context())
			return token.Reveal(), err
		}
		for range 2 {
			if token, err := get(); connect.CodeOf(err) != connect.Unavailable || token != "" {
				t.Errorf("with the vault away: %q, %v", token, err)
			}
		}
		if token, err := get(); err != nil || token != "a-r0" || v.token.Refresh != "r0'" || uses["r0"] != 1 {
			t.Errorf("with the vault back: %q, %v; stored %q after %d uses", token, err, v.token.Refresh.Reveal(), uses["r0"])
		}
		if len(c.unsaved) != 0 {
			t.Error("what is stored is still kept")
		}
		// Kept for so long that the access token is over: its refresh token is
		// the one to refresh with.
		v.token.Expiry, v.puts = time.Now(), 1
		if _, err := get(); err == nil {
			t.Error("a token was given that is not stored")
		}
		time.Sleep(time.Hour - time.Minute)
		if token, err := get(); err != nil || token != "a-r0''" || v.token.Refresh != "r0'''" {
			t.Errorf("an hour later: %q, %v; stored %q", token, err, v.token.Refresh.Reveal())
		}
	})
}

// Where Google refuses a refresh token, another instance may have used it up
// and be about to store its successor.
func TestARefusedTokenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	for name, successor := range map[string]connect.Token{
		"another instance's token": {Access: "other", Refresh: "r1"},
		"none":                     {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := &vault{token: connect.Token{Access: "old", Refresh: "r0"}, version: 1}
				asked := 0
				refused := &refreshing{do: func(connect.Token) (connect.Token, error) {
					asked++
					go func() {
						time.Sleep(secondLook / 2)
						if successor.Access != "" {
							successor.Expiry = time.Now().Add(time.Hour)
							_, _ = v.Put(t.Context(), "ref", successor, 1)
						}
					}()
					return connect.Token{}, connect.Errorf(connect.NeedsReauth, "refused")
				}}
				token, err := NewCredentials(v, refused, nil, slog.Default()).User("ref").Token(t.Context())
				if asked != 1 || token != successor.Access || (connect.CodeOf(err) == connect.NeedsReauth) != (successor.Access == "") {
					t.Errorf("%q, %v after %d refreshes", token.Reveal(), err, asked)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// Who asked first may leave: the others get what was begun. A panic is an
// error to all, and the next one tries again.
func TestARefreshGoesOnWithoutItsStarter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{token: connect.Token{Access: "old", Refresh: "r0"}, version: 1}
		calls := 0
		slow := &refreshing{do: func(t connect.Token) (connect.Token, error) {
			if calls++; calls == 1 {
				time.Sleep(time.Second)
				panic("a defect")
			}
			time.Sleep(10 * time.Second)
			t.Access, t.Expiry = "new", time.Now().Add(time.Hour)
			return t, nil
		}}
		c := NewCredentials(v, slow, nil, slog.Default())
		if token, err := c.User("ref").Token(t.Context()); err == nil || strings.Contains(err.Error(), "old") {
			t.Errorf("a panic gave %q, %v", token.Reveal(), err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.User("ref").Token(ctx); connect.CodeOf(err) != connect.Unavailable {
				t.Errorf("who left got %v", err)
			}
		})
		time.Sleep(500 * time.Millisecond)
		group.Go(func() {
			if token, err := c.User("ref").Token(t.Context()); err != nil || token != "new" {
				t.Errorf("who stayed got %q, %v", token.Reveal(), err)
			}
		})
		group.Wait()
		if calls != 2 || v.token.Access != "new" {
			t.Errorf("%d refreshes, stored %q", calls, v.token.Access.Reveal())
		}
	})
}
