package parts_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/connect/connecttest"
)

func TestAPartThatIsStoppedIsGoneAndCanBeStoppedAgain(t *testing.T) {
	t.Parallel()
	firestore := partstest.OwnFirestore(t)
	began := time.Now()
	for range 2 {
		if err := firestore.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", firestore.Address); err == nil {
		_ = conn.Close()
		t.Error("it still serves")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	again, err := parts.StartFirestore(t.Context(), firestore.Address, t.TempDir())
	if err != nil {
		t.Fatalf("its address cannot be used again: %v", err)
	}
	if err := again.Stop(); err != nil {
		t.Error(err)
	}
}

func TestVault_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	connecttest.WantNotPrinted(t, "very-secret", map[string]any{"a Vault": parts.Vault{RootToken: "very-secret", UnsealKey: "very-secret", SecretID: "very-secret"}})
}

func TestAPartThatCannotStartSaysWhyAndWhereItsLogIs(t *testing.T) {
	t.Parallel()
	taken := partstest.Firestore(t)
	logs := t.TempDir()
	if _, err := parts.StartVault(t.Context(), taken.Address, logs); err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), logs) {
		t.Errorf("StartVault on an address that is taken: %v, want why and the log", err)
	}
}
