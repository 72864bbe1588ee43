package functions

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every value of login that the code knows has words of its own, and the
// README says the same.
func TestEveryEndingOfALoginHasItsOwnText(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("logins.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]string{}
	texts := map[string]bool{}
	for _, e := range LoginEndings() {
		if e.Text == "" || texts[e.Text] {
			t.Errorf("%s has no text of its own", e.Value)
		}
		words[e.Value], texts[e.Text] = e.Text, true
		if row := "| `" + e.Value + "` | " + e.Text + " |"; !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
	for _, value := range regexp.MustCompile(`= "(gcp_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		if words[value[1]] == "" {
			t.Errorf("%s has no text", value[1])
		}
	}
	for refusal, value := range refusals {
		if words[value] == "" {
			t.Errorf("Google's %s ends with %q, which has no text", refusal, value)
		}
	}
}

// The README's list of endpoints and the table of functions are the same.
func TestREADMEListsEveryRoute(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(GET|POST) (/[^`]*)` \\|").FindAllStringSubmatch(string(readme), -1) {
		listed[row[1]+" "+row[2]] = true
	}
	known := map[string]bool{}
	for _, f := range Table() {
		if f.Caller == CallerQueue {
			continue // the chain: no one's to call
		}
		for _, route := range f.Routes {
			key := route.Method + " " + route.Path
			if !listed[key] && (route.Method != "POST" || !listed["GET "+route.Path]) {
				t.Errorf("README.md does not list %s", key)
			}
			known[key] = true
		}
	}
	for key := range listed {
		if !known[key] {
			t.Errorf("README.md lists %s, which is no function's", key)
		}
	}
}
