package stack_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
)

func TestStormsOfRefusalsAreWaitedOut(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]google.Fault{
		"of 429":                  {Code: 429, Probability: 0.5},
		"of 503":                  {Code: 503, Probability: 0.5},
		"of 429 with Retry-After": {Code: 429, Probability: 0.2, RetryAfter: seconds(20)},
		"of 503, total for one API for a minute": {
			Method: "serviceusage.*", Code: 503, Count: 90,
		},
		"of lost answers":      {Method: "*.setIamPolicy", Reset: true, AfterEffect: true, Probability: 0.5},
		"of lost answers once": {Method: "iam.serviceAccounts.create", Reset: true, AfterEffect: true, Count: 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, scenario(5, nil), nil, func(y *system) {
				task := y.connect() // the login itself is a person's to repeat
				if err := y.Google.AddFault(fault); err != nil {
					t.Fatal(err)
				}
				y.wantSuccess(y.await(task), 5, 5)
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

func TestGoogleThatStaysDownEndsTheSetupInWordsAndTheRetryGoesOn(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		if err := y.Google.AddFault(google.Fault{Method: "*.projects.setIamPolicy", Code: 503}); err != nil {
			t.Fatal(err)
		}
		y.wantFailed(y.complete(), "login=gcp_failed", "Retry")
		y.Google.ClearFaults()
		y.wantSuccess(y.await(y.restart()), 2, 2)
	})
}

func TestAccountsThatGoogleDoesNotKnowYet(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"answering 404": 404, "answering 403": 403} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenario(2, func(s *google.Scenario) {
				s.Propagation.AccountRead, s.Propagation.AccountReadCode = seconds(40), code
				s.Propagation.AccountMember = seconds(30)
			})
			run(t, s, nil, func(y *system) { y.wantSuccess(y.complete(), 2, 2) })
		})
	}
}

func TestExistingAccountsAreTakenOver(t *testing.T) {
	t.Parallel()
	run(t, scenario(1, nil), nil, func(y *system) {
		y.wantSuccess(y.complete(), 1, 1)
		y.call(200, "POST", "/api/gcp/force-disconnect", nil, nil)
		y.Google.ClearCalls()
		y.wantSuccess(y.complete(), 1, 1)
		if n := y.Google.CallCounts().Writes; n != 0 {
			t.Errorf("connecting again made %d writes, of what stood already", n)
		}
	})
}

func TestAPIsThatAreNotInForceAtOnce(t *testing.T) {
	t.Parallel()
	s := scenario(2, func(s *google.Scenario) {
		s.Propagation.EnabledAPI = seconds(120)
		for i := range s.Projects[1:] {
			s.Projects[1+i].EnabledAPIs = &[]string{"serviceusage.googleapis.com"}
		}
	})
	run(t, s, nil, func(y *system) {
		y.wantSuccess(y.complete(), 2, 2)
		y.discovered("project-001", "project-002")
	})
}

func TestTokenIsRefreshedInTheMiddle(t *testing.T) {
	t.Parallel()
	s := scenario(1, func(s *google.Scenario) { s.Propagation.Project = new(seconds(75 * 60)) })
	run(t, s, map[string]string{"VERIFY_INTERVAL": "10m"}, func(y *system) {
		// The first access tokens, of the user and of the agent, live an hour.
		y.wantSuccess(y.patient(y.connect()), 1, 1)
		if n := y.Google.CallCounts().ByMethod["oauth.token"]; n != 2 {
			t.Errorf("the token endpoint was asked %d times, want for the code and one refresh", n)
		}
	})
}

