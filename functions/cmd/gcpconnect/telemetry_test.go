package main_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector keeps what it is sent by OTLP, as it comes: names of spans and
// metrics are legible in it.
type collector struct {
	mu   sync.Mutex
	sent map[string]*bytes.Buffer // by path
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent[r.URL.Path] == nil {
		c.sent[r.URL.Path] = new(bytes.Buffer)
	}
	_, _ = io.Copy(c.sent[r.URL.Path], content)
}

func (c *collector) has(path, text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[path] != nil && strings.Contains(c.sent[path].String(), text)
}

func post(t *testing.T, url, header string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(header, "true")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// After its answer a process may get no more time, and after SIGTERM it gets
// some.
func TestTelemetryOfTasksLeavesBeforeTheAnswerAndTheRestBeforeTheEnd(t *testing.T) {
	t.Parallel()
	c := &collector{sent: map[string]*bytes.Buffer{}}
	server := httptest.NewServer(c)
	defer server.Close()
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL)
	if status := post(t, p.url+"/tasks/sweep", "X-CloudScheduler"); status != http.StatusNoContent {
		t.Errorf("sweep answered %d", status)
	}
	if !c.has("/v1/traces", "sweep") {
		t.Error("the answer was there before the span")
	}
	if status := post(t, p.url+"/login", "X-User-ID"); status != http.StatusOK {
		t.Errorf("login answered %d", status)
	}
	p.stop(t)
	if !c.has("/v1/traces", "login") {
		t.Error("the program ended with spans in hand")
	}
}

func TestACollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // nobody listens there any more
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL)
	if status := post(t, p.url+"/tasks/sweep", "X-CloudScheduler"); status != http.StatusNoContent {
		t.Errorf("sweep answered %d", status)
	}
	p.stop(t)
	if !strings.Contains(p.stderr.String(), "telemetry was not sent") {
		t.Errorf("the log does not say that telemetry is lost:\n%s", p.stderr)
	}
}
