package connecttest

import (
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// Login returns a login of a user that began at that time.
func Login(t testing.TB, userID, state, browser string, now time.Time) *connect.Login {
	t.Helper()
	l, err := connect.NewLogin(userID, "", state, browser, now)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
