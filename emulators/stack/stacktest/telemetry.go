package stacktest

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"gcpconnect/shared/telemetry"
)

// TelemetryRecorder records the spans and metrics of a system.
type TelemetryRecorder struct {
	exporter *tracetest.InMemoryExporter
	reader   *sdkmetric.ManualReader
}

// RecordTelemetry returns telemetry for a system and what records it. Spans are
// recorded when they end.
func RecordTelemetry() (*telemetry.Telemetry, *TelemetryRecorder) {
	h := &TelemetryRecorder{tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()}
	return telemetry.Of(
		sdktrace.NewTracerProvider(sdktrace.WithSyncer(h.exporter), sdktrace.WithSampler(sdktrace.TraceIDRatioBased(1))),
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(h.reader)),
	), h
}

// Spans returns the spans that have ended.
func (h *TelemetryRecorder) Spans() tracetest.SpanStubs { return h.exporter.GetSpans() }

// AttributeOf returns a span's attribute as text, or "" if it has none.
func AttributeOf(s *tracetest.SpanStub, key attribute.Key) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// Point is one series of a metric.
type Point struct {
	Labels map[string]string
	Count  int
	Sum    float64
}

// Points returns the series of all metrics by name.
func (h *TelemetryRecorder) Points(t testing.TB) map[string][]Point {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := h.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	points := map[string][]Point{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(set attribute.Set, count int, sum float64) {
				p := Point{map[string]string{}, count, sum}
				for _, a := range set.ToSlice() {
					p.Labels[string(a.Key)] = a.Value.String()
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
					add(p.Attributes, int(p.Count), float64(p.Sum)) //nolint:gosec // a test's count
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, int(p.Count), p.Sum) //nolint:gosec // a test's count
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return points
}