func TestRevokedTokenEndsTheSetupAndAsksForANewConsent(t *testing.T) {
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
			s := scenario(1, func(s *google.Scenario) { s.Propagation.Account = new(seconds(75 * 60)) })
			run(t, s, map[string]string{"VERIFY_INTERVAL": "10m"}, func(y *system) {
				task := y.connect()
				time.Sleep(5 * time.Minute)
				if err := c.kill(y.Google); err != nil {
					t.Fatal(err)
				}
				final := y.patient(task)
				if final.Result == nil || final.Result.Status != "FAILED" || !strings.Contains(final.Result.Message, c.words) {
					t.Fatalf("setup ended with %s", show(final))
				}
				var connection struct {
					Connected bool `json:"isConnected"`
					Reauth    bool `json:"needsReauth"`
				}
				y.call(200, "GET", "/api/gcp/connection", nil, &connection)
				if !connection.Connected || !connection.Reauth {
					t.Errorf("connection = %+v, want one that needs a new consent", connection)
				}
				y.call(403, "POST", "/gcp/post-auth-retry", nil, nil)
				// A new consent heals it.
				if err := y.Google.SetRefreshError(owner, ""); err != nil {
					t.Fatal(err)
				}
				y.wantSuccess(y.patient(y.connect()), 1, 1)
				y.call(200, "GET", "/api/gcp/connection", nil, &connection)
				if connection.Reauth {
					t.Error("the connection still asks for a new consent")
				}
			})
		})
	}
}

// patient awaits a setup that lasts longer than the frontend polls.
func (y *system) patient(task string) *demo.Status {
	y.t.Helper()
	final, err := y.user.Await(y.t.Context(), task, time.Minute, nil)
	if err != nil {
		y.t.Fatal(err)
	}
	return final
}

func TestDisconnectInTheMiddleEndsTheChain(t *testing.T) {
	t.Parallel()
	run(t, scenario(3, nil), nil, func(y *system) {
		task := y.connect()
		time.Sleep(10 * time.Second) // it is waiting for propagation now
		var answer struct {
			Success bool   `json:"success"`
			Message string `json:"message"`
		}
		y.call(200, "POST", "/api/gcp/force-disconnect", nil, &answer)
		if !answer.Success || answer.Message != "GCP disconnected successfully" {
			t.Errorf("disconnect answered %+v", answer)
		}
		status, err := y.user.Status(y.t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		if status.State != "FAILURE" || !status.Complete || !status.Error {
			t.Errorf("status = %s", show(status))
		}
		y.Google.ClearCalls()
		if err := y.Idle(y.t.Context()); err != nil {
			t.Fatal(err)
		}
		if counts := y.Google.CallCounts(); counts.Total != 0 {
			t.Errorf("Google was called after the disconnect: %v", counts.ByMethod)
		}
		y.call(200, "POST", "/api/gcp/force-disconnect", nil, nil) // idempotent
		y.call(404, "GET", "/api/gcp/projects", nil, nil)
		y.call(404, "POST", "/gcp/post-auth-retry", nil, nil)
		y.call(409, "POST", "/api/gcp/force-disconnect", map[string]any{"cleanup": true}, nil)
	})
}

func TestReconnectInTheMiddleTakesOver(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		first := y.connect()
		time.Sleep(10 * time.Second)
		second := y.connect()
		y.wantSuccess(y.await(second), 2, 2)
		if old := y.await(first); old.State != "FAILURE" {
			t.Errorf("the first setup ended with %s", show(old))
		}
		if counts := y.Google.CallCounts().ByMethod; counts["iam.serviceAccounts.create"] != 2 {
			t.Errorf("%d accounts were created", counts["iam.serviceAccounts.create"])
		}
	})
}

func TestOnlyOneSetupRunsAtATime(t *testing.T) {
	t.Parallel()
	run(t, scenario(2, nil), nil, func(y *system) {
		task := y.connect()
		time.Sleep(10 * time.Second)
		for path, body := range map[string]any{
			"/gcp/post-auth-retry":       map[string]any{"selected_project_ids": []string{"project-001"}},
			"/api/gcp/root-project":      map[string]any{"project_id": "project-002"},
			"/api/gcp/sa-project-access": map[string]any{"projects": []any{map[string]any{"projectId": "project-001", "enabled": false}}},
			"/api/gcp/discover":          nil,
		} {
			y.call(409, "POST", path, body, nil)
		}
		y.wantSuccess(y.await(task), 2, 2)
	})
}

