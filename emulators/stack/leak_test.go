package stack_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/firestore"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
)

// wiretap is a network that learns what is secret from what goes to and comes
// from Google, and keeps what goes anywhere else.
type wiretap struct {
	next http.RoundTripper

	mu      sync.Mutex
	secrets map[string]string // value -> what it is
	heard   map[string]string // where -> what was said
	given   int               // tokens by /internal/token
	// refuse, if there is one, answers in Google's place what it does not let through.
	refuse func(path string, form url.Values) (answer string, refused bool)
	sealed bool // the Vault is
}

func (w *wiretap) Listen(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

func (w *wiretap) Transport() http.RoundTripper { return w }

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := w.roundTrip(r, sent)
	if err != nil {
		return nil, err
	}
	came, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(came))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hearURL(r)
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if strings.Count(token, ".") == 2 && !strings.HasPrefix(token, "ya29") {
			w.learn(token, "ID token of a caller")
		} else {
			w.learn(token, "access token")
		}
	}
	switch path := r.URL.Path; {
	case path == "/token":
		form, _ := url.ParseQuery(string(sent))
		for _, name := range []string{"code", "code_verifier", "client_secret", "refresh_token", "assertion"} {
			w.learn(form.Get(name), name)
		}
		var answer map[string]any
		_ = json.Unmarshal(came, &answer)
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			value, _ := answer[name].(string)
			w.learn(value, name)
		}
	case strings.HasSuffix(path, ":generateAccessToken"):
		var answer struct{ AccessToken string }
		_ = json.Unmarshal(came, &answer)
		w.learn(answer.AccessToken, "access token of a service account")
	case strings.HasPrefix(path, "/tasks/"):
		header := r.Header.Clone() // with the trace
		header.Del("Authorization")
		w.heard["task "+path+" "+r.Header.Get("X-Cloudtasks-Taskname")] += r.URL.String() + fmt.Sprint(header, resp.Header) + string(sent) + string(came)
	case path == "/callback": // the code and the state come here, and must end here
		w.learn(r.URL.Query().Get("state"), "state")
		w.learn(r.URL.Query().Get("code"), "code")
		w.heard["answer of "+path] += fmt.Sprint(resp.Header) + string(came)
	case path == "/login": // the state goes from here to Google
		w.heard["address of the consent page"] += string(came)
		for _, cookie := range resp.Cookies() {
			w.learn(cookie.Value, "cookie")
		}
	case path == "/internal/token": // the token goes from here to the service
		w.heard["headers of "+path] += fmt.Sprint(resp.Header)
		if resp.StatusCode != http.StatusOK {
			w.heard["errors of "+path] += string(came)
		}
		w.given++
	case strings.HasPrefix(path, "/gcp/") || strings.HasPrefix(path, "/api/"):
		w.heard["answer of "+path] += r.URL.String() + fmt.Sprint(resp.Header) + string(came)
	}
	return resp, nil
}

// vault is a Vault that the wiretap listens to.
func (w *wiretap) vault(t *testing.T, address string) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	between := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: sealable{w},
		ModifyResponse: func(resp *http.Response) error {
			came, err := io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(bytes.NewReader(came))
			var answer struct {
				Auth struct {
					Token string `json:"client_token"`
				} `json:"auth"`
			}
			_ = json.Unmarshal(came, &answer)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.learn(answer.Auth.Token, "token of Vault")
			return err
		},
	})
	t.Cleanup(between.Close)
	return between.URL
}

func (w *wiretap) learn(value, what string) {
	if _, known := w.secrets[value]; value != "" && !known {
		w.secrets[value] = what
	}
}

