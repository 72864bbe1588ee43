package memory_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

// tracer begins a trace where the browser comes back, and notes the traces of
// the tasks.
type tracer struct {
	next http.RoundTripper

	mu     sync.Mutex
	traces map[string]int // of tasks
}

const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

func (r *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case strings.HasPrefix(req.URL.Path, "/tasks/"):
		id, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Traceparent"), "00-"), "-")
		r.mu.Lock()
		r.traces[id]++
		r.mu.Unlock()
	case req.URL.Path == "/callback":
		req = req.Clone(req.Context())
		req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	}
	return r.next.RoundTrip(req)
}

// A trace is carried on by functions that tell of nothing themselves: their logs
// are in it.
func TestTrace_PassesFunctionsWithoutTelemetry(t *testing.T) {
	t.Parallel()
	r := &tracer{traces: map[string]int{}}
	between := func(next http.RoundTripper) http.RoundTripper { r.next = next; return r }
	stacktest.RunWith(t, stacktest.Options{Between: between, Scenario: googletest.Scenario(2)}, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		y.WantDiscovered("project-001", "project-002")
		if len(r.traces) != 1 || r.traces[trace] < 9 {
			t.Errorf("the tasks were of the traces %v, want all of one", r.traces)
		}
	})
}
