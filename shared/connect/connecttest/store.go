package connecttest

import (
	"testing"

	"gcpconnect/shared/connect"
)

// storeCase is one promise of connect.Store.
type storeCase = testCase[connect.Store]

// TestStore checks that a store keeps the promises of connect.Store. It calls
// newStore once.
func TestStore(t *testing.T, newStore func(t *testing.T) connect.Store) {
	t.Helper()
	s := newStore(t)
	for _, p := range []part[connect.Store]{
		{"Logins", loginCases},
		{"Connections", connectionCases},
		{"Setups", setupCases},
		{"Transactions", transactionCases},
		{"Users", userCases},
		{"Changes", changeCases},
		{"Resources", resourceCases},
		{"DeleteResources", deleteCases},
		{"Discoveries", discoveryCases},
	} {
		t.Run(p.name, func(t *testing.T) { run(t, s, p.cases) })
	}
}
