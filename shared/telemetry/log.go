package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"gcpconnect/shared/connect"
)

// LevelAudit is for lines that must be kept whatever LOG_LEVEL says. Cloud
// Logging shows them as NOTICE: they are no errors.
const LevelAudit = slog.LevelError + 4

// NewLogger returns a logger that writes lines that Cloud Logging understands:
// one JSON object each, with the field names that it gives a meaning to
// (https://cloud.google.com/logging/docs/structured-logging). What is logged
// within a trace is found from the trace, which is one of the project's.
func NewLogger(w io.Writer, level slog.Leveler, project string) *slog.Logger {
	return slog.New(InContext(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudLogging}), project))
}

// cloudLogging renames slog's own fields.
func cloudLogging(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		a.Key = "severity"
		switch level, _ := a.Value.Any().(slog.Level); level {
		case slog.LevelWarn:
			a.Value = slog.StringValue("WARNING")
		case LevelAudit:
			a.Value = slog.StringValue("NOTICE")
		}
	case slog.MessageKey:
		a.Key = "message"
	}
	return a
}

// InContext returns next with what the context says of each line: what the work
// is about (connect.About), and the trace that it is part of. Lines of loggers
// with an open group have it inside of the group.
func InContext(next slog.Handler, project string) slog.Handler {
	prefix := ""
	if project != "" {
		prefix = "projects/" + project + "/traces/"
	}
	return contextual{next, prefix}
}

type contextual struct {
	slog.Handler

	traces string // what stands before the ID of a trace
}

// Handle implements slog.Handler.
func (h contextual) Handle(ctx context.Context, r slog.Record) error {
	things := connect.Subject(ctx)
	span := trace.SpanContextFromContext(ctx)
	if len(things) == 0 && !span.IsValid() {
		return h.Handler.Handle(ctx, r)
	}
	r = r.Clone()
	r.AddAttrs(things...)
	if span.IsValid() {
		r.AddAttrs(
			slog.String("logging.googleapis.com/trace", h.traces+span.TraceID().String()),
			slog.String("logging.googleapis.com/spanId", span.SpanID().String()),
			slog.Bool("logging.googleapis.com/trace_sampled", span.IsSampled()),
		)
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h contextual) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextual{h.Handler.WithAttrs(attrs), h.traces}
}

// WithGroup implements slog.Handler.
func (h contextual) WithGroup(name string) slog.Handler {
	return contextual{h.Handler.WithGroup(name), h.traces}
}
