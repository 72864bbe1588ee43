package main

import (
	"fmt"
	"os"
	"testing"

	"gcpconnect/emulators/parts/partstest"
)

// TestMain has the test's own program be the functions, as main does.
func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(functionsMark); !ok {
		os.Exit(m.Run())
	}
	if err := serveFunctions(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A small crowd and a setup of many projects end FULL although the functions' process is replaced
// meanwhile: no task is lost, and every request is answered or told when to come back.
func TestLoad_SmallCrowdEndsFull(t *testing.T) {
	l := &load{size: small(), out: t.Output(), dir: t.TempDir()}
	if err := l.run(t.Context(), partstest.Firestore(t), partstest.Vault(t)); err != nil {
		t.Error(err)
	}
}
