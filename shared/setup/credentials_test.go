package setup

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"gcpconnect/shared/connect"
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
}

func (v *vault) Get(context.Context, connect.TokenRef) (connect.Token, int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	return v.token, v.version, nil
}

func (v *vault) Put(_ context.Context, _ connect.TokenRef, t connect.Token, version int) (int, error) {
	if before := v.before; before != nil {
		v.before = nil
		before()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if version != v.version {
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
	if printed := fmt.Sprintf("%v %+v %#v %v %+v %#v", c, c, c, source, source, source); strings.Contains(printed, "very-secret") {
		t.Error(printed)
	}
}
