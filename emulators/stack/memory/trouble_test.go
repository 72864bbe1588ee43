package memory_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

func TestSetup_SurvivesRefusals(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]google.Fault{
		"of 429":                  {Code: 429, Probability: 0.5},
		"of 503":                  {Code: 503, Probability: 0.5},
		"of 429 with Retry-After": {Code: 429, Probability: 0.2, RetryAfter: googletest.Seconds(20)},
		"of 503, total for one API for a minute": {
			Method: "serviceusage.*", Code: 503, Count: 90,
		},
		"of lost answers":      {Method: "*.setIamPolicy", Reset: true, AfterEffect: true, Probability: 0.5},
		"of lost answers once": {Method: "iam.serviceAccounts.create", Reset: true, AfterEffect: true, Count: 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, googletest.Scenario(5), nil, func(y *stacktest.System) {
				task := y.Connect() // the login itself is a person's to repeat
				if err := y.Google.AddFault(fault); err != nil {
					t.Fatal(err)
				}
				y.WantSuccess(y.Await(task), 5, 5)
				accounts := 0
				for _, p := range y.Google.Snapshot().Projects {
					accounts += len(p.ServiceAccounts)
					for _, b := range p.Bindings {
						if sorted := slices.Sorted(slices.Values(b.Members)); len(slices.Compact(sorted)) != len(b.Members) {
							t.Errorf("a member stands twice in %s of %s", b.Role, p.ID)
						}
					}
				}
				if accounts != 2 {
					t.Errorf("there are %d service accounts, want 2", accounts)
				}
			})
		})
	}
}

func TestSetup_LastingOutageFailsAndRetryCompletes(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		if err := y.Google.AddFault(google.Fault{Method: "*.projects.setIamPolicy", Code: 503}); err != nil {
			t.Fatal(err)
		}
		y.WantFailed(y.Complete(), "login=gcp_failed", "Retry")
		y.Google.ClearFaults()
		y.WantSuccess(y.Await(y.Restart()), 2, 2)
	})
}

func TestSetup_WaitsForNewAccounts(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"answering 404": 404, "answering 403": 403} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := googletest.Scenario(2, func(s *google.Scenario) {
				s.Propagation.AccountRead, s.Propagation.AccountReadCode = googletest.Seconds(40), code
				s.Propagation.AccountMember = googletest.Seconds(30)
			})
			stacktest.Run(t, s, nil, func(y *stacktest.System) { y.WantSuccess(y.Complete(), 2, 2) })
		})
	}
}

func TestSetup_ReusesOwnAccounts(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 1, 1)
		y.Call(200, "POST", "/api/gcp/force-disconnect", nil, nil)
		y.Google.ClearCalls()
		y.WantSuccess(y.Complete(), 1, 1)
		if n := y.Google.CallCounts().Writes; n != 0 {
			t.Errorf("connecting again made %d writes, of what stood already", n)
		}
	})
}

func TestSetup_WaitsForNewAPIs(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) {
		s.Propagation.EnabledAPI = googletest.Seconds(120)
		for i := range s.Projects[1:] {
			s.Projects[1+i].EnabledAPIs = &[]string{"serviceusage.googleapis.com"}
		}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		y.WantDiscovered("project-001", "project-002")
	})
}

func TestSetup_RefreshesToken(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(1, func(s *google.Scenario) { s.Propagation.Project = new(googletest.Seconds(75 * 60)) })
	stacktest.Run(t, s, map[string]string{"VERIFY_INTERVAL": "10m"}, func(y *stacktest.System) {
		// The first access tokens, of the user and of the agent, live an hour.
		y.WantSuccess(y.AwaitSlowly(y.Connect()), 1, 1)
		if n := y.Google.CallCounts().ByMethod["oauth.token"]; n != 2 {
			t.Errorf("the token endpoint was asked %d times, want for the code and one refresh", n)
		}
	})
}

func TestSetup_RevokedTokenAsksForConsent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kill  func(*google.Server) error
		words string
	}{
		"revoked":                 {func(g *google.Server) error { return g.RevokeUser(owner) }, "No refresh token available. Please re-authenticate."},
		"session length exceeded": {func(g *google.Server) error { return g.SetRefreshError(owner, "invalid_rapt") }, "Your organization's session has ended. Please re-authenticate."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := googletest.Scenario(1, func(s *google.Scenario) { s.Propagation.Account = new(googletest.Seconds(75 * 60)) })
			stacktest.Run(t, s, map[string]string{"VERIFY_INTERVAL": "10m"}, func(y *stacktest.System) {
				task := y.Connect()
				time.Sleep(5 * time.Minute)
				if err := c.kill(y.Google); err != nil {
					t.Fatal(err)
				}
				final := y.AwaitSlowly(task)
				if final.Result == nil || final.Result.Status != "FAILED" || !strings.Contains(final.Result.Message, c.words) {
					t.Fatalf("setup ended with %s", stacktest.Show(final))
				}
				var connection struct {
					Connected bool `json:"isConnected"`
					Reauth    bool `json:"needsReauth"`
				}
				y.Call(200, "GET", "/api/gcp/connection", nil, &connection)
				if !connection.Connected || !connection.Reauth {
					t.Errorf("connection = %+v, want one that needs a new consent", connection)
				}
				y.Call(403, "POST", "/gcp/post-auth-retry", nil, nil)
				// A new consent heals it.
				if err := y.Google.SetRefreshError(owner, ""); err != nil {
					t.Fatal(err)
				}
				y.WantSuccess(y.AwaitSlowly(y.Connect()), 1, 1)
				y.Call(200, "GET", "/api/gcp/connection", nil, &connection)
				if connection.Reauth {
					t.Error("the connection still asks for a new consent")
				}
			})
		})
	}
}

