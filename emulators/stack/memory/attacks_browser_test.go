package memory_test

import (
	"net/http"
	"net/url"
	"strings"

	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions"
)

// What a proxy may say of a request moves neither the redirect URI nor the
// frontend, and leads to no other function.
func proxyHeaders(y *stacktest.System) {
	lies := []string{
		"Host", "evil.example", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http", "X-Forwarded-Port", "666", "X-Forwarded-For", "127.0.0.1",
		"X-Forwarded-Prefix", "/evil", "Forwarded", "host=evil.example;proto=http", "X-Original-Host", "evil.example", "X-Host", "evil.example",
		"X-Original-URL", "/tasks/enable-apis", "X-Rewrite-URL", "/tasks/enable-apis", "X-HTTP-Method-Override", "DELETE", "X-Real-IP", "127.0.0.1",
	}
	truth, _ := y.BeginLogin(victim)
	answer := y.Send(http.MethodPost, "/login", "", append(lies, "X-User-ID", victim)...)
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil {
		y.T.Fatal(err)
	}
	lied, err := url.Parse(login.URL)
	if err != nil {
		y.T.Fatal(err)
	}
	if lied.Host != truth.Host || lied.Path != truth.Path || lied.Query().Get("redirect_uri") != truth.Query().Get("redirect_uri") {
		y.T.Errorf("the login leads to %s, want %s", lied, truth)
	}
	if cookie := answer.Header.Get("Set-Cookie"); strings.Contains(strings.ToLower(cookie), "domain=") || !strings.Contains(cookie, "HttpOnly") ||
		strings.Contains(cookie, "Secure") != strings.Contains(truth.Query().Get("redirect_uri"), "https://") {
		y.T.Errorf("the cookie is %s", cookie)
	}
	before := y.State()
	for _, path := range []string{"/nowhere", "/", "/tasks/"} {
		if answer := y.Send(http.MethodPost, path, "", append(lies, "X-User-ID", victim)...); answer.Status != http.StatusNotFound && answer.Status != http.StatusMethodNotAllowed {
			y.T.Errorf("%s was answered %d %s", path, answer.Status, answer.Body)
		}
	}
	if answer := y.Send(http.MethodGet, "/api/gcp/connection", "", append(lies, "X-User-ID", victim)...); answer.Status != http.StatusOK {
		y.T.Errorf("the connection was answered %d %s", answer.Status, answer.Body)
	}
	y.Callback(url.Values{"state": {"guessed"}, "code": {"x"}}, nil, lies...) // to the frontend, or it fails
	y.WantUnchanged(before, stacktest.Spent{})
}

// Pages that are not the frontend's may neither read answers nor send
// requests that need a preflight; and what needs none does nothing.
func foreignPages(y *stacktest.System) {
	y.ConnectVictim()
	_, cookie := y.BeginLogin(victim)
	before := y.State()
	own := y.URL
	for _, origin := range []string{
		"https://evil.example", "null", "", "*", own + ".evil.example", own + "@evil.example", own + "/", own + "0", own + ":80", own + "," + own,
		"https" + strings.TrimPrefix(own, "http"), "http://evil.example/" + own, "http://evil" + strings.TrimPrefix(own, "http://"), strings.Replace(own, "127.0.0.1", "localhost", 1),
		"file://", "chrome-extension://x", "http://127.0.0.1",
	} {
		for _, f := range functions.Table() {
			for _, r := range f.Routes {
				path := strings.ReplaceAll(r.Path, "{task_id}", "SETUP")
				for _, answer := range []http.Header{
					y.Send(http.MethodOptions, path, "", "Origin", origin, "Access-Control-Request-Method", r.Method, "Access-Control-Request-Headers", "content-type,x-user-id").Header,
					y.Send(r.Method, path, "", "Origin", origin).Header, // nobody's: a page cannot say who it is
				} {
					for name := range answer {
						if strings.HasPrefix(name, "Access-Control-Allow-") {
							y.T.Errorf("%s %s from %q is answered %s: %s", r.Method, r.Path, origin, name, answer.Get(name))
						}
					}
				}
			}
		}
	}
	// A form, or what a page may send as text, with the browser's cookies: it
	// needs no preflight.
	for _, media := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""} {
		for _, f := range functions.Table() {
			for _, r := range f.Routes {
				if r.Method != http.MethodPost || f.Caller == functions.CallerBrowser {
					continue
				}
				header := []string{"Origin", "https://evil.example", "Cookie", cookie.Name + "=" + cookie.Value, "X-User-ID", victim} // were there a way to set it
				if f.Caller == functions.CallerQueue {
					header = append(header, "X-CloudTasks-TaskName", "t")
				}
				if media != "" {
					header = append(header, "Content-Type", media)
				}
				if answer := y.Send(http.MethodPost, r.Path, `{"projects":[]}`, header...); answer.Status != http.StatusUnsupportedMediaType {
					y.T.Errorf("%s took %q: %d %s", r.Path, media, answer.Status, answer.Body)
				}
			}
		}
	}
	y.WantUnchanged(before, stacktest.Spent{})
	if got := y.Send(http.MethodGet, "/api/gcp/connection", "", "Origin", own, "X-User-ID", victim).Header.Get("Access-Control-Allow-Origin"); got != own {
		y.T.Errorf("the frontend's own page may not read: %q", got)
	}
}
