package memory_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack/stacktest"
)

// A failure is reported and no secret is: codes and refresh tokens that Google
// refuses with an echo of the request, logins that are never confirmed, services
// that request tokens they may not have. The outputs are logs, spans, metrics,
// tasks, addresses and responses. Documents and the Vault are searched by
// TestServices_NoSecretLeaves.
func TestFailures_ReportNoSecret(t *testing.T) {
	t.Parallel()
	recorder := stacktest.NewSecretRecorder(nil)
	exported, telemetry := stacktest.RecordTelemetry()
	stacktest.RunWith(t, stacktest.Options{
		Scenario: twoWithPlatform(), Environment: stacktest.Confirming, Telemetry: exported,
		Between: func(next http.RoundTripper) http.RoundTripper { recorder.Next = next; return recorder },
	}, func(y *stacktest.System) {
		// Google refuses a code.
		for _, kind := range []string{"invalid_grant", "invalid_client"} {
			recorder.RefuseWithEcho("/token", "authorization_code", kind)
			login(y, "gcp_failed")
		}
		recorder.Allow()
		// A login is not confirmed. Google refuses to revoke its tokens, and then
		// does not.
		login(y, "gcp_confirm")
		recorder.RefuseWithEcho("/revoke", "", "invalid_request")
		time.Sleep(11 * time.Minute)
		if err := y.Sweep(y.T.Context()); err == nil {
			t.Error("the sweep succeeded without revoking the tokens of the unconfirmed login")
		}
		recorder.Allow()
		if err := y.Sweep(y.T.Context()); err != nil {
			t.Error(err)
		}
		// The next login is confirmed.
		handle := login(y, "gcp_confirm")
		y.WantSuccess(y.Await(y.WantConfirm(y.User, handle, http.StatusOK)), 2, 2)
		requestTokens(y)
		// The access token is refused, and then the refresh token.
		if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: 401}); err != nil {
			t.Fatal(err)
		}
		recorder.RefuseWithEcho("/token", "refresh_token", "invalid_grant")
		y.Call(http.StatusForbidden, http.MethodGet, "/api/gcp/projects", nil, nil)
		// Google refuses to revoke at the disconnect.
		recorder.RefuseWithEcho("/revoke", "", "invalid_request")
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if err := y.Idle(y.T.Context()); err != nil {
			t.Fatal(err)
		}

		recorder.RecordOutput(y, telemetry)
		recorder.WantNoLeak(t, "code", "state", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token",
			"access token of a service account", "assertion")
		// Each failure was logged, so the search had something to search.
		for _, words := range []string{
			"code was not exchanged", "grant could not be revoked", "login was not confirmed", "token refused", "token given", "request failed",
		} {
			if !strings.Contains(y.Logs.String(), words) {
				t.Errorf("the log does not say %q", words)
			}
		}
	})
}

// The cookie of a login is in no output.
func TestLogin_OutputsHoldNoCookie(t *testing.T) {
	t.Parallel()
	recorder := stacktest.NewSecretRecorder(nil)
	exported, telemetry := stacktest.RecordTelemetry()
	stacktest.RunWith(t, stacktest.Options{
		Scenario: one(), Telemetry: exported,
		Between: func(next http.RoundTripper) http.RoundTripper { recorder.Next = next; return recorder },
	}, func(y *stacktest.System) {
		address, _ := y.BeginLogin(stacktest.UserID)
		if ending := y.Callback(y.Consent(address, owner), nil); ending != "gcp_other_browser" {
			t.Errorf("a login in another browser ended with %s", ending)
		}
		y.WantSuccess(y.Complete(), 1, 1)
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		recorder.RecordOutput(y, telemetry)
		recorder.WantNoLeak(t, "cookie", "code", "state", "code_verifier")
	})
}

// login logs in and consents, and checks the login parameter that the frontend
// gets. It returns the handle to confirm.
func login(y *stacktest.System, want string) (handle string) {
	y.T.Helper()
	ending, handle, err := y.User.Connect(y.T.Context(), demo.Choice{})
	if err != nil || ending != want {
		y.T.Fatalf("the login ended with %q, want %q, %v", ending, want, err)
	}
	return handle
}

// requestTokens requests a token that a service may have, and many that it may
// not.
func requestTokens(y *stacktest.System) {
	y.T.Helper()
	request := func(want int, body string, header ...string) {
		y.T.Helper()
		if answer := y.Send(http.MethodPost, "/internal/token", body, append(header, stacktest.JSON...)...); answer.Status != want {
			y.T.Errorf("%s was answered %d %s, want %d", body, answer.Status, answer.Body, want)
		}
	}
	const good = `{"userId":"user-1","mode":"ask"}`
	service := []string{"X-Internal-Service", "tools"}
	for code, want := range map[int]int{403: http.StatusConflict, 503: http.StatusServiceUnavailable} {
		if err := y.Google.AddFault(google.Fault{Method: "iamcredentials.*", Code: code, Message: "not you"}); err != nil {
			y.T.Fatal(err)
		}
		request(want, good, service...)
		y.Google.ClearFaults()
	}
	request(http.StatusOK, good, service...)
	request(http.StatusNotFound, `{"userId":"user-2","mode":"ask"}`, service...)
	request(http.StatusForbidden, `{"userId":"user-1","mode":"ask","projectId":"another"}`, service...)
	request(http.StatusBadRequest, `{"userId":"user-1","mode":"owner"}`, service...)
	request(http.StatusUnauthorized, good)
}