func TestCallbackWorksOnceAndOnlyInTheBrowserThatBegan(t *testing.T) {
	t.Parallel()
	run(t, scenario(1, nil), nil, func(y *system) {
		ctx := y.t.Context()
		begin := func() string {
			address, err := y.user.Login(ctx)
			if err != nil {
				t.Fatal(err)
			}
			back, err := y.user.Consent(ctx, address, demo.Choice{})
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
		want(y.newUser("victim"), begin(), "gcp_other_browser")
		late := begin()
		time.Sleep(11 * time.Minute)
		want(y.user, late, "gcp_expired")
		again := begin()
		y.call(400, "HEAD", strings.TrimPrefix(again, y.URL), nil, nil) // a preview uses nothing up
		want(y.user, again, "gcp_setup_pending")
		want(y.user, again, "gcp_expired")
		y.call(400, "GET", "/callback?code=x", nil, nil)
		y.call(400, "GET", "/callback?state=x", nil, nil)
	})
}

// doubling delivers every task twice at the same moment, and once more, late,
// when everything is over.
type doubling struct {
	http.RoundTripper
	mu    sync.Mutex
	tasks []*http.Request
	body  [][]byte
}

func (d *doubling) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Path, "/tasks/") {
		return d.RoundTripper.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.tasks, d.body = append(d.tasks, r), append(d.body, body)
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.deliver(r, body)
	}()
	twin := r.Clone(r.Context())
	twin.Body = io.NopCloser(bytes.NewReader(body))
	response, err := d.RoundTripper.RoundTrip(twin)
	<-done
	return response, err
}

func (d *doubling) deliver(r *http.Request, body []byte) int {
	twin := r.Clone(r.Context())
	twin.Body = io.NopCloser(bytes.NewReader(body))
	response, err := d.RoundTripper.RoundTrip(twin)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

func TestTasksThatAreDeliveredTwiceAndLateChangeNothing(t *testing.T) {
	t.Parallel()
	var calls []int
	for _, double := range []bool{false, true} {
		d := &doubling{}
		between := func(next http.RoundTripper) http.RoundTripper {
			d.RoundTripper = next
			if double {
				return d
			}
			return next
		}
		runOver(t, between, scenario(3, nil), nil, func(y *system) {
			y.wantSuccess(y.complete(), 3, 3)
			if err := y.Idle(y.t.Context()); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, y.Google.CallCounts().Total)
			before := show(y.Google.Snapshot().Projects)
			d.mu.Lock()
			defer d.mu.Unlock()
			for i := len(d.tasks) - 1; i >= 0; i-- { // late, and in reverse
				r := d.tasks[i].Clone(y.t.Context())
				if status := d.deliver(r, d.body[i]); status/100 != 2 {
					t.Errorf("%s, late, answered %d", r.URL.Path, status)
				}
			}
			if y.Google.CallCounts().Total != calls[len(calls)-1] || show(y.Google.Snapshot().Projects) != before {
				t.Error("late tasks did something")
			}
		})
	}
	if calls[0] != calls[1] {
		t.Errorf("%d calls to Google with tasks delivered twice, %d with each once", calls[1], calls[0])
	}
}

// Google's words on a call of ours, such as that it takes no token or misses
// something, are not about the user who asked, nor about what they sent.
func TestWhatGoogleSaysOfACallIsNotSaidOfTheUser(t *testing.T) {
	t.Parallel()
	run(t, twoWithPlatform(), nil, func(y *system) {
		y.wantSuccess(y.complete(), 2, 2)
		selected := map[string]any{"selected_project_ids": []string{"project-001"}}
		access := map[string]any{"projects": []any{map[string]any{"projectId": "project-002", "enabled": false}}}
		for said, want := range map[int]int{400: 409, 401: 503, 403: 403, 404: 409, 409: 503, 412: 409} {
			if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: said}); err != nil {
				t.Fatal(err)
			}
			y.call(want, http.MethodGet, "/api/gcp/projects", nil, nil)
			y.call(want, http.MethodPost, "/gcp/setup/plan", nil, nil)
			y.call(want, http.MethodPost, "/gcp/post-auth-retry", selected, nil)
			code := map[int]string{409: "failed_precondition", 503: "unavailable", 403: "forbidden"}[want]
			if body := y.call(http.StatusMultiStatus, http.MethodPost, "/api/gcp/sa-project-access", access, nil); !strings.Contains(body, `"code":"`+code+`"`) {
				t.Errorf("after Google's %d access was answered %s, want %s", said, body, code)
			}
			y.Google.ClearFaults()
		}
	})
}
