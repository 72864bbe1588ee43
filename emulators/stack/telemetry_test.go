package stack_test

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
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// told is all that a system has told of its work.
type told struct {
	exporter *tracetest.InMemoryExporter
	reader   *sdkmetric.ManualReader
}

// tell returns where a system is to tell of its work, and what hears it. Spans
// are heard when they end.
func tell() (*telemetry.Telemetry, *told) {
	h := &told{tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()}
	return telemetry.Of(
		sdktrace.NewTracerProvider(sdktrace.WithSyncer(h.exporter), sdktrace.WithSampler(sdktrace.TraceIDRatioBased(1))),
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(h.reader)),
	), h
}

// spans returns the spans that have ended.
func (h *told) spans() tracetest.SpanStubs { return h.exporter.GetSpans() }

// of returns a span's attribute as text; "" if it has none.
func of(s *tracetest.SpanStub, key attribute.Key) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// point is what one series of a metric has come to.
type point struct {
	labels map[string]string
	count  int
	sum    float64
}

// points returns the series of all metrics, by name.
func (h *told) points(t testing.TB) map[string][]point {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := h.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	points := map[string][]point{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(set attribute.Set, count int, sum float64) {
				p := point{map[string]string{}, count, sum}
				for _, a := range set.ToSlice() {
					p.labels[string(a.Key)] = a.Value.String()
				}
				points[m.Name] = append(points[m.Name], p)
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, int(p.Value), float64(p.Value))
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, int(p.Count), float64(p.Sum))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, int(p.Count), p.Sum)
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return points
}

// counts adds up a metric's series by the values of some labels.
func counts(points []point, labels ...string) map[string]int {
	sums := map[string]int{}
	for _, p := range points {
		var values []string
		for _, label := range labels {
			values = append(values, p.labels[label])
		}
		sums[strings.Join(values, " ")] += p.count
	}
	return sums
}

// courier is what tasks pass on their way to the functions. It is slow, counts
// them, and may stand for Google's front end.
type courier struct {
	next  http.RoundTripper
	takes time.Duration
	// frontEnd makes a span of its own of each request, which is nobody's here,
	// and has its own mind about which traces are kept.
	frontEnd bool

	mu    sync.Mutex
	tasks map[string]int // brought, by function
}

