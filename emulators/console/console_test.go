// Package console_test uses the console as people do, in a real browser, over
// the whole system.
package console_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"gcpconnect/emulators/console"
	"gcpconnect/emulators/google"
	"gcpconnect/functions"
)

// serve asks a handler for a path.
func serve(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://console.example"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryFileIsServedAsWhatItIsUnderAStrictPolicy(t *testing.T) {
	t.Parallel()
	h := console.Handler()
	for file, media := range map[string]string{
		"/": "text/html; charset=utf-8", "/console/main.js": "text/javascript; charset=utf-8", "/console/views/setup.js": "text/javascript; charset=utf-8",
		"/console/style.css": "text/css; charset=utf-8", "/console/icon.svg": "image/svg+xml", "/console/fonts/geist.woff2": "font/woff2",
		"/console/vendor/preact.LICENSE": "text/plain; charset=utf-8",
	} {
		w := serve(h, http.MethodGet, file)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != media || w.Body.Len() == 0 {
			t.Errorf("%s is answered %d as %q", file, w.Code, w.Header().Get("Content-Type"))
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s has the policy %q", file, policy)
		}
		if again := serve(h, http.MethodGet, file, "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s is answered %d to who has it", file, again.Code)
		}
	}
	for _, file := range []string{"/console/", "/console/web/main.js", "/console/../go.mod", "/index.html"} {
		if w := serve(h, http.MethodGet, file); w.Code == http.StatusOK {
			t.Errorf("%s is answered", file)
		}
	}
}

// Modules that are not there, and inline scripts and styles, would be seen only
// by who opens the very view.
func TestModulesImportWhatIsThere(t *testing.T) {
	t.Parallel()
	web := os.DirFS("web")
	names, err := filesOf(web, ".js")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range names {
		for _, imported := range regexp.MustCompile(`(?m)^(?:import|export) (?:[^'";=]* from ?)?['"]([^'"]+)['"];`).FindAllStringSubmatch(content, -1) {
			if _, ok := names[path.Join(path.Dir(name), imported[1])]; !ok {
				t.Errorf("%s imports %s, which is not there", name, imported[1])
			}
		}
		if strings.HasPrefix(name, "vendor/") {
			continue
		}
		for _, forbidden := range []string{"innerHTML", "eval(", "new Function", "document.write", "sessionStorage", "style=\""} {
			if strings.Contains(content, forbidden) {
				t.Errorf("%s has %s", name, forbidden)
			}
		}
	}
}

// The words for every ending of a login are those of the functions.
func TestEveryEndingOfALoginIsKnown(t *testing.T) {
	t.Parallel()
	words, err := os.ReadFile("web/words.js")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(words), `\'`, `'`)
	for _, ending := range functions.LoginEndings() {
		if !strings.Contains(text, "\n  "+ending.Value+": {") || !strings.Contains(text, ending.Text) {
			t.Errorf("words.js lacks %s: %s", ending.Value, ending.Text)
		}
	}
}

func TestScenariosCanBePlayed(t *testing.T) {
	t.Parallel()
	scenarios, err := console.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	if len(scenarios) < 5 || scenarios[0].Name != "default" {
		t.Errorf("the scenarios are %v", scenarios)
	}
	server, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	developers, err := console.Developers(server)
	if err != nil {
		t.Fatal(err)
	}
	standard := google.DefaultScenario()
	for _, s := range scenarios {
		if s.Description == "" {
			t.Errorf("%s is not described", s.Name)
		}
		w := serve(developers, http.MethodGet, "/dev/scenarios/"+s.Name)
		scenario, err := google.ParseScenario(w.Body.Bytes())
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		// A stack that runs knows this client and this account of the platform.
		if scenario.Clients[0].ID != standard.Clients[0].ID || scenario.Clients[0].Secret != standard.Clients[0].Secret || scenario.Metadata == nil || *scenario.Metadata != *standard.Metadata {
			t.Errorf("%s has another client or platform than the default scenario", s.Name)
		}
		if err := server.Load(scenario); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

func TestDevelopersReachAPartOfGooglesAdministrationFromTheirOwnOrigin(t *testing.T) {
	t.Parallel()
	server, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := console.Developers(server)
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]int{
		"GET /dev/admin/calls": 200, "GET /dev/admin/calls?detail=true&skip=3": 200, "DELETE /dev/admin/faults": 200,
		"POST /dev/admin/tokens": 404, "GET /dev/admin/snapshot": 404, "GET /dev/token": 404, "GET /dev/scenarios/none": 404,
		"POST /dev/admin/users/demo@example.com/rapt": 200, "POST /dev/admin/users/demo@example.com/restore": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		if w := serve(h, method, path); w.Code != want {
			t.Errorf("%s is answered %d %s, want %d", request, w.Code, w.Body, want)
		}
	}
	for _, origin := range []string{"https://evil.example", "null"} {
		if w := serve(h, http.MethodDelete, "/dev/admin/faults", "Origin", origin, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
			t.Errorf("a page of %s is answered %d", origin, w.Code)
		}
	}
	if w := serve(h, http.MethodDelete, "/dev/admin/faults", "Origin", "http://console.example", "Sec-Fetch-Site", "same-origin"); w.Code != http.StatusOK {
		t.Errorf("the console is answered %d", w.Code)
	}
}
