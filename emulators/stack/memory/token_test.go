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
)

func twoWithPlatform() *google.Scenario { return googletest.Scenario(2, googletest.WithPlatform) }

func TestToken_ServicesGetAccountTokens(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		if err := y.Google.RevokeUser(owner); err != nil { // daily life does without the user
			y.T.Fatal(err)
		}
		const read, write = "compute.instances.list", "compute.instances.create"
		for mode, want := range map[string]string{"agent": read + " " + write, "ask": read} {
			for _, projectID := range []string{"", "project-002"} {
				answer := y.RequestToken(http.StatusOK, map[string]any{"userId": "user-1", "projectId": projectID, "mode": mode})
				left := time.Until(answer.Expires)
				if answer.Project == "" || projectID != "" && answer.Project != projectID || left < 5*time.Minute || left > time.Hour ||
					!strings.HasPrefix(answer.Email, "aurora-") || !strings.Contains(answer.Email, "@project-00") {
					y.T.Errorf("%s token of %q: %s of %s, good for %v", mode, projectID, answer.Email, answer.Project, left)
				}
				if got := y.PermissionsOf(answer.Token, answer.Project, read, write); got != want {
					y.T.Errorf("the %s token gives %q, want %q", mode, got, want)
				}
				if logs := y.Logs.String(); strings.Contains(logs, answer.Token) || !strings.Contains(logs, `msg="token given"`) || !strings.Contains(logs, "caller=tools user=user-1 project="+answer.Project+" mode="+mode+" account="+answer.Email) {
					y.T.Errorf("the log does not say who got a token, or holds it:\n%s", logs)
				}
			}
		}
		// And so does discovery.
		y.Call(http.StatusAccepted, http.MethodPost, "/api/gcp/discover", nil, nil)
		y.WantDiscovered("project-001", "project-002")
		if calls := y.Google.CallCounts().ByMethod; calls["oauth.token"] > 2 { // the code, and the platform's own token
			y.T.Errorf("the user's token was refreshed: %v", calls)
		}
	})
}

func TestToken_RefusalsHaveReasons(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		ask := func(user, projectID string) map[string]any {
			return map[string]any{"userId": user, "projectId": projectID, "mode": "ask"}
		}
		y.RequestToken(http.StatusNotFound, ask("user-1", ""))
		y.WantSuccess(y.Complete(), 2, 2)
		good := y.RequestToken(http.StatusOK, ask("user-1", "project-001"))
		for name, c := range map[string]struct {
			request map[string]any
			want    int
		}{
			"another user":            {ask("user-2", "project-001"), 404},
			"no user":                 {ask("", "project-001"), 400},
			"a user with a space":     {ask("user-1 ", "project-001"), 400},
			"another's project":       {ask("user-1", "aurora-platform"), 403},
			"a project that is none":  {ask("user-1", "../x"), 403},
			"no mode":                 {map[string]any{"userId": "user-1"}, 400},
			"an unknown mode":         {map[string]any{"userId": "user-1", "mode": "owner"}, 400},
			"an unknown field":        {map[string]any{"userId": "user-1", "mode": "ask", "scope": "x"}, 400},
			"a project as it was not": {map[string]any{"userId": "user-1", "mode": "ask", "project_id": "project-001"}, 400},
		} {
			if answer := y.RequestToken(c.want, c.request); answer.Code == "" {
				y.T.Errorf("%s: no error", name)
			}
		}
		// Access that was taken is no access, and a token that is kept is none.
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/sa-project-access", map[string]any{"projects": []map[string]any{{"projectId": "project-001", "enabled": false}}}, nil)
		y.RequestToken(http.StatusForbidden, ask("user-1", "project-001"))
		if answer := y.RequestToken(http.StatusOK, ask("user-1", "project-002")); answer.Token != good.Token {
			y.T.Error("the token was not kept")
		}
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		y.RequestToken(http.StatusNotFound, ask("user-1", "project-002"))
	})
}

func TestToken_IsMintedOnceAnHour(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}
		request := map[string]any{"userId": "user-1", "mode": "ask"}
		y.Google.ClearCalls()
		for _, step := range []struct {
			after time.Duration
			mints int
		}{{0, 1}, {54 * time.Minute, 1}, {2 * time.Minute, 2}} {
			time.Sleep(step.after)
			answer := y.RequestToken(http.StatusOK, request)
			if calls := y.Google.CallCounts().ByMethod["iamcredentials.serviceAccounts.generateAccessToken"]; calls != step.mints {
				t.Errorf("%d tokens were minted, want %d", calls, step.mints)
			}
			if time.Until(answer.Expires) < 5*time.Minute {
				t.Errorf("the token is good for %v", time.Until(answer.Expires))
			}
		}
	})
}

