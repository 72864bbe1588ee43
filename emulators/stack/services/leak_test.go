package services_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	sdk "cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack"
	"gcpconnect/emulators/stack/stacktest"
)

// No secret leaves the Vault: it is in no log, task, span, metric, response,
// error, address or document, from the first login to the end of the removal,
// although the Vault is sealed and Google refuses for a while.
func TestServices_NoSecretLeaves(t *testing.T) {
	t.Parallel()
	shared := stacktest.SharedServices(t)
	recorder := stacktest.NewSecretRecorder(&http.Transport{MaxIdleConnsPerHost: 100})
	recorder.Learn(shared.Vault.SecretID.Reveal(), "AppRole secret ID")
	environment := shared.Environment()
	maps.Copy(environment, stacktest.AuthBackend)
	environment["VAULT_ADDR"] = recorder.VaultProxy(t, shared.Vault.Address)
	exported, telemetry := stacktest.RecordTelemetry()
	opts := stack.Options{Environment: environment, Network: recorder, Telemetry: exported}
	stacktest.RunServices(t, opts, googletest.Scenario(3, googletest.WithPlatform), func(y *stacktest.System) {
		y.ActAsBackend()
		recordDocuments := func(when string) {
			t.Helper()
			if err := y.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
			for path, text := range documents(t, shared.Firestore.Address, environment["GOOGLE_CLOUD_PROJECT"]) {
				recorder.Record("document "+path+" "+when, text)
			}
		}
		asBackend := append(y.Bearer(stacktest.BackendAccount, y.URL), "X-User-ID", stacktest.UserID)

		// Logins are not completed: one is not confirmed, one has a forged state, one
		// finds a sealed Vault.
		begun := y.Send(http.MethodPost, "/login", `{}`, append(asBackend, stacktest.JSON...)...)
		var login struct {
			URL string `json:"login_url"`
		}
		if err := begun.Decode(&login); err != nil {
			t.Fatal(err)
		}
		address, err := url.Parse(login.URL)
		if err != nil {
			t.Fatal(err)
		}
		recordDocuments("while a login is open")
		if ending := y.Callback(y.Consent(address, googletest.Owner), nil); ending != "gcp_confirm" {
			t.Errorf("a login that is not confirmed ended with %s", ending)
		}
		recordDocuments("while a login waits")
		forged := url.Values{"state": {"a-state-that-nobody-gave"}, "code": {"a-code-that-nobody-gave"}}
		if ending := y.Callback(forged, nil); ending != "gcp_expired" {
			t.Errorf("a forged login ended with %s", ending)
		}
		recorder.Learn("a-code-that-nobody-gave", "code")
		recorder.SealVault(true)
		if ending, _, err := y.User.Connect(t.Context(), demo.Choice{}); err != nil || ending != "gcp_failed" {
			t.Errorf("a login with a sealed Vault ended with %q, %v", ending, err)
		}
		recorder.SealVault(false)

		y.WantSuccess(y.Complete(), 3, 3)
		y.WantDiscovered("project-001", "project-002", "project-003")
		for _, path := range []string{
			"/api/gcp/connection", "/api/gcp/changes", "/api/gcp/projects", "/api/gcp/root-project", "/api/gcp/sa-project-access", "/api/gcp/resources",
		} {
			y.Call(http.StatusOK, http.MethodGet, path, nil, nil)
		}
		y.Call(http.StatusOK, http.MethodPost, "/gcp/setup/plan", nil, nil)
		const ask = `{"userId":"user-1","mode":"ask","projectId":"project-002"}`
		for _, c := range []struct {
			want                    int
			body, account, audience string
		}{
			{http.StatusOK, `{"userId":"user-1","mode":"agent"}`, stacktest.ToolsAccount, y.URL},
			{http.StatusOK, ask, stacktest.ToolsAccount, y.URL},
			{http.StatusForbidden, `{"userId":"user-1","mode":"ask","projectId":"another"}`, stacktest.ToolsAccount, y.URL},
			{http.StatusForbidden, ask, "evil@evil.iam.gserviceaccount.com", y.URL},
			{http.StatusUnauthorized, ask, stacktest.ToolsAccount, "https://elsewhere.example"},
		} {
			header := append(y.Bearer(c.account, c.audience), stacktest.JSON...)
			if answer := y.Send(http.MethodPost, "/internal/token", c.body, header...); answer.Status != c.want {
				t.Errorf("%s of %s was answered %d %s, want %d", c.body, c.account, answer.Status, answer.Body, c.want)
			}
		}

		// Google refuses with an echo of the request, and does not answer.
		for _, f := range []google.Fault{
			{Method: "cloudbilling.*", Code: 403, Message: "refused", Count: 1},
			{Method: "cloudresourcemanager.*", Code: 503, Count: 20}, {Method: "*.search", Reset: true, Count: 5},
		} {
			if err := y.Google.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
		if answer := y.Send(http.MethodGet, "/api/gcp/projects", "", asBackend...); answer.Status == http.StatusOK {
			t.Error("the faults of Google were not noticed")
		}
		y.Google.ClearFaults()
		// Google refuses the access token, and the Vault is sealed.
		if err := y.Google.AddFault(google.Fault{Method: "cloudresourcemanager.*", Code: 401}); err != nil {
			t.Fatal(err)
		}
		recorder.SealVault(true)
		y.Call(http.StatusServiceUnavailable, http.MethodGet, "/api/gcp/projects", nil, nil)
		recorder.SealVault(false)
		y.Google.ClearFaults()

		recordDocuments("after the setup")
		if s := y.DisconnectWithCleanup(map[string]any{}); s.State != "SUCCESS" {
			t.Errorf("the cleanup ended with %s", stacktest.Show(s))
		}
		recordDocuments("after the cleanup")

		recorder.RecordOutput(y, telemetry)
		recorder.WantNoLeak(t, "code", "state", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token",
			"access token of a service account", "assertion", "AppRole secret ID", "token of Vault", "ID token of a caller")
		logs := y.Logs.String()
		if recorder.TokensGiven() != 5 || recorder.Places() < 100 || len(logs) < 1000 || len(telemetry.Spans()) < 100 {
			t.Errorf("only %d places were searched, a log of %d bytes, %d spans, and %d answers of /internal/token",
				recorder.Places(), len(logs), len(telemetry.Spans()), recorder.TokensGiven())
		}
		for _, words := range []string{"sealed", "login was not parked", "token refused", "token given", "request failed"} {
			if !strings.Contains(logs, words) {
				t.Errorf("the log does not say %q", words)
			}
		}
	})
}

// documents returns all documents of a project as text, by path.
func documents(t *testing.T, emulator, project string) map[string]string {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer owner")
	conn, err := grpc.NewClient(emulator, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := sdk.NewClient(ctx, project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all := map[string]string{}
	var walk func(collections *sdk.CollectionIterator)
	walk = func(collections *sdk.CollectionIterator) {
		for {
			collection, err := collections.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			refs, err := collection.DocumentRefs(ctx).GetAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range refs {
				if snapshot, err := ref.Get(ctx); err == nil {
					data := snapshot.Data()
					if packed, ok := data["Bulk"].([]byte); ok {
						if r, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
							text, _ := io.ReadAll(r)
							data["Bulk"] = string(text)
						}
					}
					all[ref.Path] = fmt.Sprint(data)
				}
				walk(ref.Collections(ctx))
			}
		}
	}
	walk(client.Collections(ctx))
	return all
}
