package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// Report is the JSON file that the program writes.
type Report struct {
	Setups      []Setup
	SecondRun   Setup // of projects that are set up already
	Crowds      []Crowd
	Real        []ServiceUse
	Overhead    []Overhead
	Throughput  []Throughput
	ColdStart   []Start
	Binary      int64 // bytes
	Hello       int64 // bytes of the smallest program on the same framework
	Resident    Memory
	Cost        []Cost    // of a setup of five projects
	NotMeasured []Skipped `json:",omitempty"`
}

// Skipped is a part that was not measured.
type Skipped struct{ Part, Why string }

// write writes the report as JSON.
func (r *Report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}

// print prints the report as tables. A part that was not measured has none.
func (r *Report) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if len(r.Setups) > 0 {
		r.printSetups(line)
	}
	if len(r.Real) > 0 {
		line("\nState over real services\ttransactions\treads\twrites\ttasks\tvault\texecutions\tseconds")
		for _, m := range r.Real {
			s := m.State
			line("%d projects\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f", m.Projects,
				s.Transactions, s.Reads, s.Writes, s.Tasks, s.VaultCalls, m.Executions, m.Seconds)
		}
	}
	if len(r.Overhead) > 0 {
		line("\nProcessor time\tseconds\tms a project\tof the libraries\tour own")
		for _, o := range r.Overhead {
			line("%d projects over %s\t%.2f\t%.2f\t%.2f\t%.2f",
				o.Projects, o.Over, o.CPUSeconds, o.PerProject, o.Libraries, o.Own)
		}
		line("\nResident memory: %.0f MB at rest, %.0f MB after %d projects",
			megabytes(r.Resident.Rest), megabytes(r.Resident.AfterSetups),
			r.Overhead[len(r.Overhead)-1].Projects)
	}
	if len(r.Throughput) > 0 {
		line("\nRequests\ta second\tp50 ms\tp99 ms")
		for _, t := range r.Throughput {
			line("%s\t%.0f\t%.1f\t%.1f", t.What, t.PerSecond, t.P50, t.P99)
		}
	}
	if len(r.ColdStart) > 0 {
		line("\nCold start\tms\tratio")
		for _, s := range r.ColdStart {
			line("%s\t%.1f\t%.2f", s.Function, s.Milliseconds, s.Ratio)
		}
		line("\nBinary: %.1f MB; hello-world: %.1f MB", megabytes(r.Binary), megabytes(r.Hello))
	}
	if len(r.NotMeasured) > 0 {
		line("\nNot measured\twhy")
	}
	for _, s := range r.NotMeasured {
		line("%s\t%s", s.Part, s.Why)
	}
	return w.Flush()
}

// printSetups prints the setups, the crowds and what follows from them.
func (r *Report) printSetups(line func(format string, args ...any)) {
	line("\nA setup\tseconds\tfloor\tratio\tcalls\ta project\tpredecessor\tfaster")
	for _, s := range r.Setups {
		before, faster := "", ""
		if s.Original > 0 {
			before, faster = fmt.Sprintf("%.0f s", s.Original), fmt.Sprintf("%.1f times", s.Faster)
		}
		line("%d projects\t%.2f\t%.2f\t%.3f\t%d\t%.2f\t%s\t%s",
			s.Projects, s.Seconds, s.Floor, s.Ratio, s.Calls, s.PerProject, before, faster)
	}
	again := r.SecondRun
	line("%d again\t%.2f\t\t\t%d\t%.2f\twrites: %d\t",
		again.Projects, again.Seconds, again.Calls, again.PerProject, again.Writes)
	line("\nWithin a minute, 5 projects each\tp50 s\tp99 s\tlongest\tcalls\trefused")
	for _, c := range r.Crowds {
		line("%s\t%.0f\t%.0f\t%.0f\t%d\t%d", c.What, c.P50, c.P99, c.Longest, c.Calls, c.Refused)
	}
	line("\nState of a setup\ttransactions\treads\twrites\ttasks\tvault\tbusy seconds")
	for _, m := range r.Setups {
		s := m.State
		line("%d projects\t%d\t%d\t%d\t%d\t%d\t%.2f",
			m.Projects, s.Transactions, s.Reads, s.Writes, s.Tasks, s.VaultCalls, m.Busy)
	}
	line("\nCost of a setup of 5\tinstance s\treads\twrites\ttasks\tvault\tdollars a thousand")
	for _, c := range r.Cost {
		line("%s\t%.1f\t%d\t%d\t%d\t%d\t%.2f", c.What,
			c.InstanceSeconds, c.Reads, c.Writes, c.Tasks, c.VaultCalls, c.DollarsPerThousandSetups)
	}
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
