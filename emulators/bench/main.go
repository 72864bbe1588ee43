// Command bench measures gcpconnect and prints all figures in one table.
//
//	go run ./emulators/bench                    measure everything (a quarter of an hour)
//	go run ./emulators/bench -only coldstart    measure one part
//
// The figures depend on the machine, which should do nothing else meanwhile. README.md describes
// what is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gcpconnect/emulators/parts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one part of the measurements.
type part struct {
	name     string
	services bool // it needs Firestore and Vault
	measure  func(b *bench, ctx context.Context) error
}

// allParts returns the parts in the order in which they run.
func allParts() []part {
	return []part{
		{"coldstart", false, (*bench).measureColdStarts},
		{"throughput", true, (*bench).measureThroughput},
		{"setups", false, (*bench).measureSetups},
		{"overhead", true, (*bench).measureOverhead},
		{"services", true, (*bench).measureServices},
	}
}

// choose returns the parts that a comma-separated list names; an empty list names all.
func choose(names string) ([]part, error) {
	if names == "" {
		return allParts(), nil
	}
	var chosen []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(allParts(), func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown part %q: see -help", name)
		}
		chosen = append(chosen, allParts()[i])
	}
	return chosen, nil
}

// run measures, prints the tables to out and writes the JSON file.
func run(ctx context.Context, args []string, out, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("json", filepath.Join("dist", "bench.json"), "`file` for the figures as JSON")
	only := flags.String("only", "",
		"comma-separated `parts`: coldstart, throughput, setups, overhead, services (default: all)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: see -help", flags.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gcpconnect-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for programs and logs: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{dir: dir, programs: map[string]string{}}
	err = errors.Join(b.measure(ctx, chosen, stderr), b.services.stop())
	if err != nil {
		return err
	}
	if err := b.report.print(out); err != nil {
		return fmt.Errorf("print the figures: %w", err)
	}
	return b.report.write(*file)
}

// bench is one run of the program.
type bench struct {
	report   Report
	dir      string            // for programs and logs
	programs map[string]string // the file of each package that was built
	services services
}

// measure measures the chosen parts. The report names the parts that are left out, because they
// were not chosen or their services are not installed.
func (b *bench) measure(ctx context.Context, chosen []part, stderr io.Writer) error {
	for _, p := range allParts() {
		if !slices.ContainsFunc(chosen, func(c part) bool { return c.name == p.name }) {
			b.report.NotMeasured = append(b.report.NotMeasured, Skipped{p.name, "not chosen"})
			continue
		}
		if p.services {
			err := b.services.start(ctx, b.dir)
			var missing *parts.MissingError
			if errors.As(err, &missing) {
				b.report.NotMeasured = append(b.report.NotMeasured, Skipped{p.name, missing.Error()})
				continue
			}
			if err != nil {
				return err
			}
		}
		began := time.Now()
		fmt.Fprintf(stderr, "measuring %s\n", p.name)
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
		fmt.Fprintf(stderr, "measured %s in %v\n", p.name, time.Since(began).Round(time.Second))
	}
	return nil
}
