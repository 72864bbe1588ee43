// Package telemetry makes logs that Cloud Logging understands: one JSON object
// a line, with the field names that it gives a meaning to
// (https://cloud.google.com/logging/docs/structured-logging).
package telemetry

import (
	"io"
	"log/slog"
)

// LevelAudit is for lines that must be kept whatever LOG_LEVEL says. Cloud
// Logging shows them as NOTICE: they are no errors.
const LevelAudit = slog.LevelError + 4

// NewLogger returns a logger that writes to w.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudLogging}))
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
