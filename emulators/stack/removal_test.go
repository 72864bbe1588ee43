package stack_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/shared/connect"
)

// disconnect disconnects with cleanup and returns how that ended.
func (y *system) disconnect(body map[string]any) *demo.Status {
	y.t.Helper()
	body["cleanup"] = true
	var accepted struct {
		Success bool   `json:"success"`
		TaskID  string `json:"task_id"`
	}
	y.call(http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", body, &accepted)
	if !accepted.Success || accepted.TaskID == "" {
		y.t.Fatalf("disconnect answered %+v", accepted)
	}
	return y.await(accepted.TaskID)
}

// changed returns what has changed at Google since a snapshot, but for the
// consents of users and, with apis, for enabled APIs.
func (y *system) changed(before google.Snapshot, apis bool) []string {
	return slices.DeleteFunc(google.Diff(before, y.Google.Snapshot()), func(line string) bool {
		return strings.Contains(line, "consent ") || apis && strings.Contains(line, " api ")
	})
}

// wantRemoved fails unless a removal left nothing.
func (y *system) wantRemoved(s *demo.Status) {
	y.t.Helper()
	if s.State != "SUCCESS" || s.Result == nil || s.Result.Cleanup != "FULL" || s.Result.Undone == 0 || len(s.Result.Left) != 0 {
		y.t.Errorf("the removal ended with %s", show(s))
	}
}

// ledger counts the entries of the ledger by kind and state.
func (y *system) ledger() map[string]int {
	y.t.Helper()
	counts := map[string]int{}
	for _, c := range y.entries("page_size=1000") {
		counts[c.Kind+" "+c.State]++
	}
	return counts
}

func three() *google.Scenario { return scenario(3, nil) }

func TestCleanupGivesBackAllButTheAPIs(t *testing.T) {
	t.Parallel()
	everywhere(t, three, nil, func(y *system) {
		before := y.Google.Snapshot()
		y.wantSuccess(y.complete(), 3, 3)
		y.Google.ClearCalls()
		y.wantRemoved(y.disconnect(map[string]any{}))
		if left := y.changed(before, true); len(left) > 0 {
			y.t.Errorf("left at Google:\n%s", strings.Join(left, "\n"))
		}
		if y.changed(before, false) == nil {
			y.t.Error("the APIs were disabled, and nobody asked for it")
		}
		if left := y.consents(); len(left) > 0 {
			y.t.Errorf("the grant stands: %v", left)
		}
		for entry := range y.ledger() {
			if !strings.HasSuffix(entry, " undone") && entry != "enable_api done" {
				y.t.Errorf("the ledger still has %q", entry)
			}
		}
		// A project's policy is read and written once.
		if calls := y.Google.CallCounts().ByMethod; calls["cloudresourcemanager.projects.setIamPolicy"] != 3 || calls["iam.serviceAccounts.delete"] != 2 {
			y.t.Errorf("removing took %v", calls)
		}
		y.wantConnected(y.user, false)
		y.call(http.StatusNotFound, http.MethodGet, "/api/gcp/projects", nil, nil)

		// Again it is the same removal; and what was removed can be set up anew.
		y.Google.ClearCalls()
		y.wantRemoved(y.disconnect(map[string]any{}))
		if calls := y.Google.CallCounts(); calls.Total != 0 {
			y.t.Errorf("a second disconnect made %v", calls.ByMethod)
		}
		y.wantSuccess(y.complete(), 3, 3)
	})
}

func TestCleanupDisablesTheAPIsWhenAsked(t *testing.T) {
	t.Parallel()
	s := scenario(2, func(s *google.Scenario) { s.Latencies.Operation = seconds(2) })
	run(t, s, nil, func(y *system) {
		if err := y.Google.AddFault(google.Fault{Method: "serviceusage.services.disable", Project: "project-002", Code: 400, Status: "FAILED_PRECONDITION", Message: "The service is in use."}); err != nil {
			t.Fatal(err)
		}
		before := y.Google.Snapshot()
		y.wantSuccess(y.complete(), 2, 2)
		final := y.disconnect(map[string]any{"disable_apis": true})
		if final.Result == nil || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 1 || final.Result.Left[0].ID != "project-002" ||
			!strings.Contains(final.Result.Left[0].Reason, "run.googleapis.com (The service is in use.)") {
			t.Errorf("the removal ended with %s", show(final))
		}
		for _, line := range y.changed(before, false) {
			if !strings.HasPrefix(line, "+ project-002 api ") {
				t.Errorf("left at Google: %s", line)
			}
		}
	})
}

// What others did meanwhile stays theirs.
func TestCleanupLeavesWhatOthersDid(t *testing.T) {
	t.Parallel()
	const constraint = googletest.DomainConstraint
	s := scenario(3, func(s *google.Scenario) {
		administered(s)
		project(s, "project-002").OrgPolicies = map[string]google.PolicySpec{constraint: googletest.OwnMembersOnly()}
		project(s, "project-003").OrgPolicies = map[string]google.PolicySpec{constraint: googletest.OwnMembersOnly()}
	})
	run(t, s, nil, func(y *system) {
		before := y.Google.Snapshot()
		y.wantSuccess(y.complete(), 3, 3)
		y.wantSuccess(y.await(y.restart("project-001", "project-002", "project-003")), 3, 3) // changes nothing
		// Somebody changes the policy of 003 once more, lets a colleague into 001,
		// and gives Aurora's agent another role there.
		mine := google.PolicySpec{Rules: []google.PolicyRule{{Values: &google.StringValues{AllowedValues: []string{"C0example", "C0partner"}}}}}
		y.as(owner, http.MethodPatch, "/orgpolicy/v2/projects/project-003/policies/"+constraint+"?updateMask=policy.spec", map[string]any{
			"name": "projects/project-003/policies/" + constraint, "spec": mine,
		})
		var accounts struct {
			Accounts struct {
				Full string `json:"full_access_sa"`
			} `json:"service_accounts"`
		}
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/root-project", nil, &accounts)
		agent := "serviceAccount:" + accounts.Accounts.Full
		p, _ := y.Google.Project("project-001")
		colleague := google.Binding{Role: "roles/browser", Members: []string{"user:colleague@example.com"}}
		if err := y.Google.SetPolicy("project-001", append(p.Bindings, colleague, google.Binding{Role: "roles/pubsub.admin", Members: []string{agent}})); err != nil {
			t.Fatal(err)
		}
		y.wantRemoved(y.disconnect(map[string]any{}))
		left := y.changed(before, true)
		if len(left) != 2 || !strings.Contains(strings.Join(left, "\n"), "project-001 binding roles/browser user:colleague@example.com") || !strings.Contains(strings.Join(left, "\n"), "project-003 policy "+constraint) {
			t.Errorf("changed at Google:\n%s", strings.Join(left, "\n"))
		}
	})
}

// as calls Google in a user's name.
func (y *system) as(email, method, path string, body any) {
	y.t.Helper()
	token, err := y.Google.MintToken(email, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		y.t.Fatal(err)
	}
	content, err := json.Marshal(body)
	if err != nil {
		y.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(y.t.Context(), method, y.GoogleURL+path, bytes.NewReader(content))
	if err != nil {
		y.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := y.Client().Do(r)
	if err != nil {
		y.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(response.Body)
		y.t.Fatalf("%s %s answered %d %s", method, path, response.StatusCode, answer)
	}
}

func TestCleanupSaysWhatItCouldNotUndo(t *testing.T) {
	t.Parallel()
	everywhere(t, three, nil, func(y *system) {
		y.wantSuccess(y.complete(), 3, 3)
		for _, f := range []google.Fault{
			{Method: "cloudresourcemanager.projects.setIamPolicy", Project: "project-002", Code: 403, Message: "The caller does not have permission"},
			{Method: "iam.serviceAccounts.delete", Code: 403, Message: "Permission 'iam.serviceAccounts.delete' denied"},
		} {
			if err := y.Google.AddFault(f); err != nil {
				y.t.Fatal(err)
			}
		}
		final := y.disconnect(map[string]any{})
		if final.State != "SUCCESS" || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 2 {
			y.t.Fatalf("the removal ended with %s", show(final))
		}
		for i, want := range []string{"the service account aurora-", "the roles of Aurora's accounts in the project (The caller does not have permission"} {
			if got := final.Result.Left[i]; !strings.Contains(got.Reason, want) || !strings.Contains(got.Reason, "by hand") {
				y.t.Errorf("of %s it says %q, want %q", got.ID, got.Reason, want)
			}
		}
		if ledger := y.ledger(); ledger["create_account done"] != 2 || ledger["add_binding done"] == 0 || ledger["add_binding undone"] == 0 {
			y.t.Errorf("the ledger has %v", ledger)
		}
		if left := y.consents(); len(left) > 0 {
			y.t.Errorf("the grant stands: %v", left)
		}
		// Connected again, cleanup goes on where it ended.
		y.Google.ClearFaults()
		y.wantSuccess(y.complete(), 3, 3)
		y.wantRemoved(y.disconnect(map[string]any{}))
		if ledger := y.ledger(); ledger["create_account done"]+ledger["add_binding done"] != 0 {
			y.t.Errorf("the ledger has %v", ledger)
		}
	})
}

func TestDisconnectRevokesUnlessAnotherConnectionWouldDie(t *testing.T) {
	t.Parallel()
	everywhere(t, one, nil, func(y *system) {
		type answer struct {
			Grant  string `json:"google_grant"`
			Notice string `json:"notice"`
		}
		first, second := y.user, y.newUser("user-2")
		for _, u := range []*demo.User{first, second} {
			y.user = u
			y.wantSuccess(y.complete(), 1, 1)
		}
		leave := func(u *demo.User, want string, notice bool) {
			y.t.Helper()
			y.user = u
			var got answer
			y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, &got)
			if got.Grant != want || (got.Notice != "") != notice {
				y.t.Errorf("%s leaves with %+v, want %q", u.ID, got, want)
			}
		}
		leave(first, "shared", true)
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, nil)
		y.user = second
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil) // it lives
		leave(second, "revoked", false)
		leave(second, "", false)
		if left := y.consents(); len(left) > 0 {
			y.t.Errorf("Google still knows of %v", left)
		}
		// While Google is down it works as well, and does not claim more.
		y.user = first
		y.wantSuccess(y.complete(), 1, 1)
		if err := y.Google.AddFault(google.Fault{Method: "oauth.revoke", Code: 503}); err != nil {
			y.t.Fatal(err)
		}
		leave(first, "unknown", true)
		y.wantConnected(first, false)
	})
}

