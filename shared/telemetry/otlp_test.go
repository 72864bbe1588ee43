package telemetry_test

import (
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resources "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"gcpconnect/shared/telemetry"
)

// collector takes OTLP over HTTP.
type collector struct {
	*httptest.Server

	mu       sync.Mutex
	spans    []string
	metrics  []string
	resource map[string]string
	failing  bool
}

func newCollector(t *testing.T) *collector {
	c := &collector{resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing {
		return errors.New("not today")
	}
	body, err := gzip.NewReader(r.Body)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	switch r.URL.Path {
	case "/v1/traces":
		var request traces.ExportTraceServiceRequest
		if err := proto.Unmarshal(content, &request); err != nil {
			return err
		}
		for _, of := range request.GetResourceSpans() {
			c.learn(of.GetResource())
			for _, scope := range of.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					c.spans = append(c.spans, span.GetName())
				}
			}
		}
	case "/v1/metrics":
		var request metrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(content, &request); err != nil {
			return err
		}
		for _, of := range request.GetResourceMetrics() {
			c.learn(of.GetResource())
			for _, scope := range of.GetScopeMetrics() {
				for _, metric := range scope.GetMetrics() {
					c.metrics = append(c.metrics, metric.GetName())
				}
			}
		}
	}
	return nil
}

func (c *collector) learn(r *resources.Resource) {
	for _, a := range r.GetAttributes() {
		c.resource[a.GetKey()] = a.GetValue().GetStringValue()
	}
}

// want fails unless exactly these have come so far.
func (c *collector) want(t *testing.T, spans, metrics []string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.spans, spans) || !slices.Equal(c.metrics, metrics) {
		t.Errorf("the collector has the spans %v and the metrics %v, want %v and %v", c.spans, c.metrics, spans, metrics)
	}
}

func open(t *testing.T, c *collector, ratio float64, log io.Writer) *telemetry.Telemetry {
	t.Helper()
	told, err := telemetry.New(t.Context(), telemetry.Options{
		Endpoint: c.URL, Client: c.Client(), Ratio: ratio, Service: "grant-access", Region: "europe-west1", Project: "aurora",
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func TestWhatIsFlushedHasArrived(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	told := open(t, c, 1, io.Discard)
	ctx := t.Context()
	counter, err := told.Meters.Meter("test").Int64Counter("counted")
	if err != nil {
		t.Fatal(err)
	}
	work := func(name string) {
		counter.Add(ctx, 1)
		_, span := told.Traces.Tracer("test").Start(ctx, name)
		span.End()
	}
	work("one")
	told.Flush(ctx)
	c.want(t, []string{"one"}, []string{"counted"})
	for _, attribute := range []string{"service.name=grant-access", "service.namespace=gcpconnect", "cloud.region=europe-west1", "gcp.project_id=aurora"} {
		if name, value, _ := strings.Cut(attribute, "="); c.resource[name] != value {
			t.Errorf("the resource is %v, want %s", c.resource, attribute)
		}
	}
	if c.resource["service.instance.id"] == "" {
		t.Errorf("the resource is %v, and tells no two instances apart", c.resource)
	}
	work("two")
	told.Flush(ctx)
	c.want(t, []string{"one", "two"}, []string{"counted"}) // too soon for metrics
	work("three")
	told.Close(ctx)
	c.want(t, []string{"one", "two", "three"}, []string{"counted", "counted"})
}

func TestATraceIsKeptOrNotWholeWhateverARequestSays(t *testing.T) {
	t.Parallel()
	for ratio, want := range map[float64][]string{1: {"kept", "kept"}, 0: nil} {
		c := newCollector(t)
		told := open(t, c, ratio, io.Discard)
		for _, flags := range []string{"00", "01"} {
			ctx := telemetry.Continue(t.Context(), http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags}})
			ctx, span := told.Traces.Tracer("test").Start(ctx, "kept")
			onward := http.Header{}
			propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(onward))
			if id := onward.Get("Traceparent"); len(id) != 55 || id[3:35] != "4bf92f3577b34da6a3ce929d0e0e4736" {
				t.Errorf("the trace goes on as %q", id)
			}
			span.End()
		}
		told.Close(t.Context())
		c.want(t, want, nil)
	}
}

func TestWhatACollectorRefusesIsLoggedAndNoError(t *testing.T) {
	t.Parallel()
	c, logs := newCollector(t), new(strings.Builder)
	c.failing = true
	told := open(t, c, 1, logs)
	_, span := told.Traces.Tracer("test").Start(t.Context(), "lost")
	span.End()
	told.Flush(t.Context())
	told.Close(t.Context())
	if !strings.Contains(logs.String(), "telemetry was not sent") {
		t.Errorf("nobody hears that telemetry is lost: %s", logs)
	}
}
