package memory_test

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/shared/setup"
)

// counts adds up a metric's series by the values of some labels.
func counts(points []stacktest.Point, labels ...string) map[string]int {
	sums := map[string]int{}
	for _, p := range points {
		var values []string
		for _, label := range labels {
			values = append(values, p.Labels[label])
		}
		sums[strings.Join(values, " ")] += p.Count
	}
	return sums
}

// slowProxy is on the way of tasks to the functions. It is slow, counts
// them, and may stand for Google's front end.
type slowProxy struct {
	next  http.RoundTripper
	takes time.Duration
	// frontEnd makes a span of its own of each request, which is nobody's here,
	// and has its own mind about which traces are kept.
	frontEnd bool

	mu    sync.Mutex
	tasks map[string]int // brought, by function
}

func (c *slowProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	if function, ok := strings.CutPrefix(r.URL.Path, "/tasks/"); ok {
		time.Sleep(c.takes) // on the bubble's clock
		c.mu.Lock()
		c.tasks[function]++
		c.mu.Unlock()
		if c.frontEnd {
			r = r.Clone(r.Context())
			fields := strings.Split(r.Header.Get("Traceparent"), "-")
			r.Header.Set("Traceparent", strings.Join([]string{fields[0], fields[1], "00f067aa0ba902b7", "00"}, "-"))
		}
	}
	return c.next.RoundTrip(r)
}

// trouble is faults that a setup of two projects gets over with tasks that are
// delivered again.
func trouble(s *google.Scenario) {
	s.Faults = []google.Fault{
		{Method: "cloudresourcemanager.projects.getIamPolicy", Project: "project-002", Code: 503, Count: 6},
		{Method: "cloudresourcemanager.projects.search", Code: 503, Count: 5},
		{Method: "cloudasset.searchAllResources", Project: "project-001", Code: 503, Count: 5},
	}
}

// recorded connects a user to a Google in trouble and returns how it went.
func recorded(t *testing.T, c *slowProxy, check func(y *stacktest.System, h *stacktest.TelemetryRecorder, final *demo.Status)) {
	t.Helper()
	where, h := stacktest.RecordTelemetry()
	c.tasks = map[string]int{}
	between := func(next http.RoundTripper) http.RoundTripper { c.next = next; return c }
	stacktest.RunWith(t, stacktest.Options{Telemetry: where, Between: between, Scenario: googletest.Scenario(2, trouble)}, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 2, 2)
		y.WantDiscovered("project-001", "project-002")
		check(y, h, final)
	})
}

func TestTelemetry_EverySpanIsInOneTrace(t *testing.T) {
	t.Parallel()
	recorded(t, &slowProxy{}, func(y *stacktest.System, h *stacktest.TelemetryRecorder, final *demo.Status) {
		spans := h.Spans()
		byID := map[string]*tracetest.SpanStub{}
		var begun *tracetest.SpanStub
		for i := range spans {
			byID[spans[i].SpanContext.SpanID().String()] = &spans[i]
			if spans[i].Name == "callback" {
				begun = &spans[i]
			}
		}
		calls, deliveries, again := map[string]int{}, map[string]int{}, map[string]int{}
		for _, s := range byID {
			task := stacktest.AttributeOf(s, "task")
			if s.SpanContext.TraceID() != begun.SpanContext.TraceID() {
				if task != "" || s.Name == "confirm" {
					t.Errorf("%s %s is in a trace of its own", s.Name, task)
				}
				continue
			}
			parent := byID[s.Parent.SpanID().String()]
			if s != begun && parent == nil {
				t.Errorf("%s hangs on nothing", s.Name)
				continue
			}
			switch {
			case s == begun:
			case task == "":
				calls[s.Name]++
				if stacktest.AttributeOf(s, "method") != s.Name || stacktest.AttributeOf(s, "class") == "" || parent.Name != "callback" && stacktest.AttributeOf(parent, "task") == "" {
					t.Errorf("the call %s by %s has %v", s.Name, parent.Name, s.Attributes)
				}
			default:
				deliveries[s.Name]++
				if stacktest.AttributeOf(s, "retries") != "0" {
					again[s.Name]++
				}
				about := []string{stacktest.AttributeOf(s, "setup"), stacktest.AttributeOf(s, "step"), stacktest.AttributeOf(s, "attempt"), stacktest.AttributeOf(s, "generation")}
				if s.Name == setup.DiscoverFunction {
					about[0] = stacktest.AttributeOf(s, "project")
				}
				if slices.Contains(about, "") || about[1] != s.Name {
					t.Errorf("the task %s has %v", s.Name, s.Attributes)
				}
				if stacktest.AttributeOf(parent, "task") == "" && parent != begun {
					t.Errorf("the task %s was enqueued by %s", s.Name, parent.Name)
				}
			}
		}
		want := map[string]int{setup.DiscoverFunction: 3}
		for _, step := range final.Steps {
			want[step.Name] = step.Attempts
		}
		if diff := cmp.Diff(want, deliveries); diff != "" {
			t.Errorf("deliveries (-executed +spans):\n%s", diff)
		}
		for _, name := range []string{"validate-projects", setup.DiscoverFunction} {
			if again[name] == 0 {
				t.Errorf("%s was not delivered again, so that says nothing", name)
			}
		}
		if diff := cmp.Diff(callsOf(y), calls); diff != "" {
			t.Errorf("calls (-Google's count +spans):\n%s", diff)
		}
	})
}

