// Package calls watches calls to Google: each try is a span of the trace that
// it is made in, and a measurement.
//
// What is told of a call is its method, its class and the project that it is
// about. Its address, its headers, its body and the words of its answer are
// not: codes, states and tokens come in all of them.
package calls

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gcpconnect/shared/connect"
)

// Watch watches calls. Nil watches none.
type Watch struct {
	tracer trace.Tracer
	took   metric.Float64Histogram
}

// NewWatch returns a Watch that tells these providers.
func NewWatch(traces trace.TracerProvider, meters metric.MeterProvider) (*Watch, error) {
	const scope = "gcpconnect/shared/calls"
	took, err := meters.Meter(scope).Float64Histogram("gcpconnect.google.calls", metric.WithUnit("s"),
		metric.WithDescription("Calls to Google, each try by itself, by how long they took."),
		metric.WithExplicitBucketBoundaries(0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 15, 30))
	if err != nil {
		return nil, err
	}
	return &Watch{traces.Tracer(scope), took}, nil
}

// Call is a call under way.
type Call struct {
	watch  *Watch
	method string
	began  time.Time
	span   trace.Span
}

// Begin begins a try of a call of the method, such as
// cloudresourcemanager.projects.search, about a project ("": about none). End
// it.
func (w *Watch) Begin(ctx context.Context, method, projectID string) (context.Context, Call) {
	if w == nil {
		return ctx, Call{}
	}
	c := Call{watch: w, method: method, began: time.Now()}
	attributes := []attribute.KeyValue{attribute.String("method", method)}
	if projectID != "" {
		attributes = append(attributes, attribute.String("project", projectID))
	}
	ctx, c.span = w.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, c
}

// End ends the call with the class of its error; "" is success. A call that
// was not begun by a Watch is none.
func (c Call) End(ctx context.Context, class connect.Code) {
	if c.watch == nil {
		return
	}
	if class == "" {
		class = "ok"
	} else {
		c.span.SetStatus(codes.Error, string(class))
	}
	c.span.SetAttributes(attribute.String("class", string(class)))
	c.span.End()
	c.watch.took.Record(ctx, time.Since(c.began).Seconds(),
		metric.WithAttributes(attribute.String("method", c.method), attribute.String("class", string(class))))
}
