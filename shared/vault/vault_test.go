package vault_test

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"

	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/vault"
)

// open returns a vault with the shipped policy, by AppRole.
func open(t *testing.T, running *parts.Vault, change func(*vault.Options)) *vault.Vault {
	t.Helper()
	o := vault.Options{
		Address: running.Address, Mount: "gcpconnect",
		Auth: vault.Auth{RoleID: running.RoleID, SecretID: running.SecretID},
	}
	if change != nil {
		change(&o)
	}
	v, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// root returns a client that may do everything.
func root(t *testing.T, running *parts.Vault) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: running.Address})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(running.RootToken.Reveal())
	return c
}

func TestVault(t *testing.T) {
	t.Parallel()
	running := partstest.OwnVault(t) // it is sealed
	for name, test := range map[string]func(*testing.T, *parts.Vault){
		"policy": testPolicy, "sealed": testSealed, "revoked session": testRevokedSession, "given token": testGivenToken,
		"lost answer": testLostAnswer, "nothing left after delete": testNothingLeft, "expiry": testExpiry, "no store": testNoStore,
		"refused": testRefused, "renewal": testRenewal, "same token": testSameToken, "closed": testClosed,
	} {
		t.Run(name, func(t *testing.T) { test(t, running) })
	}
	connecttest.TestVault(t, func(t *testing.T) connect.Vault { return open(t, running, nil) })
}

var (
	ref   = connect.TokenRef("0123456789abcdef/login")
	token = connect.Token{Access: "ya29.access-token", Refresh: "1//refresh-token"}
)

// The shipped policy reaches the tokens, by their references, and nothing else.
func testPolicy(t *testing.T, running *parts.Vault) {
	login, err := api.NewClient(&api.Config{Address: running.Address})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := login.Logical().Write("auth/approle/login", map[string]any{"role_id": running.RoleID, "secret_id": running.SecretID.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	login.SetToken(secret.Auth.ClientToken)
	all := root(t, running)
	for _, path := range []string{"gcpconnect/data/other/a", "gcpconnect/data/tokens/a/b"} {
		if _, err := all.Logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}, "options": map[string]any{"cas": 0}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := login.Logical().Read("gcpconnect/data/tokens/a/b"); err != nil {
		t.Errorf("tokens cannot be read: %v", err)
	}
	for _, path := range []string{
		"gcpconnect/data/other/a", "gcpconnect/metadata/tokens/a/b", "gcpconnect/config", "sys/mounts", "sys/policies/acl/gcpconnect",
		"auth/approle/role/gcpconnect/role-id", "cubbyhole/x", "sys/auth",
	} {
		if _, err := login.Logical().Read(path); !forbidden(err) {
			t.Errorf("%s can be read: %v", path, err)
		}
	}
	for _, path := range []string{"gcpconnect/metadata/tokens", "gcpconnect/metadata/tokens/a", "gcpconnect/metadata"} {
		if _, err := login.Logical().List(path); !forbidden(err) {
			t.Errorf("%s can be listed: %v", path, err)
		}
	}
	for _, path := range []string{"gcpconnect/data/other/b", "gcpconnect/config", "sys/policies/acl/mine", "auth/token/create", "gcpconnect/undelete/tokens/a/b"} {
		if _, err := login.Logical().Write(path, map[string]any{"data": map[string]any{"k": "v"}}); !forbidden(err) {
			t.Errorf("%s can be written: %v", path, err)
		}
	}
}

func forbidden(err error) bool { return err != nil && strings.Contains(err.Error(), "Code: 403") }

func testSealed(t *testing.T, running *parts.Vault) {
	v, all := open(t, running, nil), root(t, running)
	version, err := v.Put(t.Context(), ref, token, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := all.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable || !strings.Contains(connect.MessageOf(err), "sealed") {
		t.Errorf("reading from a sealed vault: %v, want Unavailable", err)
	}
	if _, err := open(t, running, nil).Put(t.Context(), ref, token, version); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("logging in at a sealed vault: %v, want Unavailable", err)
	}
	if _, err := all.Sys().Unseal(running.UnsealKey.Reveal()); err != nil {
		t.Fatal(err)
	}
	got, at, err := v.Get(t.Context(), ref)
	if err != nil || at != version || got.Refresh != token.Refresh {
		t.Errorf("after unsealing: version %d, %v", at, err)
	}
}

func testRevokedSession(t *testing.T, running *parts.Vault) {
	v, all := open(t, running, nil), root(t, running)
	if _, _, err := v.Get(t.Context(), "none/none"); connect.CodeOf(err) != connect.NotFound {
		t.Fatal(err)
	}
	// All sessions of all AppRoles.
	if _, err := all.Logical().Write("sys/leases/revoke-prefix/auth/approle", nil); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 16 { // all at once, with the old token
		readers.Go(func() {
			if _, _, err := v.Get(t.Context(), "none/none"); connect.CodeOf(err) != connect.NotFound {
				t.Errorf("with a revoked session: %v, want a new login", err)
			}
		})
	}
	readers.Wait()
}

func testExpiry(t *testing.T, running *parts.Vault) {
	all := root(t, running)
	if _, err := all.Logical().Write("auth/approle/role/short", map[string]any{
		"token_policies": "gcpconnect", "token_ttl": "5s", "token_max_ttl": "5s",
	}); err != nil {
		t.Fatal(err)
	}
	role, err := all.Logical().Read("auth/approle/role/short/role-id")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := all.Logical().Write("auth/approle/role/short/secret-id", nil)
	if err != nil {
		t.Fatal(err)
	}
	logins := &counter{}
	v := open(t, running, func(o *vault.Options) {
		roleID, _ := role.Data["role_id"].(string)
		secretID, _ := secret.Data["secret_id"].(string)
		o.Auth, o.Wrap = vault.Auth{RoleID: roleID, SecretID: connect.Secret(secretID)}, in(logins)
	})
	for range 2 { // 5 s is within the margin: every call needs a new one
		if _, _, err := v.Get(t.Context(), "none/none"); connect.CodeOf(err) != connect.NotFound {
			t.Fatal(err)
		}
	}
	if logins.n.Load() != 2 {
		t.Errorf("%d logins, want one for each use of a token that is about to end", logins.n.Load())
	}
}

// counter counts requests to paths of an ending: logins by default.
type counter struct {
	suffix string
	n      atomic.Int32
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, cmp.Or(c.suffix, "/approle/login")) {
		c.n.Add(1)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func testGivenToken(t *testing.T, running *parts.Vault) {
	v := open(t, running, func(o *vault.Options) { o.Auth = vault.Auth{Token: running.RootToken} })
	if _, _, err := v.Get(t.Context(), "none/none"); connect.CodeOf(err) != connect.NotFound {
		t.Errorf("with a token that is given: %v", err)
	}
	bad := open(t, running, func(o *vault.Options) { o.Auth = vault.Auth{Token: "hvs.nobody"} })
	_, _, err := bad.Get(t.Context(), "none/none")
	if connect.CodeOf(err) != connect.Unavailable || strings.Contains(err.Error(), "hvs.nobody") {
		t.Errorf("with a wrong token: %v, want Unavailable and nothing of the token", err)
	}
}

// testRefused: what is refused for good costs no login a call.
func testRefused(t *testing.T, running *parts.Vault) {
	logins := &counter{}
	v := open(t, running, func(o *vault.Options) { o.Mount, o.Wrap = "sys", in(logins) })
	for range 3 {
		if _, _, err := v.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("reading what the policy denies: %v, want Unavailable", err)
		}
	}
	if n := logins.n.Load(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	wrong := open(t, running, func(o *vault.Options) { o.Auth.SecretID = "nobody" })
	if _, _, err := wrong.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("logging in with a wrong secret ID: %v, want Unavailable", err)
	}
}

func testClosed(t *testing.T, running *parts.Vault) {
	v := open(t, running, nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("reading from a vault that is closed: %v, want Unavailable", err)
	}
}

// testNoStore: a store that is not mounted is a fault of the deployment. It
// must not look like tokens that are gone.
func testNoStore(t *testing.T, running *parts.Vault) {
	v := open(t, running, func(o *vault.Options) { o.Mount, o.Auth = "elsewhere", vault.Auth{Token: running.RootToken} })
	if _, _, err := v.Get(t.Context(), ref); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("reading where no store is: %v, want Unavailable", err)
	}
	if _, err := v.Put(t.Context(), ref, token, 0); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("writing where no store is: %v, want Unavailable", err)
	}
}