// A login begun before a disconnect connects nothing any more, wherever it has
// come to: to Google, back from there, or to the question whether it is wanted.
func TestADisconnectEndsTheLoginsBegunBefore(t *testing.T) {
	t.Parallel()
	for name, cleanup := range map[string]bool{"alone": false, "with cleanup": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, one, confirming, func(y *system) {
				used := y.park(y.user)
				y.wantSuccess(y.await(y.wantConfirm(y.user, used, http.StatusOK)), 1, 1)
				waiting, open := y.park(y.user), y.open(y.user)
				time.Sleep(time.Millisecond) // a bubble's clock would stand
				if cleanup {
					y.wantRemoved(y.disconnect(map[string]any{}))
				} else {
					var answer struct {
						Grant string `json:"google_grant"`
					}
					y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, &answer)
					if answer.Grant != "revoked" {
						y.t.Errorf("the grant is %q", answer.Grant)
					}
				}
				y.wantGone()
				y.wantConfirm(y.user, waiting, http.StatusNotFound)
				if login, _, err := y.user.Return(y.t.Context(), open); login != "gcp_expired" {
					y.t.Errorf("a login begun before ends with %q, %v", login, err)
				}
				y.wantGone()
				y.wantSuccess(y.await(y.wantConfirm(y.user, y.park(y.user), http.StatusOK)), 1, 1) // one begun since
			})
		})
	}
}