func TestToken_UserImpersonatesWithoutPlatform(t *testing.T) {
	t.Parallel()
	denied := google.Fault{Method: "iamcredentials.*", Caller: googletest.PlatformAccount, Code: 403}
	for name, c := range map[string]struct {
		environment map[string]string
		fault       google.Fault
	}{
		"no platform":                 {environment: map[string]string{"PLATFORM_SERVICE_ACCOUNT": ""}},
		"a platform that may not":     {fault: denied},
		"a platform Google knows not": {fault: google.Fault{Method: "oauth.token", Text: "jwt-bearer", Code: 400, OAuthError: "invalid_grant"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, twoWithPlatform(), c.environment, func(y *stacktest.System) {
				if c.fault.Method != "" {
					if err := y.Google.AddFault(c.fault); err != nil {
						t.Fatal(err)
					}
				}
				y.WantSuccess(y.Complete(), 2, 2)
				request := map[string]any{"userId": "user-1", "mode": "agent"}
				y.RequestToken(http.StatusOK, request)
				if warned := strings.Contains(y.Logs.String(), "may not impersonate"); warned != (c.fault.Method != "") {
					t.Errorf("an operator is warned: %t", warned)
				}
				// Then it is the user who must be there.
				time.Sleep(time.Hour)
				if err := y.Google.SetRefreshError(owner, "invalid_rapt"); err != nil {
					t.Fatal(err)
				}
				if answer := y.RequestToken(http.StatusForbidden, request); answer.Code != "needs_reauth" {
					t.Errorf("the error is %q", answer.Code)
				}
				var connection struct {
					NeedsReauth bool `json:"needsReauth"`
				}
				y.Call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, &connection)
				if !connection.NeedsReauth {
					t.Error("the connection does not say that its user must consent again")
				}
			})
		})
	}
}

func TestToken_GoogleOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 503}); err != nil {
			t.Fatal(err)
		}
		y.RequestToken(http.StatusServiceUnavailable, map[string]any{"userId": "user-1", "mode": "ask"})
		y.Google.ClearFaults()
		y.RequestToken(http.StatusOK, map[string]any{"userId": "user-1", "mode": "ask"})
		y.RequestToken(http.StatusOK, map[string]any{"userId": "user-1", "mode": "agent"})
	})
}

// What the user can mend by another setup, or by waiting, is a conflict: not a
// denial, and not a failure of Aurora.
func TestToken_UnusableAccountIsConflict(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*stacktest.System, string){
		"that is gone": func(y *stacktest.System, email string) {
			y.CallGoogle(owner, http.MethodDelete, "/iam/v1/projects/project-001/serviceAccounts/"+email, nil)
		},
		"that nobody may impersonate": func(y *stacktest.System, _ string) {
			if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 403}); err != nil {
				y.T.Fatal(err)
			}
		},
		"that Google does not know yet": func(y *stacktest.System, _ string) {
			if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: 404}); err != nil {
				y.T.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, twoWithPlatform(), nil, func(y *stacktest.System) {
				y.WantSuccess(y.Complete(), 2, 2)
				if err := y.Idle(y.T.Context()); err != nil {
					t.Fatal(err)
				}
				ask := y.RequestToken(http.StatusOK, map[string]any{"userId": "user-1", "mode": "ask"})
				time.Sleep(time.Hour) // no token is kept
				breakIt(y, ask.Email)
				if answer := y.RequestToken(http.StatusConflict, map[string]any{"userId": "user-1", "mode": "ask"}); answer.Code != "failed_precondition" {
					t.Errorf("the error is %q", answer.Code)
				}
				y.Call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, nil)
			})
		})
	}
}

func TestToken_BeforeSetupIsConflict(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(7, googletest.WithPlatform), nil, func(y *stacktest.System) {
		login, task, err := y.User.Connect(y.T.Context(), demo.Choice{})
		if err != nil || login != "gcp_setup_pending" {
			t.Fatalf("login ended with %q, %v", login, err)
		}
		y.Await(task) // which asks which of the projects to take
		y.RequestToken(http.StatusConflict, map[string]any{"userId": "user-1", "mode": "agent"})
		y.RequestToken(http.StatusConflict, map[string]any{"userId": "user-1", "mode": "ask", "projectId": "project-001"})
	})
}
