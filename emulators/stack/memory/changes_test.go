package memory_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

// The ledger and what has changed at Google are the same: each thing once, and
// nothing that is not there.
func TestLedger_EqualsChangesAtGoogle(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		before := y.Google.Snapshot()
		y.WantSuccess(y.Complete(), 2, 2)
		var ledger []string
		for _, c := range y.Ledger("page_size=25") {
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
		y.Call(http.StatusBadRequest, http.MethodGet, "/api/gcp/changes?state=other", nil, nil)
		y.Call(http.StatusBadRequest, http.MethodGet, "/api/gcp/changes?page_token=other", nil, nil)
	})
}

// Every change is counted once, however often Google was busy, and what stood
// already beside it.
func TestLedger_CountsChangesOnce(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]google.Fault{
		"no trouble": nil,
		"trouble": {
			{Method: "cloudresourcemanager.projects.setIamPolicy", Code: 503, Count: 30, RetryAfter: googletest.Seconds(20)},
			{Method: "iam.serviceAccounts.setIamPolicy", Code: 409, Count: 7},
			{Method: "iam.serviceAccounts.create", Code: 503, Skip: 1, Count: 10},
			{Method: "serviceusage.services.batchEnable", Project: "project-002", Code: 503, Count: 10},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, googletest.Scenario(2, googletest.WithPlatform), nil, func(y *stacktest.System) {
				for _, f := range faults {
					if err := y.Google.AddFault(f); err != nil {
						t.Fatal(err)
					}
				}
				final := y.Complete()
				y.WantSuccess(final, 2, 2)
				// 25 APIs, 22 roles and the organization policy in each project;
				// two accounts, with the user and the platform on each.
				const all = 2*(25+22+1) + 2*3
				if c, done := final.Result.Changes, len(y.Ledger("state=done")); c != final.Changes || c.Made != done || c.Made+c.Stood != all {
					t.Errorf("the setup counts %+v and %+v; the ledger has %d of %d", c, final.Changes, done, all)
				}
				one := y.Ledger("project=project-002")
				if len(one) == 0 || slices.ContainsFunc(one, func(e stacktest.LedgerEntry) bool { return e.Project != "project-002" }) {
					t.Errorf("the changes of a project are %s", stacktest.Show(one))
				}
				again := y.Await(y.Restart("project-001", "project-002"))
				if c := again.Result.Changes; c.Made != 0 || c.Stood != all {
					t.Errorf("the second run counts %+v", c)
				}
			})
		})
	}
}