func TestDisconnect_EndsChain(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(3), nil, func(y *stacktest.System) {
		task := y.Connect()
		time.Sleep(10 * time.Second) // it is waiting for propagation now
		var answer struct {
			Success bool   `json:"success"`
			Message string `json:"message"`
		}
		y.Call(200, "POST", "/api/gcp/force-disconnect", nil, &answer)
		if !answer.Success || answer.Message != "GCP disconnected successfully" {
			t.Errorf("disconnect answered %+v", answer)
		}
		status, err := y.User.Status(y.T.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		if status.State != "FAILURE" || !status.Complete || !status.Error {
			t.Errorf("status = %s", stacktest.Show(status))
		}
		y.Google.ClearCalls()
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}
		if counts := y.Google.CallCounts(); counts.Total != 0 {
			t.Errorf("Google was called after the disconnect: %v", counts.ByMethod)
		}
		y.Call(200, "POST", "/api/gcp/force-disconnect", nil, nil) // idempotent
		y.Call(404, "GET", "/api/gcp/projects", nil, nil)
		y.Call(404, "POST", "/gcp/post-auth-retry", nil, nil)
		y.Call(409, "POST", "/api/gcp/force-disconnect", map[string]any{"cleanup": true}, nil)
	})
}

func TestReconnect_ReplacesRunningSetup(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		first := y.Connect()
		time.Sleep(10 * time.Second)
		second := y.Connect()
		y.WantSuccess(y.Await(second), 2, 2)
		if old := y.Await(first); old.State != "FAILURE" {
			t.Errorf("the first setup ended with %s", stacktest.Show(old))
		}
		if counts := y.Google.CallCounts().ByMethod; counts["iam.serviceAccounts.create"] != 2 {
			t.Errorf("%d accounts were created", counts["iam.serviceAccounts.create"])
		}
	})
}

func TestSetup_OneRunsAtATime(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(2), nil, func(y *stacktest.System) {
		task := y.Connect()
		time.Sleep(10 * time.Second)
		for path, body := range map[string]any{
			"/gcp/post-auth-retry":       map[string]any{"selected_project_ids": []string{"project-001"}},
			"/api/gcp/root-project":      map[string]any{"project_id": "project-002"},
			"/api/gcp/sa-project-access": map[string]any{"projects": []any{map[string]any{"projectId": "project-001", "enabled": false}}},
			"/api/gcp/discover":          nil,
		} {
			y.Call(409, "POST", path, body, nil)
		}
		y.WantSuccess(y.Await(task), 2, 2)
	})
}

func TestCallback_WorksOnceInItsBrowser(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		ctx := y.T.Context()
		begin := func() string {
			address, err := y.User.Login(ctx)
			if err != nil {
				t.Fatal(err)
			}
			back, err := y.User.Consent(ctx, address, demo.Choice{})
			if err != nil {
				t.Fatal(err)
			}
			return back
		}
		want := func(u *demo.User, callback, login string) {
			t.Helper()
			if got, _, err := u.Return(ctx, callback); err != nil || got != login {
				t.Errorf("callback ended with %q, %v, want %s", got, err, login)
			}
		}
		want(y.NewUser("victim"), begin(), "gcp_other_browser")
		late := begin()
		time.Sleep(11 * time.Minute)
		want(y.User, late, "gcp_expired")
		again := begin()
		y.Call(400, "HEAD", strings.TrimPrefix(again, y.URL), nil, nil) // a preview uses nothing up
		want(y.User, again, "gcp_setup_pending")
		want(y.User, again, "gcp_expired")
		y.Call(400, "GET", "/callback?code=x", nil, nil)
		y.Call(400, "GET", "/callback?state=x", nil, nil)
	})
}

// Google's words on a call of ours, such as that it takes no token or misses
// something, are not about the user who asked, nor about what they sent.
func TestErrors_OfGooglesCallsAreNotTheUsers(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		selected := map[string]any{"selected_project_ids": []string{"project-001"}}
		access := map[string]any{"projects": []any{map[string]any{"projectId": "project-002", "enabled": false}}}
		for said, want := range map[int]int{400: 409, 401: 503, 403: 403, 404: 409, 409: 503, 412: 409} {
			if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: said}); err != nil {
				t.Fatal(err)
			}
			y.Call(want, http.MethodGet, "/api/gcp/projects", nil, nil)
			y.Call(want, http.MethodPost, "/gcp/setup/plan", nil, nil)
			y.Call(want, http.MethodPost, "/gcp/post-auth-retry", selected, nil)
			code := map[int]string{409: "failed_precondition", 503: "unavailable", 403: "forbidden"}[want]
			if body := y.Call(http.StatusMultiStatus, http.MethodPost, "/api/gcp/sa-project-access", access, nil); !strings.Contains(body, `"code":"`+code+`"`) {
				t.Errorf("after Google's %d access was answered %s, want %s", said, body, code)
			}
			y.Google.ClearFaults()
		}
	})
}
