package functions

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/telemetry"
)

// watch tells of a function's requests: each is a span of the trace that it
// says it is part of. Its address is not told, nor its headers: the callback's
// hold a code and a state.
type watch struct {
	function  Function
	telemetry *telemetry.Telemetry
	tracer    trace.Tracer
	age       metric.Float64Histogram
}

func newWatch(t *telemetry.Telemetry, f Function, log *slog.Logger) *watch {
	const scope = "gcpconnect/functions"
	// Only a name that is none can fail, and then what is returned measures
	// nothing.
	age, err := t.Meters.Meter(scope).Float64Histogram("gcpconnect.task.age", metric.WithUnit("s"),
		metric.WithDescription("Time from when a task was due to its delivery."),
		metric.WithExplicitBucketBoundaries(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600))
	if err != nil {
		log.Error("age of tasks is not measured", "error", err)
	}
	return &watch{function: f, telemetry: t, tracer: t.Traces.Tracer(scope), age: age}
}

// request begins the span of a request. What is told of tasks leaves before the
// request's end, which done is: after the answer was written, before it is sent.
func (w *watch) request(r *http.Request) (ctx context.Context, done func()) {
	ctx, span := w.tracer.Start(telemetry.Continue(r.Context(), r.Header), w.function.Name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.route", r.Pattern)))
	return ctx, func() {
		span.End()
		if w.function.Caller == CallerQueue || w.function.Caller == CallerScheduler {
			w.telemetry.Flush(ctx)
		}
	}
}

// failed tells the request's span of an answer that is an error.
func failed(r *http.Request, status int, code connect.Code) {
	span := trace.SpanFromContext(r.Context())
	span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("code", string(code)))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, string(code))
	}
}

// delivery tells which delivery of which task the request is, and measures how
// late it is, as the queue says
// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler). A
// task that is repeated is due anew.
func (w *watch) delivery(r *http.Request) {
	ctx := r.Context()
	retries, _ := strconv.Atoi(r.Header.Get("X-CloudTasks-TaskRetryCount"))
	trace.SpanFromContext(ctx).SetAttributes(
		attribute.String("task", clip(r.Header.Get("X-CloudTasks-TaskName"))), attribute.Int("retries", retries))
	seconds, err := strconv.ParseFloat(r.Header.Get("X-CloudTasks-TaskETA"), 64)
	if err != nil || !(seconds > 0 && seconds < 1<<33) { // a time of which microseconds can be counted
		return
	}
	age := time.Since(time.UnixMicro(int64(seconds * 1e6))).Seconds()
	w.age.Record(ctx, max(0, age), metric.WithAttributes(attribute.String("function", w.function.Name)))
}
