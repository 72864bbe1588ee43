package stack_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"gcpconnect/emulators/google"
)

// entry is an entry of the ledger, or of a plan.
type entry struct {
	Project string  `json:"projectId"`
	Kind    string  `json:"kind"`
	Target  string  `json:"target"`
	Role    string  `json:"role"`
	Member  string  `json:"member"`
	State   string  `json:"state"`
	Done    *string `json:"done_at"`
}

// entries returns the entries of the ledger that a query selects.
func (y *system) entries(query string) []entry {
	y.t.Helper()
	var entries []entry
	for token := ""; ; {
		var page struct {
			Changes []entry `json:"changes"`
			Next    string  `json:"next_page_token"`
		}
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/changes?"+query+"&page_token="+token, nil, &page)
		entries = append(entries, page.Changes...)
		if token = page.Next; token == "" {
			return entries
		}
	}
}

// The ledger and what has changed at Google are the same: each thing once, and
// nothing that is not there.
func TestTheLedgerIsWhatChangedAtGoogle(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		before := y.Google.Snapshot()
		y.wantSuccess(y.complete(), 2, 2)
		var ledger []string
		for _, c := range y.entries("page_size=25") {
			if c.State != "done" || c.Done == nil {
				t.Errorf("a change is %+v after a success", c)
			}
			switch c.Kind {
			case "enable_api":
				ledger = append(ledger, "+ "+c.Project+" api "+c.Target)
			case "create_account":
				ledger = append(ledger, "+ "+c.Project+" account "+c.Target)
			case "add_binding":
				where := c.Project
				if strings.Contains(c.Target, "@") {
					where += " account " + c.Target
				}
				ledger = append(ledger, "+ "+where+" binding "+c.Role+" "+c.Member)
			case "set_org_policy":
				ledger = append(ledger, "+ "+c.Project+" policy "+c.Target)
			default:
				t.Errorf("an unknown change: %+v", c)
			}
		}
		var changed []string
		for _, line := range google.Diff(before, y.Google.Snapshot()) {
			if strings.Contains(line, "consent ") {
				continue // the user's own
			}
			if head, _, ok := strings.Cut(line, " {"); ok { // what an account or a policy is like
				line = head
			}
			changed = append(changed, line)
		}
		slices.Sort(ledger)
		slices.Sort(changed)
		if !slices.Equal(ledger, changed) {
			t.Errorf("the ledger has\n%s\n\nat Google there is\n%s", strings.Join(ledger, "\n"), strings.Join(changed, "\n"))
		}
		y.call(http.StatusBadRequest, http.MethodGet, "/api/gcp/changes?state=other", nil, nil)
		y.call(http.StatusBadRequest, http.MethodGet, "/api/gcp/changes?page_token=other", nil, nil)
	})
}
