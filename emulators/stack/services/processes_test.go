package services_test

import (
	"testing"

	"github.com/hashicorp/vault/api"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/stack/stacktest"
)

// Names that the tests of processes use for the harness.

const owner = googletest.Owner

type (
	locked = stacktest.Buffer

	services struct {
		firestore *parts.Firestore
		vault     *parts.Vault
	}
)

func (s services) environment() map[string]string {
	environment := stacktest.Services{Firestore: s.firestore, Vault: s.vault}.Environment()
	environment["VERIFY_INTERVAL"] = "1s"
	return environment
}

func scenario(n int, change func(*google.Scenario)) *google.Scenario {
	return googletest.Scenario(n, change)
}

func project(s *google.Scenario, id string) *google.Project { return googletest.Project(s, id) }

func show(v any) string { return stacktest.Show(v) }

func rootOf(t *testing.T, v *parts.Vault) *api.Client {
	t.Helper()
	return stacktest.VaultRoot(t, v)
}

func tokensIn(t *testing.T, root *api.Client) int {
	t.Helper()
	return stacktest.CountTokens(t, root)
}
