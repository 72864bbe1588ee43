package firestore_test

import (
	"strings"
	"testing"

	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/firestore"
)

// open returns a store of a project of its own, and the project.
func open(t *testing.T, emulator string) (s *firestore.Store, project string) {
	t.Helper()
	project = "test-" + strings.ToLower(connect.NewID())
	s, err := firestore.New(t.Context(), firestore.Options{Project: project, Emulator: emulator})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, project
}

func TestStore(t *testing.T) {
	t.Parallel()
	emulator := partstest.Firestore(t)
	t.Run("fields of documents", func(t *testing.T) { testFields(t, emulator.Address) })
	t.Run("writes", func(t *testing.T) { testWrites(t, emulator.Address) })
	t.Run("errors of closures", func(t *testing.T) { testClosuresErrors(t, emulator.Address) })
	t.Run("lost answers", func(t *testing.T) { testLostAnswers(t, emulator.Address) })
	connecttest.TestStore(t, func(t *testing.T) connect.Store {
		s, _ := open(t, emulator.Address)
		return s
	})
}
