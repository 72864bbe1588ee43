package memory_test

import (
	"net/http"
	"net/url"
	"strings"

	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
)

// confirmAttacks are those against logins that are bound by a confirmation.
// Their browsers have no cookie: what comes back to the frontend with the
// victim's browser is what tells it from the attacker.
func confirmAttacks() []attack {
	return []attack{
		{name: "confirm: session fixation and guessed handles", run: guessedHandles, environment: stacktest.Confirming},
		{name: "confirm: replay of a callback", run: replayBeforeConfirm, environment: stacktest.Confirming},
		{name: "confirm: injected codes", run: injectedCodesToConfirm, environment: stacktest.Confirming},
		{name: "confirm: another user's confirmation", run: confirmOfAnother, environment: stacktest.Confirming},
	}
}

// The attacker has begun the login and the victim has consented. All that the
// attacker knows is the state, and all that can be made of it is no handle.
func guessedHandles(y *stacktest.System) {
	address := y.BeginServerLogin(attacker)
	handle := y.CallbackToConfirm(y.Consent(address, owner))
	state := address.Query().Get("state")
	before := y.State()
	key := connect.Hash(state)
	if !strings.HasPrefix(handle, key) || len(handle) < len(key)+26 {
		y.T.Fatalf("the handle is %q", handle)
	}
	for name, guess := range map[string]string{
		"the state": state, "its hash": key, "a hash of that": connect.Hash(key), "its hash and nothing": key + " ", "its hash and a name": key + connect.NewID(),
		"its hash twice": key + key, "cut": handle[:len(handle)-1], "longer": handle + "A", "in another case": strings.ToLower(handle),
		"with a path": "../" + handle, "a wildcard": key + "*", "another's": connect.Hash("x") + handle[len(key):], "the rest": handle[len(key):],
	} {
		if status := y.Confirm(attacker, guess); status != http.StatusNotFound {
			y.T.Errorf("a handle that is %s was answered %d", name, status)
		}
	}
	for name, body := range map[string]string{
		"none": `{}`, "empty": `{"task_id":""}`, "none at all": ``, "a list": `{"task_id":["` + handle + `"]}`, "twice": `{"task_id":"x","task_id":"` + handle + `"}`,
	} {
		if answer := y.Send(http.MethodPost, "/gcp/setup/confirm", body, append(stacktest.JSON, "X-User-ID", attacker)...); answer.Status != http.StatusBadRequest {
			y.T.Errorf("a handle that is %s was answered %d %s", name, answer.Status, answer.Body)
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
	y.WantNotConnected(victim, attacker)
}

// The address of the callback is called again: before the user has confirmed,
// and after. What the first browser got stays good, and no other gets anything.
func replayBeforeConfirm(y *stacktest.System) {
	back := y.Consent(y.BeginServerLogin(victim), owner)
	handle := y.CallbackToConfirm(back)
	before := y.State()
	for range 2 {
		if login := y.Callback(back, nil); login != "gcp_expired" {
			y.T.Errorf("a replay is told %s", login)
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
	y.WantNotConnected(victim)
	if status := y.Confirm(victim, handle); status != http.StatusOK {
		y.T.Fatalf("the victim's own confirmation was answered %d", status)
	}
	before = y.State()
	if login := y.Callback(back, nil); login != "gcp_expired" {
		y.T.Errorf("a replay after the confirmation is told %s", login)
	}
	if status := y.Confirm(victim, handle); status != http.StatusOK { // it says what was, and does nothing
		y.T.Errorf("a second confirmation was answered %d", status)
	}
	y.WantUnchanged(before, stacktest.Spent{})
}

// A code that was not given for this login comes with its state.
func injectedCodesToConfirm(y *stacktest.System) {
	for name, code := range map[string]func(own *url.URL) string{
		"another login's": func(*url.URL) string {
			return y.Consent(y.BeginServerLogin(attacker), stacktest.AttackerEmail).Get("code")
		},
		"without PKCE": func(own *url.URL) string { return y.CraftCode(own, "code_challenge", "", "code_challenge_method", "") },
		"with a challenge of the attacker's": func(own *url.URL) string {
			return y.CraftCode(own, "code_challenge", strings.Repeat("A", 43))
		},
		"that Google never gave": func(*url.URL) string { return "4/0AeanS0" },
	} {
		address := y.BeginServerLogin(victim)
		injected := code(address)
		before := y.State()
		if login := y.Callback(url.Values{"state": {address.Query().Get("state")}, "code": {injected}}, nil); login != "gcp_failed" {
			y.T.Errorf("a code %s is told %s", name, login)
		}
		y.WantUnchanged(before, stacktest.Spent{Used: 1, Codes: 1})
		y.WantNotConnected(victim, attacker)
	}
}

// Both have a login that waits. Neither can confirm the other's, nor see it.
func confirmOfAnother(y *stacktest.System) {
	theirs := y.CallbackToConfirm(y.Consent(y.BeginServerLogin(victim), owner))
	own := y.CallbackToConfirm(y.Consent(y.BeginServerLogin(attacker), stacktest.AttackerEmail))
	before := y.State()
	key := len(connect.Hash(""))
	for name, c := range map[string]struct{ user, handle string }{
		"the victim's handle": {attacker, theirs}, "the attacker's handle": {victim, own}, "a name alike": {"USER-1", theirs},
		"the victim's login with the attacker's end": {victim, theirs[:key] + own[key:]}, "the attacker's login with the victim's end": {attacker, own[:key] + theirs[key:]},
	} {
		if status := y.Confirm(c.user, c.handle); status != http.StatusNotFound {
			y.T.Errorf("%s was answered %d", name, status)
		}
	}
	if answer := y.Send(http.MethodGet, "/gcp/setup/status/"+theirs, "", "X-User-ID", attacker); answer.Status != http.StatusNotFound {
		y.T.Errorf("the victim's status was answered %d", answer.Status)
	}
	if answer := y.Send(http.MethodPost, "/gcp/setup/confirm?userId="+victim, `{"task_id":"`+theirs+`"}`, append(stacktest.JSON, "X-User-ID", attacker)...); answer.Status != http.StatusForbidden {
		y.T.Errorf("a confirmation in the victim's name was answered %d", answer.Status)
	}
	y.WantUnchanged(before, stacktest.Spent{})
	y.WantNotConnected(victim, attacker)
	if status := y.Confirm(victim, theirs); status != http.StatusOK {
		y.T.Errorf("after all of it the victim's own confirmation was answered %d", status)
	}
	if status := y.Confirm(attacker, theirs); status != http.StatusNotFound {
		y.T.Errorf("the victim's handle after that was answered %d", status)
	}
	y.WantNotConnected(attacker)
	y.State() // when its setup is done
}
