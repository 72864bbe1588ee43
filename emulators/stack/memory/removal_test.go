package memory_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/connect"
)

func three() *google.Scenario { return googletest.Scenario(3) }

func TestCleanup_UndoesAllButAPIs(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, three(), nil, func(y *stacktest.System) {
		before := y.Google.Snapshot()
		y.WantSuccess(y.Complete(), 3, 3)
		y.Google.ClearCalls()
		y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
		if left := y.ChangedAtGoogle(before, true); len(left) > 0 {
			y.T.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
		}
		if y.ChangedAtGoogle(before, false) == nil {
			y.T.Error("the APIs were disabled, although the cleanup did not ask for it")
		}
		if left := y.Consents(); len(left) > 0 {
			y.T.Errorf("the grant stands: %v", left)
		}
		for entry := range y.LedgerCounts() {
			if !strings.HasSuffix(entry, " undone") && entry != "enable_api done" {
				y.T.Errorf("the ledger still has %q", entry)
			}
		}
		// A project's policy is read and written once.
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.setIamPolicy"] != 3 || calls["iam.serviceAccounts.delete"] != 2 {
			y.T.Errorf("removing took %v", calls)
		}
		y.WantConnected(y.User, false)
		y.Call(http.StatusNotFound, http.MethodGet, "/api/gcp/projects", nil, nil)

		// Again it is the same removal; and what was removed can be set up anew.
		y.Google.ClearCalls()
		y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
		if calls := y.Google.CallCounts(); calls.Total != 0 {
			y.T.Errorf("a second disconnect made %v", calls.ByMethod)
		}
		y.WantSuccess(y.Complete(), 3, 3)
	})
}

func TestCleanup_DisablesAPIsOnRequest(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) { s.Latencies.Operation = googletest.Seconds(2) })
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		if err := y.Google.AddFault(google.Fault{Method: "serviceusage.services.disable", Project: "project-002", Code: 400, Status: "FAILED_PRECONDITION", Message: "The service is in use."}); err != nil {
			t.Fatal(err)
		}
		before := y.Google.Snapshot()
		y.WantSuccess(y.Complete(), 2, 2)
		final := y.DisconnectWithCleanup(map[string]any{"disable_apis": true})
		if final.Result == nil || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 1 || final.Result.Left[0].ID != "project-002" ||
			!strings.Contains(final.Result.Left[0].Reason, "run.googleapis.com (The service is in use.)") {
			t.Errorf("the removal ended with %s", stacktest.Show(final))
		}
		for _, line := range y.ChangedAtGoogle(before, false) {
			if !strings.HasPrefix(line, "+ project-002 api ") {
				t.Errorf("left at Google: %s", line)
			}
		}
	})
}

// What others did meanwhile stays theirs.
func TestCleanup_KeepsChangesOfOthers(t *testing.T) {
	t.Parallel()
	const constraint = googletest.DomainConstraint
	s := googletest.Scenario(3, func(s *google.Scenario) {
		administered(s)
		googletest.Project(s, "project-002").OrgPolicies = map[string]google.PolicySpec{constraint: googletest.OwnMembersOnly()}
		googletest.Project(s, "project-003").OrgPolicies = map[string]google.PolicySpec{constraint: googletest.OwnMembersOnly()}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		before := y.Google.Snapshot()
		y.WantSuccess(y.Complete(), 3, 3)
		y.WantSuccess(y.Await(y.Restart("project-001", "project-002", "project-003")), 3, 3) // changes nothing
		// Another administrator changes the policy of 003 once more, lets a colleague into 001,
		// and gives Aurora's agent another role there.
		mine := google.PolicySpec{Rules: []google.PolicyRule{{Values: &google.StringValues{AllowedValues: []string{"C0example", "C0partner"}}}}}
		y.CallGoogle(owner, http.MethodPatch, "/orgpolicy/v2/projects/project-003/policies/"+constraint+"?updateMask=policy.spec", map[string]any{
			"name": "projects/project-003/policies/" + constraint, "spec": mine,
		})
		var accounts struct {
			Accounts struct {
				Full string `json:"full_access_sa"`
			} `json:"service_accounts"`
		}
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/root-project", nil, &accounts)
		agent := "serviceAccount:" + accounts.Accounts.Full
		p, _ := y.Google.Project("project-001")
		colleague := google.Binding{Role: "roles/browser", Members: []string{"user:colleague@example.com"}}
		if err := y.Google.SetPolicy("project-001", append(p.Bindings, colleague, google.Binding{Role: "roles/pubsub.admin", Members: []string{agent}})); err != nil {
			t.Fatal(err)
		}
		y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
		left := y.ChangedAtGoogle(before, true)
		if len(left) != 2 || !strings.Contains(strings.Join(left, "\n"), "project-001 binding roles/browser user:colleague@example.com") || !strings.Contains(strings.Join(left, "\n"), "project-003 policy "+constraint) {
			t.Errorf("changed at Google:\n%s", strings.Join(left, "\n"))
		}
	})
}

