package connecttest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"gcpconnect/shared/connect"
)

// TestVault checks that a vault keeps the promises of connect.Vault. It calls
// newVault once.
func TestVault(t *testing.T, newVault func(t *testing.T) connect.Vault) {
	t.Helper()
	run(t, newVault(t), vaultCases)
}

// newRef returns a place that nobody has used, of the form that
// Login.Tokens gives.
func newRef() connect.TokenRef {
	l := connect.Login{ID: connect.NewID(), UserID: newUser()}
	return l.Tokens()
}

// newToken returns a token with every field filled.
func newToken(seed string) connect.Token { return filled[connect.Token](seed) }

// wantToken checks what is stored. Tokens are compared by what they reveal,
// because a diff of the secrets themselves shows nothing.
func wantToken(t *testing.T, v connect.Vault, ref connect.TokenRef, want connect.Token, version int) {
	t.Helper()
	got, at, err := v.Get(t.Context(), ref)
	ok(t, err)
	if at != version {
		t.Errorf("the token has version %d, want %d", at, version)
	}
	if got.Access.Reveal() != want.Access.Reveal() || got.Refresh.Reveal() != want.Refresh.Reveal() {
		t.Errorf("the token is %.40q and %.40q, want %.40q and %.40q",
			got.Access.Reveal(), got.Refresh.Reveal(), want.Access.Reveal(), want.Refresh.Reveal())
	}
	equal(t, "the token", got, want)
}

// put stores a token and returns its version.
func put(t *testing.T, v connect.Vault, ref connect.TokenRef, token connect.Token, version int) int {
	t.Helper()
	at, err := v.Put(t.Context(), ref, token, version)
	ok(t, err)
	if at < 1 {
		t.Errorf("the new version is %d, want at least 1", at)
	}
	return at
}

// wantNoToken checks that there is none.
func wantNoToken(t *testing.T, v connect.Vault, ref connect.TokenRef) {
	t.Helper()
	_, _, err := v.Get(t.Context(), ref)
	wantCode(t, "reading a token that is not there", err, connect.NotFound)
}

var vaultCases = []testCase[connect.Vault]{
	{"a token that was never stored is NotFound", func(t *testing.T, v connect.Vault) {
		wantNoToken(t, v, newRef())
	}},
	{"every field of a token survives, the secrets not redacted", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		version := put(t, v, ref, newToken("token"), 0)
		wantToken(t, v, ref, newToken("token"), version)
	}},
	{"a token without a refresh token, scopes and expiry survives", func(t *testing.T, v connect.Vault) {
		ref, token := newRef(), connect.Token{Access: "ya29.access"}
		version := put(t, v, ref, token, 0)
		wantToken(t, v, ref, token, version)
	}},
	{"a token may be as long as Google makes them, and longer", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		token := connect.Token{Access: connect.Secret(strings.Repeat("a", 16<<10)), Refresh: connect.Secret(strings.Repeat("r", 4<<10))}
		version := put(t, v, ref, token, 0)
		wantToken(t, v, ref, token, version)
	}},
	{"a write with the version that was read replaces the token and raises the version", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		version := put(t, v, ref, newToken("0"), 0)
		for i := range 12 { // more than the ten versions that Vault keeps by default
			token := newToken(fmt.Sprint(i + 1))
			next := put(t, v, ref, token, version)
			if next <= version {
				t.Errorf("version %d follows version %d", next, version)
			}
			wantToken(t, v, ref, token, next)
			version = next
		}
	}},
	{"a field that the new token lacks is gone", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		version := put(t, v, ref, newToken("full"), 0)
		version = put(t, v, ref, connect.Token{Access: "a"}, version)
		wantToken(t, v, ref, connect.Token{Access: "a"}, version)
	}},
	{"a write with another version is a Conflict and writes nothing", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		first := put(t, v, ref, newToken("first"), 0)
		second := put(t, v, ref, newToken("second"), first)
		for _, version := range []int{0, first, second + 1, second + 100} {
			_, err := v.Put(t.Context(), ref, newToken("other"), version)
			wantCode(t, fmt.Sprint("writing with version ", version), err, connect.Conflict)
		}
		wantToken(t, v, ref, newToken("second"), second)
	}},
	{"a write with a version where there is no token is a Conflict and writes nothing", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		_, err := v.Put(t.Context(), ref, newToken("token"), 1)
		wantCode(t, "writing with a version of nothing", err, connect.Conflict)
		wantNoToken(t, v, ref)
	}},
	{"of writers at the same time with the same version exactly one wins, and its token stands", func(t *testing.T, v connect.Vault) {
		for _, there := range []bool{false, true} {
			ref, version := newRef(), 0
			if there {
				version = put(t, v, ref, newToken("before"), 0)
			}
			var won, winner, stored atomic.Int32
			together(16, func(i int) {
				at, err := v.Put(t.Context(), ref, newToken(fmt.Sprint(i)), version)
				if err != nil {
					wantCode(t, "losing the race for a version", err, connect.Conflict)
					return
				}
				won.Add(1)
				winner.Store(int32(i))
				stored.Store(int32(at))
			})
			if n := won.Load(); n != 1 {
				t.Fatalf("%d writers won, want 1", n)
			}
			wantToken(t, v, ref, newToken(fmt.Sprint(winner.Load())), int(stored.Load()))
		}
	}},
	{"a deleted token is NotFound, every version of it", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		first := put(t, v, ref, newToken("first"), 0)
		second := put(t, v, ref, newToken("second"), first)
		ok(t, v.Delete(t.Context(), ref))
		wantNoToken(t, v, ref)
		for _, version := range []int{first, second} {
			_, err := v.Put(t.Context(), ref, newToken("other"), version)
			wantCode(t, fmt.Sprint("writing over the deleted version ", version), err, connect.Conflict)
		}
		wantNoToken(t, v, ref)
	}},
	{"a token can be stored anew after a delete", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		put(t, v, ref, newToken("old"), 0)
		ok(t, v.Delete(t.Context(), ref))
		version := put(t, v, ref, newToken("new"), 0)
		wantToken(t, v, ref, newToken("new"), version)
	}},
	{"deleting what is not there is no error, also twice", func(t *testing.T, v connect.Vault) {
		ref := newRef()
		ok(t, v.Delete(t.Context(), ref))
		put(t, v, ref, newToken("token"), 0)
		ok(t, v.Delete(t.Context(), ref))
		ok(t, v.Delete(t.Context(), ref))
	}},
	{"tokens of two places are two tokens", func(t *testing.T, v connect.Vault) {
		user := newUser()
		one, two := connect.Login{ID: connect.NewID(), UserID: user}, connect.Login{ID: connect.NewID(), UserID: user}
		put(t, v, one.Tokens(), newToken("one"), 0)
		version := put(t, v, two.Tokens(), newToken("two"), 0)
		ok(t, v.Delete(t.Context(), one.Tokens()))
		wantNoToken(t, v, one.Tokens())
		wantToken(t, v, two.Tokens(), newToken("two"), version)
	}},
	{"a caller may change what it stored and read", func(t *testing.T, v connect.Vault) {
		ref, token := newRef(), newToken("token")
		version := put(t, v, ref, token, 0)
		scramble(&token)
		wantToken(t, v, ref, newToken("token"), version)
		got, _, err := v.Get(t.Context(), ref)
		ok(t, err)
		scramble(&got)
		wantToken(t, v, ref, newToken("token"), version)
	}},
}
