package stacktest

import (
	"bytes"
	"context"
	"encoding/json"
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
)

// SecretRecorder is a network that learns secrets from the exchanges with Google,
// and records the text of every other exchange.
type SecretRecorder struct {
	// Next sends the requests.
	Next http.RoundTripper

	mu      sync.Mutex
	secrets map[string]string // kinds by value
	seen    map[string]string // text by place
	given   int               // answers of /internal/token
	// refuse, unless it is nil, answers requests in Google's place.
	refuse func(path string, form url.Values) (answer string, refused bool)
	sealed bool // the Vault is
}

// NewSecretRecorder makes a recorder that sends requests through next.
func NewSecretRecorder(next http.RoundTripper) *SecretRecorder {
	return &SecretRecorder{Next: next, secrets: map[string]string{}, seen: map[string]string{}}
}

// Learn adds a secret of a kind.
func (w *SecretRecorder) Learn(value, kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.learn(value, kind)
}

// Record adds the text of a place where no secret may be.
func (w *SecretRecorder) Record(place, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[place] += text
}

// RecordOutput records the logs, spans and metrics of a system.
func (w *SecretRecorder) RecordOutput(y *System, h *TelemetryRecorder) {
	y.T.Helper()
	w.Record("the log", y.Logs.String())
	w.Record("the spans", fmt.Sprintf("%+v", h.Spans()))
	w.Record("the metrics", fmt.Sprintf("%+v", h.Points(y.T)))
}

// Places returns the number of places that were recorded.
func (w *SecretRecorder) Places() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// TokensGiven returns the number of answers of /internal/token.
func (w *SecretRecorder) TokensGiven() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.given
}

// Listen implements stack.Network.
func (w *SecretRecorder) Listen(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// Transport implements stack.Network.
func (w *SecretRecorder) Transport() http.RoundTripper { return w }

// RoundTrip implements http.RoundTripper.
func (w *SecretRecorder) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := w.forward(r, sent)
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
	w.recordURL(r)
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
		w.seen["task "+path+" "+r.Header.Get("X-Cloudtasks-Taskname")] += r.URL.String() + fmt.Sprint(header, resp.Header) + string(sent) + string(came)
	case path == "/callback": // the code and the state come here, and must end here
		w.learn(r.URL.Query().Get("state"), "state")
		w.learn(r.URL.Query().Get("code"), "code")
		w.seen["answer of "+path] += fmt.Sprint(resp.Header) + string(came)
	case path == "/login": // the state goes from here to Google
		w.seen["address of the consent page"] += string(came)
		for _, cookie := range resp.Cookies() {
			w.learn(cookie.Value, "cookie")
		}
	case path == "/internal/token": // the token goes from here to the service
		w.seen["headers of "+path] += fmt.Sprint(resp.Header)
		if resp.StatusCode != http.StatusOK {
			w.seen["errors of "+path] += string(came)
		}
		w.given++
	case strings.HasPrefix(path, "/gcp/") || strings.HasPrefix(path, "/api/"):
		w.seen["answer of "+path] += r.URL.String() + fmt.Sprint(resp.Header) + string(came)
	}
	return resp, nil
}

// VaultProxy starts a proxy of a Vault, learns its tokens and returns its URL.
func (w *SecretRecorder) VaultProxy(t testing.TB, address string) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	between := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: vaultTransport{w},
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

func (w *SecretRecorder) learn(value, what string) {
	if _, known := w.secrets[value]; value != "" && !known {
		w.secrets[value] = what
	}
}

// WantNoLeak fails if a secret is in a recorded place, or if no secret of one of
// the kinds was seen.
func (w *SecretRecorder) WantNoLeak(t testing.TB, kinds ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[string]bool{}
	for secret, kind := range w.secrets {
		found[kind] = true
		for place, text := range w.seen {
			if kind == "state" && place == "address of the consent page" {
				continue // Google must have it
			}
			if strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) {
				t.Errorf("%s is in %s", kind, place)
			}
		}
	}
	for _, kind := range kinds {
		if !found[kind] {
			t.Errorf("no %s was seen, so it was not looked for", kind)
		}
	}
}

// recordURL records the address of a request. Requests of the browser carry the
// state and the code: they are left out.
func (w *SecretRecorder) recordURL(r *http.Request) {
	if r.URL.Path != "/callback" && !strings.HasPrefix(r.URL.Path, "/o/oauth2/") {
		w.seen["addresses of requests to "+r.URL.Host] += r.URL.String() + " "
	}
}

// roundTrip has a request answered: as refuse says, or by its host.
func (w *SecretRecorder) forward(r *http.Request, sent []byte) (*http.Response, error) {
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil && (r.URL.Path == "/token" || r.URL.Path == "/revoke") {
		form, err := url.ParseQuery(string(sent))
		if err != nil {
			return nil, err
		}
		if answer, refused := refuse(r.URL.Path, form); refused {
			return &http.Response{
				StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(answer)), Request: r,
			}, nil
		}
	}
	return w.Next.RoundTrip(r)
}

// echo makes an error of Google that repeats the request.
func echo(kind string, form url.Values) string {
	said := []string{"I was sent " + form.Encode()}
	for name := range form {
		said = append(said, name+" "+form.Get(name))
	}
	answer, _ := json.Marshal(map[string]string{"error": kind, "error_description": strings.Join(said, ", ")}) // texts
	return string(answer)
}

// RefuseWithEcho refuses requests of a grant type to an endpoint with an error that
// repeats the request.
func (w *SecretRecorder) RefuseWithEcho(endpoint, grant, kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = func(path string, form url.Values) (string, bool) {
		return echo(kind, form), path == endpoint && form.Get("grant_type") == grant
	}
}

// SealVault makes the proxy answer as a sealed Vault does, or no longer.
func (w *SecretRecorder) SealVault(sealed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealed = sealed
}

// Allow ends RefuseWithEcho.
func (w *SecretRecorder) Allow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = nil
}

// vaultTransport sends requests to the Vault unless it is sealed.
type vaultTransport struct{ *SecretRecorder }

func (s vaultTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	sealed := s.sealed
	s.learn(r.Header.Get("X-Vault-Token"), "token of Vault")
	s.seen["addresses of requests to the Vault"] += r.URL.String() + " "
	s.mu.Unlock()
	if !sealed {
		return http.DefaultTransport.RoundTrip(r)
	}
	return &http.Response{
		StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"errors":["Vault is sealed"]}`)), Request: r,
	}, nil
}