func TestCleanup_ReportsWhatIsLeft(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, three(), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 3, 3)
		for _, f := range []google.Fault{
			{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-002", Code: 403, Message: "The caller does not have permission"},
			{Method: "iam.serviceAccounts.delete", Code: 403, Message: "Permission 'iam.serviceAccounts.delete' denied"},
		} {
			if err := y.Google.AddFault(f); err != nil {
				y.T.Fatal(err)
			}
		}
		final := y.DisconnectWithCleanup(map[string]any{})
		if final.State != "SUCCESS" || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 2 {
			y.T.Fatalf("the removal ended with %s", stacktest.Show(final))
		}
		for i, want := range []string{"the service account aurora-", "the roles of Aurora's accounts in the project (The caller does not have permission"} {
			if got := final.Result.Left[i]; !strings.Contains(got.Reason, want) || !strings.Contains(got.Reason, "by hand") {
				y.T.Errorf("of %s it says %q, want %q", got.ID, got.Reason, want)
			}
		}
		if ledger := y.LedgerCounts(); ledger["create_account done"] != 2 || ledger["add_binding done"] == 0 || ledger["add_binding undone"] == 0 {
			y.T.Errorf("the ledger has %v", ledger)
		}
		if left := y.Consents(); len(left) > 0 {
			y.T.Errorf("the grant stands: %v", left)
		}
		// Connected again, cleanup goes on where it ended.
		y.Google.ClearFaults()
		y.WantSuccess(y.Complete(), 3, 3)
		y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
		if ledger := y.LedgerCounts(); ledger["create_account done"]+ledger["add_binding done"] != 0 {
			y.T.Errorf("the ledger has %v", ledger)
		}
	})
}

func TestDisconnect_RevokesUnlessGrantIsShared(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, one(), nil, func(y *stacktest.System) {
		type answer struct {
			Grant  string `json:"google_grant"`
			Notice string `json:"notice"`
		}
		first, second := y.User, y.NewUser("user-2")
		for _, u := range []*demo.User{first, second} {
			y.User = u
			y.WantSuccess(y.Complete(), 1, 1)
		}
		leave := func(u *demo.User, want string, notice bool) {
			y.T.Helper()
			y.User = u
			var got answer
			y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, &got)
			if got.Grant != want || (got.Notice != "") != notice {
				y.T.Errorf("%s leaves with %+v, want %q", u.ID, got, want)
			}
		}
		leave(first, "shared", true)
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, nil)
		y.User = second
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil) // it lives
		leave(second, "revoked", false)
		leave(second, "", false)
		if left := y.Consents(); len(left) > 0 {
			y.T.Errorf("Google still knows of %v", left)
		}
		// While Google is down it works as well, and does not claim more.
		y.User = first
		y.WantSuccess(y.Complete(), 1, 1)
		if err := y.Google.AddFault(google.Fault{Method: "oauth.revoke", Code: 503}); err != nil {
			y.T.Fatal(err)
		}
		leave(first, "unknown", true)
		y.WantConnected(first, false)
	})
}

// A login begun before a disconnect connects nothing any more, wherever it has
// come to: to Google, back from there, or to the question whether it is wanted.
func TestDisconnect_EndsEarlierLogins(t *testing.T) {
	t.Parallel()
	for name, cleanup := range map[string]bool{"alone": false, "with cleanup": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, one(), stacktest.Confirming, func(y *stacktest.System) {
				used := y.ParkLogin(y.User)
				y.WantSuccess(y.Await(y.WantConfirm(y.User, used, http.StatusOK)), 1, 1)
				waiting, open := y.ParkLogin(y.User), y.ConsentedCallback(y.User)
				time.Sleep(time.Millisecond) // a bubble's clock would stand
				if cleanup {
					y.WantRemoved(y.DisconnectWithCleanup(map[string]any{}))
				} else {
					var answer struct {
						Grant string `json:"google_grant"`
					}
					y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, &answer)
					if answer.Grant != "revoked" {
						y.T.Errorf("the grant is %q", answer.Grant)
					}
				}
				y.WantGone()
				y.WantConfirm(y.User, waiting, http.StatusNotFound)
				if login, _, err := y.User.Return(y.T.Context(), open); login != "gcp_expired" {
					y.T.Errorf("a login begun before ends with %q, %v", login, err)
				}
				y.WantGone()
				y.WantSuccess(y.Await(y.WantConfirm(y.User, y.ParkLogin(y.User), http.StatusOK)), 1, 1) // one begun since
			})
		})
	}
}

// The disconnect comes while the code is exchanged: it finds no tokens, and
// those that come then are given up.
func TestDisconnect_DuringCallback(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, one(), nil, func(y *stacktest.System) {
		back := y.ConsentedCallback(y.User)
		y.TokenEndpoint.Tamper(func(map[string]any) {
			time.Sleep(time.Millisecond) // a bubble's clock would stand
			y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		})
		if login, task, err := y.User.Return(y.T.Context(), back); login != "gcp_expired" || task != "" {
			y.T.Errorf("the login ends with %q, %q, %v", login, task, err)
		}
		y.TokenEndpoint.Tamper(nil)
		if c := y.Counts(); c.TokenWrites != 1 {
			y.T.Errorf("%d tokens were stored, want the callback's", c.TokenWrites)
		}
		y.WantGone()
		y.WantSuccess(y.Complete(), 1, 1)
	})
}

func TestDisconnect_EndsCleanup(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.projects.getIamPolicy", Code: 503}); err != nil {
			t.Fatal(err)
		}
		var accepted struct {
			TaskID string `json:"task_id"`
		}
		y.Call(http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", map[string]any{"cleanup": true}, &accepted)
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if s := y.Await(accepted.TaskID); s.State != "FAILURE" {
			t.Errorf("the removal ended with %s", stacktest.Show(s))
		}
		if left := y.Consents(); len(left) > 0 {
			t.Errorf("the grant stands: %v", left)
		}
		y.Google.ClearFaults()
		y.WantSuccess(y.Complete(), 2, 2) // and a new connection works
	})
}

func TestCleanup_WithRevokedTokensIsPartial(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		if err := y.Google.RevokeUser(owner); err != nil {
			t.Fatal(err)
		}
		final := y.DisconnectWithCleanup(map[string]any{})
		if final.Result == nil || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 2 || !strings.Contains(final.Result.Left[0].Reason, connect.NoRefreshToken) {
			t.Errorf("the removal ended with %s", stacktest.Show(final))
		}
		y.WantConnected(y.User, false)
	})
}
