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
	resp, err := w.next.RoundTrip(r)
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
	switch path := r.URL.Path; {
	case path == "/token":
		form, _ := url.ParseQuery(string(sent))
		for _, name := range []string{"code", "code_verifier", "client_secret", "refresh_token"} {
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
		w.heard["task "+path+" "+r.Header.Get("X-Cloudtasks-Taskname")] += r.URL.String() + string(sent) + string(came)
	case path == "/callback": // the code comes here, and must end here
		w.heard["answer of "+path] += fmt.Sprint(resp.Header) + string(came)
	case path == "/login" || strings.HasPrefix(path, "/gcp/") || strings.HasPrefix(path, "/api/"):
		w.heard["answer of "+path] += string(came)
		for _, cookie := range resp.Cookies() {
			w.learn(cookie.Value, "cookie")
		}
	}
	return resp, nil
}

func (w *wiretap) learn(value, what string) {
	if value != "" {
		w.secrets[value] = what
	}
}

// Nothing that is secret is found where it does not belong: in no log, no task,
// no answer and no document.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	w := &wiretap{next: &http.Transport{MaxIdleConnsPerHost: 100}, secrets: map[string]string{}, heard: map[string]string{}}
	w.learn(shared.vault.SecretID.Reveal(), "AppRole secret ID")
	environment := shared.environment()
	runReal(t, stack.Options{Environment: environment, Network: w}, scenario(3, nil), func(y *system) {
		y.wantSuccess(y.complete(), 3, 3)
		y.discovered("project-001", "project-002", "project-003")
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, nil)
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/changes", nil, nil)
		y.call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, nil)
		w.mu.Lock()
		defer w.mu.Unlock()
		for path, text := range documents(t, shared.firestore.Address, environment["GOOGLE_CLOUD_PROJECT"]) {
			w.heard["document "+path] = text
		}
		w.heard["the log"] = y.logs.String()
		kinds := map[string]bool{}
		for secret, what := range w.secrets {
			kinds[what] = true
			for where, said := range w.heard {
				if strings.Contains(said, secret) || strings.Contains(said, url.QueryEscape(secret)) {
					t.Errorf("%s is in %s", what, where)
				}
			}
		}
		for _, what := range []string{"code", "code_verifier", "client_secret", "refresh_token", "access_token", "id_token", "access token of a service account", "cookie", "AppRole secret ID"} {
			if !kinds[what] {
				t.Errorf("no %s was seen, so it was not looked for", what)
			}
		}
		if len(w.heard) < 50 || len(w.heard["the log"]) < 1000 {
			t.Errorf("only %d places were searched, and a log of %d bytes", len(w.heard), len(w.heard["the log"]))
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
