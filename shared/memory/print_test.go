package memory_test

import (
	"testing"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/memory"
)

func TestVault_PrintsNoToken(t *testing.T) {
	t.Parallel()
	v := memory.NewVault()
	if _, err := v.Put(t.Context(), "ref", connect.Token{Access: "very-secret", Refresh: "very-secret"}, 0); err != nil {
		t.Fatal(err)
	}
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{"a Vault in memory": v})
}
