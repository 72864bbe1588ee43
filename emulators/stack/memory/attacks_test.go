package memory_test

import (
	"testing"

	"gcpconnect/emulators/stack/stacktest"
)

// The victim is the owner of every project; the attacker has a Google account
// too, and sees one project of its own.
const (
	victim   = stacktest.UserID
	attacker = stacktest.Attacker
)

// An attack runs against a whole system, and fails the test if it comes to
// anything.
type attack struct {
	name        string
	run         func(*stacktest.System)
	environment map[string]string
}

// attacks are all of them; each runs in memory, but those of callers with
// tokens, and over the real services.
func attacks() []attack {
	secure := map[string]string{"NEXT_PUBLIC_BACKEND_URL": "https://backend.example"}
	return append(confirmAttacks(), []attack{
		{name: "session fixation", run: sessionFixation},
		{name: "session fixation of a browser with a login of its own", run: sessionFixationAmongTabs},
		{name: "replay of a callback", run: replay},
		{name: "ten callbacks at once", run: replayAtOnce},
		{name: "guessed states", run: guessedStates},
		{name: "injected codes", run: injectedCodes},
		{name: "forged cookies", run: forgedCookies},
		{name: "forged cookies over HTTPS", run: forgedCookies, environment: secure},
		{name: "id_tokens of another", run: foreignIDTokens},
		{name: "open redirect", run: openRedirect},
		{name: "another user's data", run: otherUsersData},
		{name: "another user's data by one who is connected", run: otherUsersDataConnected},
		{name: "forged tasks", run: forgedTasks},
		{name: "tasks of another generation", run: foreignTasks},
		{name: "headers of proxies", run: proxyHeaders},
		{name: "headers of proxies over HTTPS", run: proxyHeaders, environment: secure},
		{name: "pages of other origins", run: foreignPages},
	}...)
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, stacktest.AttackedScenario(), a.environment, a.run)
		})
	}
}
