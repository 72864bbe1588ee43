package vault_test

import (
	"testing"

	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/vault"
)

func TestVault_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "very-secret"
	opened, err := vault.New(vault.Options{Address: "http://127.0.0.1:1", Mount: "m", Auth: vault.Auth{Token: secret}})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	connecttest.WantNotPrinted(t, secret, map[string]any{
		"a token": vault.Auth{Token: secret}, "options": vault.Options{Auth: vault.Auth{RoleID: "r", SecretID: secret}}, "a Vault": opened,
	})
}