// callsOf counts the calls as Google does. Keys for signatures are read by
// libraries that tell of nothing.
func callsOf(y *stacktest.System) map[string]int {
	seen := y.Google.CallCounts().ByMethod
	delete(seen, "oauth.certs")
	return seen
}

func TestTelemetry_FrontEndKeepsTrace(t *testing.T) {
	t.Parallel()
	c := &slowProxy{frontEnd: true}
	recorded(t, c, func(_ *stacktest.System, h *stacktest.TelemetryRecorder, _ *demo.Status) {
		traces, tasks, brought := map[string]bool{}, 0, 0
		for _, s := range h.Spans() {
			if stacktest.AttributeOf(&s, "task") != "" || s.Name == "callback" {
				traces[s.SpanContext.TraceID().String()] = true
				tasks++
			}
		}
		for _, n := range c.tasks {
			brought += n
		}
		if len(traces) != 1 || tasks != brought+1 {
			t.Errorf("%d tasks are %d spans in %d traces", brought, tasks-1, len(traces))
		}
	})
}

func TestTelemetry_MetricsEqualCounts(t *testing.T) {
	t.Parallel()
	c := &slowProxy{takes: 7 * time.Second}
	recorded(t, c, func(y *stacktest.System, h *stacktest.TelemetryRecorder, final *demo.Status) {
		points := h.Points(t)
		if diff := cmp.Diff(callsOf(y), counts(points["gcpconnect.google.calls"], "method")); diff != "" {
			t.Errorf("calls (-Google's count +metric):\n%s", diff)
		}
		failed := map[string]int{}
		for _, call := range y.Google.Calls() {
			if call.Status >= 400 {
				failed[call.Method]++
			}
		}
		refused := map[string]int{}
		for _, p := range points["gcpconnect.google.calls"] {
			if p.Labels["class"] != "ok" {
				refused[p.Labels["method"]] += p.Count
			}
		}
		if diff := cmp.Diff(failed, refused); diff != "" || failed["cloudresourcemanager.projects.search"] != 5 {
			t.Errorf("calls that failed (-Google's count +metric):\n%s", diff)
		}

		executions, attempts, finished := map[string]int{setup.DiscoverFunction: 3}, map[string]float64{}, map[string]int{}
		for _, step := range final.Steps {
			executions[step.Name], attempts[step.Name], finished[step.Name] = step.Attempts, float64(step.Attempts), 1
		}
		if diff := cmp.Diff(executions, counts(points["gcpconnect.step.duration"], "step")); diff != "" {
			t.Errorf("executions (-the setup's record +metric):\n%s", diff)
		}
		outcomes := counts(points["gcpconnect.step.duration"], "step", "outcome")
		if outcomes["validate-projects retrying"] != 1 || outcomes["validate-projects done"] != 1 || outcomes["verify-permissions waiting"] == 0 || outcomes["discover-project done"] != 2 {
			t.Errorf("executions came to %v", outcomes)
		}
		if diff := cmp.Diff(finished, counts(points["gcpconnect.step.attempts"], "step")); diff != "" {
			t.Errorf("finished steps (-want +metric):\n%s", diff)
		}
		for _, p := range points["gcpconnect.step.attempts"] {
			if p.Sum != attempts[p.Labels["step"]] {
				t.Errorf("%v took %v attempts, the setup's record says %v", p.Labels, p.Sum, attempts)
			}
		}
		if diff := cmp.Diff(map[string]int{"setup succeeded ": 1}, counts(points["gcpconnect.setups"], "kind", "outcome", "code")); diff != "" {
			t.Errorf("setups (-want +metric):\n%s", diff)
		}
		if diff := cmp.Diff(c.tasks, counts(points["gcpconnect.task.age"], "function")); diff != "" {
			t.Errorf("tasks (-brought +metric):\n%s", diff)
		}
		for _, p := range points["gcpconnect.task.age"] {
			if age := p.Sum / float64(p.Count); age < 7 || age > 7.001 {
				t.Errorf("tasks of %s were %v s old, and it took 7 s to bring them", p.Labels["function"], age)
			}
		}
		if spread := points["gcpconnect.propagation.time"]; len(spread) != 1 || spread[0].Count != 2 || spread[0].Sum < 2*60 || spread[0].Sum > 2*(60+30+3*7) {
			t.Errorf("propagation = %v, want that of 2 projects, 60 s each and at most a check and three tasks more", spread)
		}
		lowCardinality(t, points)
	})
}