// The disconnect comes while the code is exchanged: it finds no tokens, and
// those that come then are given up.
func TestADisconnectOvertakesACallback(t *testing.T) {
	t.Parallel()
	everywhere(t, one, nil, func(y *system) {
		back := y.open(y.user)
		y.middle.tamper(func(map[string]any) {
			time.Sleep(time.Millisecond) // a bubble's clock would stand
			y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		})
		if login, task, err := y.user.Return(y.t.Context(), back); login != "gcp_expired" || task != "" {
			y.t.Errorf("the login ends with %q, %q, %v", login, task, err)
		}
		y.middle.tamper(nil)
		if c := y.Counts(); c.TokenWrites != 1 {
			y.t.Errorf("%d tokens were stored, want the callback's", c.TokenWrites)
		}
		y.wantGone()
		y.wantSuccess(y.complete(), 1, 1)
	})
}

// open begins a login and consents, and returns the address of the callback.
func (y *system) open(u *demo.User) string {
	y.t.Helper()
	address, err := u.Login(y.t.Context())
	if err != nil {
		y.t.Fatal(err)
	}
	back, err := u.Consent(y.t.Context(), address, demo.Choice{})
	if err != nil {
		y.t.Fatal(err)
	}
	return back
}

// wantGone checks that nobody is connected, no tokens are kept and Google knows
// of no grant.
func (y *system) wantGone() {
	y.t.Helper()
	y.wantConnected(y.user, false)
	if left := y.consents(); len(left) > 0 {
		y.t.Errorf("Google knows of %v", left)
	}
	if c := y.Counts(); c.TokenDeletes < c.TokenWrites {
		y.t.Errorf("%d tokens were stored and %d deleted", c.TokenWrites, c.TokenDeletes)
	}
}

func TestDisconnectDuringACleanupEndsIt(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		y.wantSuccess(y.complete(), 2, 2)
		if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.projects.getIamPolicy", Code: 503}); err != nil {
			t.Fatal(err)
		}
		var accepted struct {
			TaskID string `json:"task_id"`
		}
		y.call(http.StatusAccepted, http.MethodPost, "/api/gcp/force-disconnect", map[string]any{"cleanup": true}, &accepted)
		y.call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if s := y.await(accepted.TaskID); s.State != "FAILURE" {
			t.Errorf("the removal ended with %s", show(s))
		}
		if left := y.consents(); len(left) > 0 {
			t.Errorf("the grant stands: %v", left)
		}
		y.Google.ClearFaults()
		y.wantSuccess(y.complete(), 2, 2) // and a new connection works
	})
}

func TestCleanupWithDeadTokensSaysSo(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		y.wantSuccess(y.complete(), 2, 2)
		if err := y.Google.RevokeUser(owner); err != nil {
			t.Fatal(err)
		}
		final := y.disconnect(map[string]any{})
		if final.Result == nil || final.Result.Cleanup != "PARTIAL" || len(final.Result.Left) != 2 || !strings.Contains(final.Result.Left[0].Reason, connect.NoRefreshToken) {
			t.Errorf("the removal ended with %s", show(final))
		}
		y.wantConnected(y.user, false)
	})
}
