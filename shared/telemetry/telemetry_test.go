package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"gcpconnect/shared/telemetry"
)

func TestLinesHaveTheFieldsThatCloudLoggingReads(t *testing.T) {
	t.Parallel()
	var out, audit bytes.Buffer
	log := telemetry.NewLogger(&out, slog.LevelInfo)
	log.Debug("unseen")
	log.With("setup", "s").Warn("careful", slog.Group("g", "level", "kept"))
	telemetry.NewLogger(&audit, slog.LevelError).Log(t.Context(), telemetry.LevelAudit, "given")
	if !strings.Contains(audit.String(), `"severity":"NOTICE"`) {
		t.Errorf("an audit line is %q", audit.String())
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	group, _ := line["g"].(map[string]any)
	if line["severity"] != "WARNING" || line["message"] != "careful" || line["setup"] != "s" || group["level"] != "kept" || line["time"] == nil {
		t.Errorf("line = %v", line)
	}
}
