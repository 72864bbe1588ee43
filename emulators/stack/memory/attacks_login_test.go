package memory_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"

	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
)

// The attacker begins a login and lures the victim's browser to Google; the
// victim consents, and its cloud would be the attacker's.
func sessionFixation(y *stacktest.System) {
	address, cookie := y.BeginLogin(attacker)
	back := y.Consent(address, owner)
	before := y.State()
	if login := y.Callback(back, nil); login != "gcp_other_browser" {
		y.T.Errorf("the victim's browser is told %s", login)
	}
	y.WantUnchanged(before, stacktest.Spent{Used: 1})
	// Nor does the attacker's own browser get anything of it: the login is used up.
	if login := y.Callback(back, cookie); login != "gcp_expired" {
		y.T.Errorf("the attacker's browser is told %s", login)
	}
	y.WantUnchanged(before, stacktest.Spent{Used: 1})
	y.WantNotConnected(victim, attacker)
}

// The victim's browser has begun a login itself, so that it has a cookie.
func sessionFixationAmongTabs(y *stacktest.System) {
	_, own := y.BeginLogin(victim)
	address, _ := y.BeginLogin(attacker)
	back := y.Consent(address, owner)
	before := y.State()
	if login := y.Callback(back, own); login != "gcp_other_browser" {
		y.T.Errorf("the victim's browser is told %s", login)
	}
	y.WantUnchanged(before, stacktest.Spent{Used: 1})
	y.WantNotConnected(victim, attacker)
}

// The address of a callback that succeeded is called again, by the same
// browser and by others.
func replay(y *stacktest.System) {
	address, cookie := y.BeginLogin(victim)
	back := y.Consent(address, owner)
	if login := y.Callback(back, cookie); login != "gcp_setup_pending" {
		y.T.Fatalf("the first callback ended with %s", login)
	}
	before := y.State()
	_, others := y.BeginLogin(attacker)
	for range 2 {
		for _, c := range []*http.Cookie{cookie, nil, others} {
			if login := y.Callback(back, c); login != "gcp_expired" {
				y.T.Errorf("a replay is told %s", login)
			}
		}
	}
	y.WantUnchanged(before, stacktest.Spent{Logins: 1}) // the attacker's own login, begun
	y.WantNotConnected(attacker)
}

// The same callback comes ten times at once, as from a browser with a proxy
// that repeats requests: it is good once.
func replayAtOnce(y *stacktest.System) {
	address, cookie := y.BeginLogin(victim)
	back := y.Consent(address, owner)
	before := y.State()
	var group sync.WaitGroup
	told := make([]string, 10)
	for i := range told {
		group.Go(func() { told[i] = y.Callback(back, cookie) })
	}
	group.Wait()
	count := map[string]int{}
	for _, login := range told {
		count[login]++
	}
	if count["gcp_setup_pending"] != 1 || count["gcp_expired"] != 9 {
		y.T.Errorf("the browser is told %v", count)
	}
	if after := y.State(); after.Exchanges != before.Exchanges+1 || after.TokenWrites != before.TokenWrites+1 {
		y.T.Errorf("%d codes were exchanged and %d tokens stored, want 1 each", after.Exchanges-before.Exchanges, after.TokenWrites-before.TokenWrites)
	}
	if n := y.Google.CallCounts().ByMethod["iam.serviceAccounts.create"]; n != 2 {
		y.T.Errorf("%d service accounts were made, want the 2 of one setup", n)
	}
}

