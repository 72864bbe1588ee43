package stacktest

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/connect"
)

// Services are real services that several systems share. Each system has a
// project of its own in Firestore.
type Services struct {
	Firestore *parts.Firestore
	Vault     *parts.Vault
}

// SharedServices returns the services of the test process. Tests must not stop,
// pause or seal them.
func SharedServices(t testing.TB) Services {
	t.Helper()
	return Services{partstest.Firestore(t), partstest.Vault(t)}
}

// Environment returns an environment of functions over the services, with a new
// project in Firestore.
func (s Services) Environment() map[string]string {
	return map[string]string{
		"FIRESTORE_EMULATOR_HOST": s.Firestore.Address, "GOOGLE_CLOUD_PROJECT": "test-" + strings.ToLower(connect.NewID()),
		"VAULT_ADDR": s.Vault.Address, "VAULT_ROLE_ID": s.Vault.RoleID, "VAULT_SECRET_ID": s.Vault.SecretID.Reveal(),
		"VERIFY_INTERVAL": "250ms", "OPERATION_GRACE": "100ms", // Google takes no time here
		"CALL_TIMEOUT": "1m", // which a busy machine may take
	}
}

// VaultRoot returns a client of a Vault that may do everything.
func VaultRoot(t testing.TB, v *parts.Vault) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: v.Address})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(v.RootToken.Reveal())
	return c
}

// HasToken reports whether a Vault has something stored under a reference.
func HasToken(t testing.TB, root *api.Client, ref connect.TokenRef) bool {
	t.Helper()
	stored, err := root.Logical().Read("gcpconnect/metadata/tokens/" + string(ref))
	if err != nil {
		t.Fatal(err)
	}
	return stored != nil
}

// CountTokens counts the tokens in a Vault.
func CountTokens(t testing.TB, root *api.Client) int {
	t.Helper()
	list, err := root.Logical().List("gcpconnect/metadata/tokens")
	if err != nil {
		t.Fatal(err)
	}
	if list == nil {
		return 0
	}
	tokens, _ := list.Data["keys"].([]any)
	return len(tokens)
}