// Nothing that is secret is found where it does not belong: in no log, task,
// trace, answer, error, address and document, from the first login to the last
// trace of the connection, with its failures.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	w := newWiretap(&http.Transport{MaxIdleConnsPerHost: 100})
	w.learn(shared.vault.SecretID.Reveal(), "AppRole secret ID")
	environment := shared.environment()
	environment["VAULT_ADDR"] = w.vault(t, shared.vault.Address)
	environment["AUTH"], environment["BACKEND_SERVICE_ACCOUNTS"], environment["HOST"] = "backend", backendAccount, "127.0.0.1"
	environment["INTERNAL_SERVICE_ACCOUNTS"] = toolsAccount
	where, told := tell()
	runReal(t, stack.Options{Environment: environment, Network: w, Telemetry: where}, scenario(3, withPlatform), func(y *system) {
		y.asBackend()
		keep := func(when string) {
			y.t.Helper()
			if err := y.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := documents(t, shared.firestore.Address, environment["GOOGLE_CLOUD_PROJECT"])
			w.mu.Lock()
			defer w.mu.Unlock()
			for path, text := range all {
				w.heard["document "+path+" "+when] = text
			}
		}
		// A login that fails, with a code and a state of its own.
		asBackend := y.bearer(backendAccount, y.URL)
		begun := y.send(http.MethodPost, "/login", `{}`, append(asBackend, "Content-Type", "application/json", "X-User-ID", victim)...)
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
		keep("while a login is open")
		if told := y.callback(y.consent(address, owner), nil); told != "gcp_other_browser" {
			t.Errorf("a login in another browser ended with %s", told)
		}
		if told := y.callback(url.Values{"state": {"a-state-that-nobody-gave"}, "code": {"a-code-that-nobody-gave"}}, nil); told != "gcp_expired" {
			t.Errorf("a forged login ended with %s", told)
		}
		w.mu.Lock()
		w.learn("a-code-that-nobody-gave", "code")
		w.mu.Unlock()

		y.wantSuccess(y.complete(), 3, 3)
		y.discovered("project-001", "project-002", "project-003")
		for _, path := range []string{"/api/gcp/connection", "/api/gcp/changes", "/api/gcp/projects", "/api/gcp/root-project", "/api/gcp/sa-project-access", "/api/gcp/resources"} {
			y.call(http.StatusOK, http.MethodGet, path, nil, nil)
		}
		y.call(http.StatusOK, http.MethodPost, "/gcp/setup/plan", nil, nil)
		for _, request := range []string{`{"userId":"user-1","mode":"agent"}`, `{"userId":"user-1","mode":"ask","projectId":"project-002"}`, `{"userId":"user-1","mode":"ask","projectId":"another"}`} {
			y.send(http.MethodPost, "/internal/token", request, append(y.bearer(toolsAccount, y.URL), "Content-Type", "application/json")...)
		}
		// Google answers with what it was sent, and is away.
		for _, f := range []google.Fault{
			{Method: "cloudbilling.*", Code: 403, Message: "refused", Count: 1}, {Method: "cloudresourcemanager.*", Code: 503, Count: 20}, {Method: "*.search", Reset: true, Count: 5},
		} {
			if err := y.Google.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
		answer := y.send(http.MethodGet, "/api/gcp/projects", "", append(y.bearer(backendAccount, y.URL), "X-User-ID", victim)...)
		if answer.Status == http.StatusOK {
			t.Error("a Google that is away was not noticed")
		}
		y.Google.ClearFaults()
		keep("after the setup")
		if s := y.disconnect(map[string]any{}); s.State != "SUCCESS" {
			t.Errorf("the cleanup ended with %s", show(s))
		}
		keep("after the cleanup")

		w.mu.Lock()
		defer w.mu.Unlock()
		w.heard["the log"] = y.logs.String()
		w.heard["the spans"], w.heard["the metrics"] = fmt.Sprintf("%+v", told.spans()), fmt.Sprintf("%+v", told.points(t))
		kinds := w.search(t)
		for _, what := range []string{
			"code", "state", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token", "access token of a service account", "assertion",
			"cookie", "AppRole secret ID", "token of Vault", "ID token of a caller",
		} {
			if !kinds[what] {
				t.Errorf("no %s was seen, so it was not looked for", what)
			}
		}
		if w.given != 3 || len(w.heard) < 100 || len(w.heard["the log"]) < 1000 || len(told.spans()) < 100 || len(w.heard["the metrics"]) < 1000 {
			t.Errorf("only %d places were searched, a log of %d bytes, %d spans, and %d answers of /internal/token", len(w.heard), len(w.heard["the log"]), len(told.spans()), w.given)
		}
	})
}

// documents are all documents of a project, as text.
func documents(t *testing.T, emulator, project string) map[string]string {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer owner")
	conn, err := grpc.NewClient(emulator, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := firestore.NewClient(ctx, project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all := map[string]string{}
	var walk func(collections *firestore.CollectionIterator)
	walk = func(collections *firestore.CollectionIterator) {
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
