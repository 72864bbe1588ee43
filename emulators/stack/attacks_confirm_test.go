package stack_test

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"gcpconnect/shared/connect"
)

// confirmAttacks are those against logins that are bound by a confirmation.
// Their browsers have no cookie: what comes back to the frontend with the
// victim's browser is what tells it from the attacker.
func confirmAttacks() []attack {
	backend := map[string]string{"AUTH": "backend", "BACKEND_SERVICE_ACCOUNTS": backendAccount, "HOST": "127.0.0.1"}
	maps.Copy(backend, confirming)
	return []attack{
		{name: "confirm: session fixation and guessed handles", run: guessedHandles, environment: confirming},
		{name: "confirm: replay of a callback", run: replayBeforeConfirm, environment: confirming},
		{name: "confirm: injected codes", run: injectedCodesToConfirm, environment: confirming},
		{name: "confirm: another user's confirmation", run: confirmOfAnother, environment: confirming},
		{name: "confirm: ten confirmations at once", run: confirmAtOnce, environment: confirming},
		{name: "confirm: callers with tokens", run: confirmWithTokens, environment: backend, callers: true},
	}
}

// beginning begins a login as a server does for its user, and returns the
// address of the consent page.
func (y *system) beginning(user string, header ...string) *url.URL {
	y.t.Helper()
	answer := y.send(http.MethodPost, "/login", "", append(header, "X-User-ID", user)...)
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil || answer.Status != http.StatusOK || answer.Header.Get("Set-Cookie") != "" {
		y.t.Fatal(answer.Status, answer.Header, err)
	}
	address, err := url.Parse(login.URL)
	if err != nil {
		y.t.Fatal(err)
	}
	return address
}

// comeBack comes back from Google, and returns what the frontend is to confirm.
func (y *system) comeBack(parameters url.Values) (handle string) {
	y.t.Helper()
	answer := y.send(http.MethodGet, "/callback?"+parameters.Encode(), "")
	to, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || to.Query().Get("login") != "gcp_confirm" || to.Query().Get("task_id") == "" {
		y.t.Fatalf("the callback answered %d to %q", answer.Status, answer.Header.Get("Location"))
	}
	return to.Query().Get("task_id")
}

// confirm posts a handle, and returns the answer's status.
func (y *system) confirm(user, handle string, header ...string) int {
	y.t.Helper()
	header = append(append(header, asJSON...), "X-User-ID", user)
	return y.send(http.MethodPost, "/gcp/setup/confirm", `{"task_id":"`+handle+`"}`, header...).Status
}

// The attacker has begun the login and the victim has consented. All that the
// attacker knows is the state, and all that can be made of it is no handle.
func guessedHandles(y *system) {
	address := y.beginning(attacker)
	handle := y.comeBack(y.consent(address, owner))
	state := address.Query().Get("state")
	before := y.state()
	key := connect.Hash(state)
	if !strings.HasPrefix(handle, key) || len(handle) < len(key)+26 {
		y.t.Fatalf("the handle is %q", handle)
	}
	for name, guess := range map[string]string{
		"the state": state, "its hash": key, "a hash of that": connect.Hash(key), "its hash and nothing": key + " ", "its hash and a name": key + connect.NewID(),
		"its hash twice": key + key, "cut": handle[:len(handle)-1], "longer": handle + "A", "in another case": strings.ToLower(handle),
		"with a path": "../" + handle, "a wildcard": key + "*", "another's": connect.Hash("x") + handle[len(key):], "the rest": handle[len(key):],
	} {
		if status := y.confirm(attacker, guess); status != http.StatusNotFound {
			y.t.Errorf("a handle that is %s was answered %d", name, status)
		}
	}
	for name, body := range map[string]string{
		"none": `{}`, "empty": `{"task_id":""}`, "none at all": ``, "a list": `{"task_id":["` + handle + `"]}`, "twice": `{"task_id":"x","task_id":"` + handle + `"}`,
	} {
		if answer := y.send(http.MethodPost, "/gcp/setup/confirm", body, append(asJSON, "X-User-ID", attacker)...); answer.Status != http.StatusBadRequest {
			y.t.Errorf("a handle that is %s was answered %d %s", name, answer.Status, answer.Body)
		}
	}
	y.unharmed(before, spent{})
	y.unconnected(victim, attacker)
}

// The address of the callback is called again: before the user has confirmed,
// and after. What the first browser got stays good, and no other gets anything.
func replayBeforeConfirm(y *system) {
	back := y.consent(y.beginning(victim), owner)
	handle := y.comeBack(back)
	before := y.state()
	for range 2 {
		if login := y.callback(back, nil); login != "gcp_expired" {
			y.t.Errorf("a replay is told %s", login)
		}
	}
	y.unharmed(before, spent{})
	y.unconnected(victim)
	if status := y.confirm(victim, handle); status != http.StatusOK {
		y.t.Fatalf("the victim's own confirmation was answered %d", status)
	}
	before = y.state()
	if login := y.callback(back, nil); login != "gcp_expired" {
		y.t.Errorf("a replay after the confirmation is told %s", login)
	}
	if status := y.confirm(victim, handle); status != http.StatusOK { // it says what was, and does nothing
		y.t.Errorf("a second confirmation was answered %d", status)
	}
	y.unharmed(before, spent{})
}