// testLostAnswer: a write arrives and its answer does not. The client repeats
// it, and must not take its own write for another's.
func testLostAnswer(t *testing.T, running *parts.Vault) {
	v := open(t, running, func(o *vault.Options) { o.Wrap = in(&lossy{}) })
	version, err := v.Put(t.Context(), "lost/answer", token, 0)
	if err != nil || version != 1 {
		t.Fatalf("Put: version %d, %v", version, err)
	}
	other := token
	other.Access = "ya29.other"
	if _, err := v.Put(t.Context(), "lost/answer", other, 0); connect.CodeOf(err) != connect.Conflict {
		t.Errorf("another's write: %v, want Conflict", err)
	}
}

// lossy loses the first answer to a write of tokens.
type lossy struct{ lost atomic.Bool }

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/data/tokens/") && !l.lost.Swap(true) {
		_ = resp.Body.Close()
		return nil, http.ErrServerClosed
	}
	return resp, err
}

func testNothingLeft(t *testing.T, running *parts.Vault) {
	v, all := open(t, running, nil), root(t, running)
	if _, err := v.Put(t.Context(), "gone/gone", token, 0); err != nil {
		t.Fatal(err)
	}
	if err := v.Delete(t.Context(), "gone/gone"); err != nil {
		t.Fatal(err)
	}
	left, err := all.Logical().Read("gcpconnect/metadata/tokens/gone/gone")
	if err != nil || left != nil {
		t.Errorf("after a delete there is %v, %v", left, err)
	}
}

func TestVaultThatIsDown(t *testing.T) {
	t.Parallel()
	v, err := vault.New(vault.Options{Address: "http://127.0.0.1:1", Mount: "gcpconnect", Auth: vault.Auth{RoleID: "role", SecretID: "hidden"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Put(t.Context(), ref, token, 0)
	if connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("Put: %v, want Unavailable", err)
	}
	for _, secret := range []string{"hidden", token.Access.Reveal(), token.Refresh.Reveal()} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}
