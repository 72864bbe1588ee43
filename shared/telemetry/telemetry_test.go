package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/telemetry"
)

// line logs with a new logger and returns the line.
func line(t *testing.T, project string, write func(*slog.Logger)) map[string]any {
	t.Helper()
	var out bytes.Buffer
	write(telemetry.NewLogger(&out, slog.LevelInfo, project))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	if line["time"] == nil {
		t.Errorf("%s has no time", out.Bytes())
	}
	delete(line, "time")
	return line
}

func TestLinesHaveTheFieldsThatCloudLoggingReads(t *testing.T) {
	t.Parallel()
	got := line(t, "aurora", func(log *slog.Logger) {
		log.Debug("unseen")
		log.With("setup", "s").Warn("careful", slog.Group("g", "level", "kept"))
	})
	want := map[string]any{"severity": "WARNING", "message": "careful", "setup": "s", "g": map[string]any{"level": "kept"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAuditLinesAreKeptAtEveryLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewLogger(&out, slog.LevelError, "").Log(t.Context(), telemetry.LevelAudit, "given")
	if !strings.Contains(out.String(), `"severity":"NOTICE"`) {
		t.Errorf("an audit line is %q", out.String())
	}
}

func TestLinesNameTheirTraceAndWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 15: 0x36}, SpanID: trace.SpanID{7: 0xb7}, TraceFlags: trace.FlagsSampled,
	}))
	ctx = connect.About(ctx, slog.String("setup", "s"), slog.String("project", "a"))
	check := func(ctx context.Context, project, about, ofTraces string) {
		t.Helper()
		got := line(t, project, func(log *slog.Logger) { log.With("x", 1).InfoContext(ctx, "done") })
		want := map[string]any{
			"severity": "INFO", "message": "done", "x": 1.0, "setup": "s", "project": about,
			"logging.googleapis.com/trace":  ofTraces + "4b000000000000000000000000000036",
			"logging.googleapis.com/spanId": "00000000000000b7", "logging.googleapis.com/trace_sampled": true,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	check(ctx, "aurora", "a", "projects/aurora/traces/")
	check(connect.About(ctx, slog.String("project", "b")), "", "b", "")
}