// States that nobody was given, with the victim's cookie and a good code.
func guessedStates(y *stacktest.System) {
	address, cookie := y.BeginLogin(victim)
	good := y.Consent(address, owner)
	before := y.State()
	state := good.Get("state")
	for name, guess := range map[string]string{
		"random": strings.Repeat("A", len(state)), "another case": strings.ToUpper(state), "cut": state[:len(state)-1], "longer": state + "A",
		"the hash that is stored": connect.Hash(state), "a path": "../logins/" + connect.Hash(state), "a wildcard": "*", "a zero": state + "\x00",
		"no text": "\xff\xfe", "a space": " " + state, "as long as may be": strings.Repeat("x", 512), "the original's": victim + "|org",
	} {
		good.Set("state", guess)
		if login := y.Callback(good, cookie); login != "gcp_expired" {
			y.T.Errorf("a state that is %s is told %s", name, login)
		}
	}
	for name, parameters := range map[string]string{
		"empty":     "state=&code=" + url.QueryEscape(good.Get("code")),
		"absent":    "code=" + url.QueryEscape(good.Get("code")),
		"oversized": "state=" + strings.Repeat("x", 513) + "&code=x",
		"huge":      "state=" + strings.Repeat("x", 9<<10) + "&code=x",
		"two":       "state=x&state=" + state + "&code=" + url.QueryEscape(good.Get("code")),
		"escaped":   "state=" + state + ";code=x",
	} {
		for _, header := range [][]string{nil, {"Cookie", cookie.Name + "=" + cookie.Value}} {
			if answer := y.Send(http.MethodGet, "/callback?"+parameters, "", header...); answer.Status != 400 && answer.Status != 414 || answer.Header.Get("Location") != "" {
				y.T.Errorf("a state that is %s is answered %d %s", name, answer.Status, answer.Body)
			}
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
	y.WantNotConnected(victim)
}

// A code that was not given for this login comes with its state, in the
// browser that began it: the victim would work in the attacker's cloud, or the
// attacker in the victim's.
func injectedCodes(y *stacktest.System) {
	inject := func(name, user string, code func(own *url.URL) string) {
		y.T.Helper()
		address, cookie := y.BeginLogin(user)
		injected := code(address)
		before := y.State()
		parameters := url.Values{"state": {address.Query().Get("state")}, "code": {injected}}
		if login := y.Callback(parameters, cookie); login != "gcp_failed" {
			y.T.Errorf("%s: the browser is told %s", name, login)
		}
		y.WantUnchanged(before, stacktest.Spent{Used: 1, Codes: 1})
		y.WantNotConnected(victim, attacker)
	}
	inject("the attacker's code in the victim's browser", victim, func(*url.URL) string {
		address, _ := y.BeginLogin(attacker)
		return y.Consent(address, stacktest.AttackerEmail).Get("code")
	})
	inject("the victim's stolen code in the attacker's browser", attacker, func(*url.URL) string {
		address, _ := y.BeginLogin(victim)
		return y.Consent(address, owner).Get("code")
	})
	inject("a code without PKCE", victim, func(own *url.URL) string {
		return y.CraftCode(own, "code_challenge", "", "code_challenge_method", "")
	})
	inject("a code with a challenge of the attacker's", victim, func(own *url.URL) string {
		return y.CraftCode(own, "code_challenge", strings.Repeat("A", 43))
	})
	inject("a code of another OAuth client", victim, func(own *url.URL) string {
		return y.CraftCode(own, "client_id", "evil.apps.googleusercontent.com", "redirect_uri", "http://127.0.0.1:1/evil")
	})
	inject("a code that Google never gave", victim, func(*url.URL) string { return "4/0AeanS0" })
}

// Cookies that are not the one of the login.
func forgedCookies(y *stacktest.System) {
	other, _ := http.ParseSetCookie("x=y")
	for name, forge := range map[string]func(c http.Cookie) *http.Cookie{
		"none":                   func(http.Cookie) *http.Cookie { return nil },
		"empty":                  func(c http.Cookie) *http.Cookie { c.Value = ""; return &c },
		"constant":               func(c http.Cookie) *http.Cookie { c.Value = "1"; return &c },
		"its hash":               func(c http.Cookie) *http.Cookie { c.Value = connect.Hash(c.Value); return &c },
		"in another case":        func(c http.Cookie) *http.Cookie { c.Value = strings.ToLower(c.Value); return &c },
		"cut":                    func(c http.Cookie) *http.Cookie { c.Value = c.Value[1:]; return &c },
		"another login's":        func(http.Cookie) *http.Cookie { _, other = y.BeginLogin(attacker); return other },
		"another login's value":  func(c http.Cookie) *http.Cookie { _, other = y.BeginLogin(attacker); c.Value = other.Value; return &c },
		"under another's name":   func(c http.Cookie) *http.Cookie { _, other = y.BeginLogin(attacker); c.Name = other.Name; return &c },
		"under a name too short": func(c http.Cookie) *http.Cookie { c.Name = c.Name[:len(c.Name)-16]; return &c },
		"with or without __Host-": func(c http.Cookie) *http.Cookie {
			plain, secure := strings.CutPrefix(c.Name, "__Host-")
			if !secure {
				plain = "__Host-" + c.Name
			}
			c.Name = plain
			return &c
		},
	} {
		address, cookie := y.BeginLogin(victim)
		forged := forge(*cookie)
		back := y.Consent(address, owner)
		before := y.State()
		if login := y.Callback(back, forged); login != "gcp_other_browser" {
			y.T.Errorf("a cookie that is %s is told %s", name, login)
		}
		y.WantUnchanged(before, stacktest.Spent{Used: 1})
	}
	y.WantNotConnected(victim, attacker)
}

// The token endpoint's answer holds an id_token that is good, but of another:
// of another login, client, audience or signer, or of nobody.
func foreignIDTokens(y *stacktest.System) {
	var stolen string // of a login of the same client, that the attacker has completed
	y.TokenEndpoint.Tamper(func(answer map[string]any) { stolen, _ = answer["id_token"].(string) })
	address, cookie := y.BeginLogin(attacker)
	if login := y.Callback(y.Consent(address, stacktest.AttackerEmail), cookie); login != "gcp_setup_pending" || stolen == "" {
		y.T.Fatalf("the attacker's own login ended with %s", login)
	}
	mint := func(audience string) string {
		token, err := y.Google.IDToken(owner, audience)
		if err != nil {
			y.T.Fatal(err)
		}
		return token
	}
	client := address.Query().Get("client_id")
	parts := strings.Split(stolen, ".")
	for name, token := range map[string]any{
		"another login's":         stolen,
		"another party's":         mint(client),
		"for another audience":    mint("https://evil.example"),
		"for several audiences":   mint(client + " evil"),
		"unsigned":                "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"with another's claims":   parts[0] + "." + strings.Split(mint(client), ".")[1] + "." + parts[2],
		"none":                    "",
		"no text":                 7,
		"an access token instead": "ya29.a0",
	} {
		y.TokenEndpoint.Tamper(func(answer map[string]any) { answer["id_token"] = token })
		address, cookie := y.BeginLogin(victim)
		back := y.Consent(address, owner)
		before := y.State()
		if login := y.Callback(back, cookie); login != "gcp_failed" {
			y.T.Errorf("an id_token that is %s is told %s", name, login)
		}
		y.WantUnchanged(before, stacktest.Spent{Used: 1, Codes: 1, Tokens: true})
	}
	// The code has the challenge of the victim's login, so that PKCE lets it
	// pass; the nonce in the id_token is of another.
	y.TokenEndpoint.Tamper(nil)
	for name, nonce := range map[string]string{"another": "another", "no": ""} {
		address, cookie = y.BeginLogin(victim)
		code := y.CraftCode(address, "nonce", nonce)
		before := y.State()
		if login := y.Callback(url.Values{"state": {address.Query().Get("state")}, "code": {code}}, cookie); login != "gcp_failed" {
			y.T.Errorf("a code with %s nonce is told %s", name, login)
		}
		y.WantUnchanged(before, stacktest.Spent{Used: 1, Codes: 1, Tokens: true})
	}
	y.WantNotConnected(victim)
}

// The callback's redirect goes to the frontend, whatever the request says.
func openRedirect(y *stacktest.System) {
	const evil = "https://evil.example/"
	address, cookie := y.BeginLogin(victim)
	back := y.Consent(address, owner)
	before := y.State()
	for _, name := range []string{"redirect", "redirect_uri", "redirect_url", "next", "return_to", "returnTo", "continue", "url", "FRONTURL", "iss"} {
		for _, target := range []string{evil, "//evil.example", "javascript:alert(1)", "http:evil.example", `\\evil.example`, "/..//evil.example"} {
			for _, host := range []string{"evil.example", strings.TrimPrefix(y.URL, "http://") + ".evil.example"} {
				y.Callback(url.Values{"state": {"guessed"}, "error": {"access_denied"}, name: {target}}, cookie,
					"Host", host, "X-Forwarded-Host", host, "Referer", evil, "Origin", evil)
			}
		}
	}
	// An error and its words are Google's to say, and nobody's in our address.
	y.Callback(url.Values{"state": {"guessed"}, "error": {"x&login=gcp_setup_pending#"}, "error_description": {evil}}, cookie)
	for _, path := range []string{"//evil.example/..//callback?state=x&code=y", "/%2f%2fevil.example", "//evil.example", "/\\evil.example", "/callback/..//evil.example"} {
		answer := y.Send(http.MethodGet, path, "")
		if to, err := url.Parse(answer.Header.Get("Location")); err != nil || to.Host != "" || strings.HasPrefix(to.Path, "//") || strings.HasPrefix(to.Path, `/\`) {
			y.T.Errorf("%s leads to %q", path, answer.Header.Get("Location"))
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
	if login := y.Callback(back, cookie); login != "gcp_setup_pending" {
		y.T.Errorf("after all of it the victim's own login ended with %s", login)
	}
	y.State() // when its setup is done
}