// A code that was not given for this login comes with its state.
func injectedCodesToConfirm(y *system) {
	for name, code := range map[string]func(own *url.URL) string{
		"another login's": func(*url.URL) string { return y.consent(y.beginning(attacker), attackerEmail).Get("code") },
		"without PKCE":    func(own *url.URL) string { return y.crafted(own, "code_challenge", "", "code_challenge_method", "") },
		"with a challenge of the attacker's": func(own *url.URL) string {
			return y.crafted(own, "code_challenge", strings.Repeat("A", 43))
		},
		"that Google never gave": func(*url.URL) string { return "4/0AeanS0" },
	} {
		address := y.beginning(victim)
		injected := code(address)
		before := y.state()
		if login := y.callback(url.Values{"state": {address.Query().Get("state")}, "code": {injected}}, nil); login != "gcp_failed" {
			y.t.Errorf("a code %s is told %s", name, login)
		}
		y.unharmed(before, spent{used: 1, codes: 1})
		y.unconnected(victim, attacker)
	}
}

// Both have a login that waits. Neither can confirm the other's, nor see it.
func confirmOfAnother(y *system) {
	theirs := y.comeBack(y.consent(y.beginning(victim), owner))
	own := y.comeBack(y.consent(y.beginning(attacker), attackerEmail))
	before := y.state()
	key := len(connect.Hash(""))
	for name, c := range map[string]struct{ user, handle string }{
		"the victim's handle": {attacker, theirs}, "the attacker's handle": {victim, own}, "a name alike": {"USER-1", theirs},
		"the victim's login with the attacker's end": {victim, theirs[:key] + own[key:]}, "the attacker's login with the victim's end": {attacker, own[:key] + theirs[key:]},
	} {
		if status := y.confirm(c.user, c.handle); status != http.StatusNotFound {
			y.t.Errorf("%s was answered %d", name, status)
		}
	}
	if answer := y.send(http.MethodGet, "/gcp/setup/status/"+theirs, "", "X-User-ID", attacker); answer.Status != http.StatusNotFound {
		y.t.Errorf("the victim's status was answered %d", answer.Status)
	}
	if answer := y.send(http.MethodPost, "/gcp/setup/confirm?userId="+victim, `{"task_id":"`+theirs+`"}`, append(asJSON, "X-User-ID", attacker)...); answer.Status != http.StatusForbidden {
		y.t.Errorf("a confirmation in the victim's name was answered %d", answer.Status)
	}
	y.unharmed(before, spent{})
	y.unconnected(victim, attacker)
	if status := y.confirm(victim, theirs); status != http.StatusOK {
		y.t.Errorf("after all of it the victim's own confirmation was answered %d", status)
	}
	if status := y.confirm(attacker, theirs); status != http.StatusNotFound {
		y.t.Errorf("the victim's handle after that was answered %d", status)
	}
	y.unconnected(attacker)
	y.state() // when its setup is done
}

// A confirmation that comes ten times at once makes one connection.
func confirmAtOnce(y *system) {
	handle := y.comeBack(y.consent(y.beginning(victim), owner))
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if status := y.confirm(victim, handle); status != http.StatusOK && status != http.StatusConflict {
				y.t.Errorf("a confirmation was answered %d", status)
			}
		})
	}
	group.Wait()
	y.state()
	if n := y.Google.CallCounts().ByMethod["iam.serviceAccounts.create"]; n != 2 {
		y.t.Errorf("%d service accounts were made, want the 2 of one setup", n)
	}
}

// Only the backend may confirm, and for the user whom it names.
func confirmWithTokens(y *system) {
	asBackend := y.bearer(backendAccount, y.URL)
	handle := y.comeBack(y.consent(y.beginning(victim, asBackend...), owner))
	before := y.state()
	for who, c := range map[string]struct {
		user   string
		header []string
		want   int
	}{
		"nobody":                       {victim, nil, 401},
		"the backend for another user": {attacker, asBackend, 404},
		"the backend for another":      {victim, y.bearer(backendAccount, "https://elsewhere.example"), 401},
		"another service":              {victim, y.bearer("evil@evil.iam.gserviceaccount.com", y.URL), 403},
		"the queue":                    {victim, y.bearer("queue@aurora-local.iam.gserviceaccount.com", y.URL+"/tasks/enable-apis"), 401},
		"a token of Google's":          {victim, []string{"Authorization", "Bearer ya29.a0"}, 401},
	} {
		if status := y.confirm(c.user, handle, c.header...); status != c.want {
			y.t.Errorf("a confirmation of %s was answered %d, want %d", who, status, c.want)
		}
	}
	if answer := y.send(http.MethodPost, "/gcp/setup/confirm", `{"task_id":"`+handle+`"}`, append(asBackend, asJSON...)...); answer.Status != http.StatusUnauthorized && answer.Status != http.StatusBadRequest {
		y.t.Errorf("a backend that names nobody was answered %d %s", answer.Status, answer.Body)
	}
	y.unharmed(before, spent{})
	if status := y.confirm(victim, handle, asBackend...); status != http.StatusOK {
		y.t.Errorf("the victim's own confirmation was answered %d", status)
	}
	y.state()
}
