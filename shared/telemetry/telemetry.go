// Package telemetry tells operators what goes on: logs that Cloud Logging
// understands, traces, and metrics. The other rooms write with the APIs of
// log/slog and OpenTelemetry; how it leaves the process is known here alone.
//
// Traces and metrics are sent by OTLP, OpenTelemetry's own protocol, to any
// collector, or to Google's Telemetry API
// (https://cloud.google.com/stackdriver/docs/reference/telemetry/overview). The
// exporters that were Google's own are no longer maintained.
package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	quietmetrics "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	quiettraces "go.opentelemetry.io/otel/trace/noop"
)

// Telemetry is where spans and measurements go.
type Telemetry struct {
	Traces trace.TracerProvider
	Meters metric.MeterProvider

	flush, close func(context.Context) error
	log          *slog.Logger
}

// None is telemetry that goes nowhere. It costs next to nothing: no exporter is
// made. Traces that a request says it is part of are carried on all the same.
func None() *Telemetry { return Of(quiettraces.NewTracerProvider(), quietmetrics.NewMeterProvider()) }

// Of is telemetry that goes to providers of somebody else, who flushes and
// closes them.
func Of(traces trace.TracerProvider, meters metric.MeterProvider) *Telemetry {
	nothing := func(context.Context) error { return nil }
	return &Telemetry{Traces: traces, Meters: meters, flush: nothing, close: nothing, log: slog.New(slog.DiscardHandler)}
}

// Options say where telemetry goes and whose it is.
type Options struct {
	// Endpoint is the base URL of what takes OTLP over HTTP.
	Endpoint string
	// Client sends it, and authorizes what it sends.
	Client *http.Client
	// Ratio is the share of traces that are kept, 0 to 1.
	Ratio float64
	// Service is the name of what runs, Region where, and Project whose it is.
	Service, Region, Project string
	// Log hears of what could not be sent.
	Log *slog.Logger
}

// How telemetry leaves.
//
// Cloud Run gives an instance CPU only while it answers a request: a timer
// rings when the next request comes, which may be never. So what carries
// setups on is sent before its answer, the queue being in no hurry (Flush).
// Users are: what is told of their requests is sent by timers, which have the
// time of other requests, and at the end, for which Cloud Run gives CPU again.
// An instance that is killed loses no more than that.
const (
	// flushTimeout is how long an answer may be held up.
	flushTimeout = 2 * time.Second
	// metricsEvery is the least time between two sendings of metrics before
	// answers: Cloud Monitoring refuses a series that is written more often than
	// every 5 s (https://cloud.google.com/monitoring/quotas). Measurements add
	// up, so nothing is lost by waiting.
	metricsEvery = 10 * time.Second
	// exportTimeout bounds one sending, retries included.
	exportTimeout = 5 * time.Second
)

// New returns telemetry that is sent by OTLP. It makes no call. Close it.
func New(ctx context.Context, o Options) (*Telemetry, error) {
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint+"/v1/traces"), otlptracehttp.WithHTTPClient(o.Client),
		otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	measurements, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(o.Endpoint+"/v1/metrics"), otlpmetrichttp.WithHTTPClient(o.Client),
		otlpmetrichttp.WithTimeout(exportTimeout), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		return nil, fmt.Errorf("make exporter of metrics: %w", err)
	}
	// Nobody waits for what the timers send.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Log.Warn(unsent, "error", err) }))
	whose := resource.NewSchemaless(o.attributes()...)
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(whose), sdktrace.WithSampler(byTrace(o.Ratio)))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(measurements)), sdkmetric.WithResource(whose))
	every := &pace{every: metricsEvery}
	return &Telemetry{
		Traces: traces, Meters: meters, log: o.Log,
		flush: func(ctx context.Context) error {
			err := traces.ForceFlush(ctx)
			if every.due(time.Now()) {
				err = errors.Join(err, meters.ForceFlush(ctx))
			}
			return err
		},
		close: func(ctx context.Context) error { return errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx)) },
	}, nil
}

// byTrace keeps a share of traces, each whole: the trace's ID decides, the same
// in each of its requests. What the request says of it is not asked: Google's
// front end decides for each request anew
// (https://cloud.google.com/run/docs/trace#trace_sampling_rate).
func byTrace(ratio float64) sdktrace.Sampler { return sdktrace.TraceIDRatioBased(ratio) }

// attributes say whose telemetry it is, by the names from which Google makes
// the labels of metrics
// (https://cloud.google.com/stackdriver/docs/reference/telemetry/v1.metrics). No
// two processes may write the same series, hence the instance.
func (o *Options) attributes() []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("service.namespace", "gcpconnect"), attribute.String("service.name", o.Service),
		attribute.String("service.instance.id", rand.Text()),
	}
	if o.Region != "" {
		attributes = append(attributes, attribute.String("cloud.region", o.Region))
	}
	if o.Project != "" {
		attributes = append(attributes, attribute.String("gcp.project_id", o.Project))
	}
	return attributes
}

// pace keeps something from happening too often.
type pace struct {
	every time.Duration

	mu   sync.Mutex
	last time.Time
}

func (p *pace) due(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) < p.every {
		return false
	}
	p.last = now
	return true
}

// unsent is logged of what is lost. It is no error of anything else.
const unsent = "telemetry was not sent"

// Flush sends what is told so far. It gives up after 2 s.
func (t *Telemetry) Flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := t.flush(ctx); err != nil {
		t.log.WarnContext(ctx, unsent, "error", err)
	}
}

// Close sends what is told so far and ends.
func (t *Telemetry) Close(ctx context.Context) {
	if err := t.close(ctx); err != nil {
		t.log.WarnContext(ctx, unsent, "error", err)
	}
}