func (c *courier) RoundTrip(r *http.Request) (*http.Response, error) {
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

// watched connects a user to a Google in trouble and returns how it went.
func watched(t *testing.T, c *courier, check func(y *system, h *told, final *demo.Status)) {
	t.Helper()
	where, h := tell()
	c.tasks = map[string]int{}
	between := func(next http.RoundTripper) http.RoundTripper { c.next = next; return c }
	runTold(t, where, between, scenario(2, trouble), nil, func(y *system) {
		final := y.complete()
		y.wantSuccess(final, 2, 2)
		y.discovered("project-001", "project-002")
		check(y, h, final)
	})
}

func TestEverySpanOfASetupIsInOneTrace(t *testing.T) {
	t.Parallel()
	watched(t, &courier{}, func(y *system, h *told, final *demo.Status) {
		spans := h.spans()
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
			task := of(s, "task")
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
				if of(s, "method") != s.Name || of(s, "class") == "" || parent.Name != "callback" && of(parent, "task") == "" {
					t.Errorf("the call %s by %s has %v", s.Name, parent.Name, s.Attributes)
				}
			default:
				deliveries[s.Name]++
				if of(s, "retries") != "0" {
					again[s.Name]++
				}
				about := []string{of(s, "setup"), of(s, "step"), of(s, "attempt"), of(s, "generation")}
				if s.Name == setup.DiscoverFunction {
					about[0] = of(s, "project")
				}
				if slices.Contains(about, "") || about[1] != s.Name {
					t.Errorf("the task %s has %v", s.Name, s.Attributes)
				}
				if of(parent, "task") == "" && parent != begun {
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
func callsOf(y *system) map[string]int {
	seen := y.Google.CallCounts().ByMethod
	delete(seen, "oauth.certs")
	return seen
}

func TestAFrontEndOfGooglesDoesNotBreakATraceUp(t *testing.T) {
	t.Parallel()
	c := &courier{frontEnd: true}
	watched(t, c, func(_ *system, h *told, _ *demo.Status) {
		traces, tasks, brought := map[string]bool{}, 0, 0
		for _, s := range h.spans() {
			if of(&s, "task") != "" || s.Name == "callback" {
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

func TestMetricsAreWhatGoogleTheQueueAndTheSetupCounted(t *testing.T) {
	t.Parallel()
	c := &courier{takes: 7 * time.Second}
	watched(t, c, func(y *system, h *told, final *demo.Status) {
		points := h.points(t)
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
			if p.labels["class"] != "ok" {
				refused[p.labels["method"]] += p.count
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
			if p.sum != attempts[p.labels["step"]] {
				t.Errorf("%v took %v attempts, the setup's record says %v", p.labels, p.sum, attempts)
			}
		}
		if diff := cmp.Diff(map[string]int{"setup succeeded ": 1}, counts(points["gcpconnect.setups"], "kind", "outcome", "code")); diff != "" {
			t.Errorf("setups (-want +metric):\n%s", diff)
		}
		if diff := cmp.Diff(c.tasks, counts(points["gcpconnect.task.age"], "function")); diff != "" {
			t.Errorf("tasks (-brought +metric):\n%s", diff)
		}
		for _, p := range points["gcpconnect.task.age"] {
			if age := p.sum / float64(p.count); age < 7 || age > 7.001 {
				t.Errorf("tasks of %s were %v s old, and it took 7 s to bring them", p.labels["function"], age)
			}
		}
		if spread := points["gcpconnect.propagation.time"]; len(spread) != 1 || spread[0].count != 2 || spread[0].sum < 2*60 || spread[0].sum > 2*(60+30+3*7) {
			t.Errorf("propagation = %v, want that of 2 projects, 60 s each and at most a check and three tasks more", spread)
		}
		lowCardinality(t, points)
	})
}

// lowCardinality fails if a metric has labels that nobody expects, or that name
// somebody or something, or if README does not have it with its labels.
func lowCardinality(t *testing.T, points map[string][]point) {
	t.Helper()
	labels := map[string][]string{
		"gcpconnect.google.calls": {"class", "method"}, "gcpconnect.step.duration": {"outcome", "step"}, "gcpconnect.step.attempts": {"step"},
		"gcpconnect.setups": {"code", "kind", "outcome"}, "gcpconnect.task.age": {"function"}, "gcpconnect.propagation.time": nil,
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(labels)), slices.Sorted(maps.Keys(points))); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	readme, err := os.ReadFile("../../README.md")
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
			if got := slices.Sorted(maps.Keys(p.labels)); !slices.Equal(got, labels[name]) {
				t.Errorf("%s has the labels %v, want %v", name, got, labels[name])
			}
			for label, value := range p.labels {
				if strings.Contains(value, "project-0") || strings.Contains(value, "user-") || strings.Contains(value, "@") {
					t.Errorf("%s has %s=%s", name, label, value)
				}
			}
		}
	}
}

func TestEveryLineOfATaskSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	watched(t, &courier{}, func(y *system, h *told, _ *demo.Status) {
		spans := map[string]*tracetest.SpanStub{}
		for _, s := range h.spans() {
			spans[s.SpanContext.SpanID().String()] = &s
		}
		lines := map[string]int{} // by message, of tasks
		for line := range strings.Lines(y.logs.String()) {
			s := spans[field(line, "logging.googleapis.com/spanId")]
			if s == nil {
				continue
			}
			if s.SpanContext.TraceID().String() != field(line, "logging.googleapis.com/trace") {
				t.Errorf("another trace than its span's: %s", line)
			}
			for ; s != nil && of(s, "task") == ""; s = spans[s.Parent.SpanID().String()] {
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
				if got := field(line, thing); got == "" || got != of(s, attribute.Key(thing)) {
					t.Errorf("%s has %s %q, its task %q: %s", s.Name, thing, got, of(s, attribute.Key(thing)), line)
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

func TestEveryEndingOfASetupIsCounted(t *testing.T) {
	t.Parallel()
	where, h := tell()
	s := scenario(7, func(s *google.Scenario) { project(s, "project-003").Bindings[0].Role = "roles/viewer" })
	runTold(t, where, nil, s, map[string]string{"VERIFY_ATTEMPTS": "4"}, func(y *system) {
		want := map[string]int{}
		check := func(ending string) {
			y.t.Helper()
			want[ending]++
			if diff := cmp.Diff(want, counts(h.points(t)["gcpconnect.setups"], "kind", "outcome", "code")); diff != "" {
				y.t.Fatalf("setups (-want +metric):\n%s", diff)
			}
		}
		y.complete()
		check("setup needs_selection needs_selection")
		y.wantSuccess(y.await(y.restart("project-001", "project-002")), 2, 2)
		check("setup succeeded ")
		y.wantSuccess(y.await(y.restart("project-002", "project-003")), 1, 2)
		check("setup succeeded partial")
		y.restart("project-004")
		again := y.connect()
		check("setup canceled reconnected")
		y.await(again)
		check("setup needs_selection needs_selection")
		y.restart("project-004")
		final := y.disconnect(map[string]any{})
		if final.State != "SUCCESS" {
			y.t.Fatalf("the cleanup ended with %s", show(final))
		}
		want["setup canceled disconnected"]++
		check("removal succeeded ")
	})
}