// lowCardinality fails if a metric has labels that nobody expects, or that name
// somebody or something, or if README does not have it with its labels.
func lowCardinality(t *testing.T, points map[string][]stacktest.Point) {
	t.Helper()
	labels := map[string][]string{
		"gcpconnect.google.calls": {"class", "method"}, "gcpconnect.step.duration": {"outcome", "step"}, "gcpconnect.step.attempts": {"step"},
		"gcpconnect.setups": {"code", "kind", "outcome"}, "gcpconnect.task.age": {"function"}, "gcpconnect.propagation.time": nil,
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(labels)), slices.Sorted(maps.Keys(points))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, series := range points {
		row := "| `" + name + "` | "
		for _, label := range labels[name] {
			if line, _, _ := strings.Cut(string(readme)[max(0, strings.Index(string(readme), row)):], "\n"); !strings.HasPrefix(line, row) || !strings.Contains(line, "`"+label+"`") {
				t.Errorf("README.md does not have %s with %s", name, label)
			}
		}
		for _, p := range series {
			if got := slices.Sorted(maps.Keys(p.Labels)); !slices.Equal(got, labels[name]) {
				t.Errorf("%s has the labels %v, want %v", name, got, labels[name])
			}
			for label, value := range p.Labels {
				if strings.Contains(value, "project-0") || strings.Contains(value, "user-") || strings.Contains(value, "@") {
					t.Errorf("%s has %s=%s", name, label, value)
				}
			}
		}
	}
}

func TestTelemetry_LogLinesNameTheirTask(t *testing.T) {
	t.Parallel()
	recorded(t, &slowProxy{}, func(y *stacktest.System, h *stacktest.TelemetryRecorder, _ *demo.Status) {
		spans := map[string]*tracetest.SpanStub{}
		for _, s := range h.Spans() {
			spans[s.SpanContext.SpanID().String()] = &s
		}
		lines := map[string]int{} // by message, of tasks
		for line := range strings.Lines(y.Logs.String()) {
			s := spans[field(line, "logging.googleapis.com/spanId")]
			if s == nil {
				continue
			}
			if s.SpanContext.TraceID().String() != field(line, "logging.googleapis.com/trace") {
				t.Errorf("another trace than its span's: %s", line)
			}
			for ; s != nil && stacktest.AttributeOf(s, "task") == ""; s = spans[s.Parent.SpanID().String()] {
			}
			if s == nil {
				continue // a request's that is no task
			}
			message := field(line, "msg")
			lines[message]++
			about := []string{"setup", "step", "attempt", "generation"}
			if s.Name == setup.DiscoverFunction {
				about[0] = "project"
			} else if field(line, "user") != "" {
				t.Errorf("a step's line names the user: %s", line)
			}
			for _, thing := range about {
				if got := field(line, thing); got == "" || got != stacktest.AttributeOf(s, attribute.Key(thing)) {
					t.Errorf("%s has %s %q, its task %q: %s", s.Name, thing, got, stacktest.AttributeOf(s, attribute.Key(thing)), line)
				}
			}
			if call := field(line, "call"); strings.Contains(call, "project-0") && !strings.HasSuffix(call, field(line, "project")) {
				t.Errorf("the project is another or none: %s", line)
			}
		}
		for _, message := range []string{"call to Google is repeated", "step will be tried again", "request failed", "part of the step will be tried again", "setup ended", "discovery ended", "discovery will be tried again"} {
			if lines[message] == 0 {
				t.Errorf("no line says %q, so it was not looked at: %v", message, lines)
			}
		}
	})
}

// field is a field of a line of slog's text.
func field(line, key string) string {
	_, value, ok := strings.Cut(line, " "+key+"=")
	if !ok {
		return ""
	}
	if quoted, err := strconv.QuotedPrefix(value); err == nil {
		value, _ = strconv.Unquote(quoted)
		return value
	}
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	return value
}

func TestTelemetry_CountsEveryEnding(t *testing.T) {
	t.Parallel()
	where, h := stacktest.RecordTelemetry()
	s := googletest.Scenario(7, func(s *google.Scenario) { googletest.Project(s, "project-003").Bindings[0].Role = "roles/viewer" })
	stacktest.RunWith(t, stacktest.Options{Telemetry: where, Scenario: s, Environment: map[string]string{"VERIFY_ATTEMPTS": "4"}}, func(y *stacktest.System) {
		want := map[string]int{}
		check := func(ending string) {
			y.T.Helper()
			want[ending]++
			if diff := cmp.Diff(want, counts(h.Points(t)["gcpconnect.setups"], "kind", "outcome", "code")); diff != "" {
				y.T.Fatalf("setups (-want +metric):\n%s", diff)
			}
		}
		y.Complete()
		check("setup needs_selection needs_selection")
		y.WantSuccess(y.Await(y.Restart("project-001", "project-002")), 2, 2)
		check("setup succeeded ")
		y.WantSuccess(y.Await(y.Restart("project-002", "project-003")), 1, 2)
		check("setup succeeded partial")
		y.Restart("project-004")
		again := y.Connect()
		check("setup canceled reconnected")
		y.Await(again)
		check("setup needs_selection needs_selection")
		y.Restart("project-004")
		final := y.DisconnectWithCleanup(map[string]any{})
		if final.State != "SUCCESS" {
			y.T.Fatalf("the cleanup ended with %s", stacktest.Show(final))
		}
		want["setup canceled disconnected"]++
		check("removal succeeded ")
	})
}
