package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gcpconnect/functions"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// A login that came to nothing leaves no record of who tried.
func TestALoginThatEndsWithoutTokensIsForgotten(t *testing.T) {
	t.Parallel()
	google := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
	}))
	t.Cleanup(google.Close)
	client, err := oauth.New(oauth.Options{
		ClientID: "id", ClientSecret: "secret", RedirectURL: "https://backend.example.com/callback", Endpoints: oauth.EndpointsUnder(google.URL),
	})
	if err != nil {
		t.Fatal(err)
	}
	logins, err := oauth.NewLogins(oauth.LoginOptions{
		ClientID: "id", RedirectURL: "https://backend.example.com/callback", AuthURL: "https://google.example/auth",
		Key: oauth.LoginKey{Version: "2", Value: "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="},
		Other: func(context.Context, string) (connect.Secret, error) {
			return "", connect.Errorf(connect.Unavailable, "Secret Manager did not answer.")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ browser, query, key, login string }{
		"denied":                         {"", "error=access_denied", "2", "gcp_denied"},
		"denied by the administrator":    {"", "error=admin_policy_enforced", "2", "gcp_admin_policy"},
		"refused otherwise":              {"", "error=server_error", "2", "gcp_failed"},
		"ended in another browser":       {"cookie", "code=c", "2", "gcp_other_browser"},
		"with a code that is not good":   {"", "code=c", "2", "gcp_failed"},
		"with a key that cannot be read": {"", "code=c", "1", "gcp_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memory.NewStore()
			gateway := watched(t, functions.Deps{
				Store: store, Logins: logins, OAuth: client, Front: &url.URL{Scheme: "https", Host: "front.example.com"}, SecureCookies: true, Log: slog.New(slog.DiscardHandler),
			})
			login := connecttest.Login(t, "user", "state", c.browser, time.Now())
			login.KeyVersion = c.key
			if err := store.CreateLogin(t.Context(), login); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			gateway.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/callback?state=state&"+c.query, http.NoBody))
			if to := w.Header().Get("Location"); !strings.HasSuffix(to, "login="+c.login) {
				t.Errorf("the browser is sent to %q, answered %d", to, w.Code)
			}
			if logins, err := store.UserLogins(t.Context(), "user", 10); err != nil || len(logins) > 0 {
				t.Errorf("%d records are left, %v", len(logins), err)
			}
		})
	}
}

// Who asked for a token is in the log, however little is logged.
func TestWhoAskedForATokenIsAlwaysLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelError, "")
	parts := setup.Parts{Store: memory.NewStore(), Log: log}
	gateway := watched(t, functions.Deps{Service: &setup.Service{Parts: parts}, Internal: functions.InternalMark, Log: log})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/internal/token", strings.NewReader(`{"userId":"user","mode":"ask"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Internal-Service", "tools")
	w := httptest.NewRecorder()
	gateway.ServeHTTP(w, r)
	var line struct{ Severity, Message, Caller, User, Mode string }
	if err := json.Unmarshal(out.Bytes(), &line); w.Code != http.StatusNotFound || err != nil {
		t.Fatalf("answered %d, and logged %q: %v", w.Code, out.String(), err)
	}
	if line.Severity != "NOTICE" || line.Message != "token refused" || line.Caller != "tools" || line.User != "user" || line.Mode != "ask" {
		t.Errorf("the log says %s", out.String())
	}
}
