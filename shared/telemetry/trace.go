package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
)

// Continue returns ctx within the trace that a request says it is part of
// (https://www.w3.org/TR/trace-context/), or ctx if it says nothing. Tasks
// carry the trace on: one setup is one trace.
func Continue(ctx context.Context, header http.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
}
