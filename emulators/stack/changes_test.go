package stack_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"gcpconnect/emulators/google"
)

// The ledger and what has changed at Google are the same: each thing once, and
// nothing that is not there.
func TestTheLedgerIsWhatChangedAtGoogle(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		before := y.Google.Snapshot()
		y.wantSuccess(y.complete(), 2, 2)
		type change struct {
			Project string  `json:"projectId"`
			Kind    string  `json:"kind"`
			Target  string  `json:"target"`
			Role    string  `json:"role"`
			Member  string  `json:"member"`
			State   string  `json:"state"`
			Done    *string `json:"done_at"`
		}
		var ledger []string
		for token := ""; ; {
			var page struct {
				Changes []change `json:"changes"`
				Next    string   `json:"next_page_token"`
			}
			y.call(http.StatusOK, http.MethodGet, "/api/gcp/changes?page_size=25&page_token="+token, nil, &page)
			for _, c := range page.Changes {
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
			if token = page.Next; token == "" {
				break
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
