// Command emulators runs the whole system on one machine: an emulated Google,
// every function, and a gateway with the paths of the HTTP contract.
//
//	go run ./emulators          serve until Ctrl-C
//	go run ./emulators -demo    connect one user, show how it goes, and exit
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack"
	"gcpconnect/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "emulators:", err)
		os.Exit(1)
	}
}

// run starts the system, and serves until ctx ends or demonstrates.
func run(ctx context.Context, args []string, out, logs io.Writer) error {
	flags := flag.NewFlagSet("emulators", flag.ContinueOnError)
	flags.SetOutput(logs)
	listen := flags.String("listen", "127.0.0.1:8080", "address of the gateway")
	googleListen := flags.String("google", "127.0.0.1:8085", "address of the emulated Google")
	scenarioFile := flags.String("scenario", "", "JSON `file` with the scenario of the emulated Google (default: built in)")
	interval := flags.Duration("propagation-interval", 30*time.Second, "time between two checks of the permissions")
	demonstrate := flags.Bool("demo", false, "connect one user without a browser, show how it goes, and exit")
	selection := flags.String("demo-select", "", "comma-separated `projects` that the demonstration selects (default: all, if asked)")
	verbose := flags.Bool("v", false, "log what the functions log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: see -help", flags.Arg(0))
	}
	opts := stack.Options{
		Listen: *listen, GoogleListen: *googleListen,
		Environment: map[string]string{"VERIFY_INTERVAL": interval.String()},
	}
	if *verbose || !*demonstrate {
		opts.Log = telemetry.NewLogger(logs, slog.LevelInfo)
	}
	if *scenarioFile != "" {
		content, err := os.ReadFile(*scenarioFile)
		if err != nil {
			return fmt.Errorf("read scenario: %w", err)
		}
		if opts.Scenario, err = google.ParseScenario(content); err != nil {
			return fmt.Errorf("scenario %s: %w", *scenarioFile, err)
		}
	}
	s, err := stack.Start(ctx, opts)
	if err != nil {
		return err
	}
	if *demonstrate {
		d := demo.Options{PollInterval: time.Second}
		if *selection != "" {
			d.Select = strings.Split(*selection, ",")
		}
		return errors.Join(demo.Run(ctx, out, s, d), s.Stop(ctx))
	}
	if _, err := fmt.Fprintf(out, "Functions        %s\nEmulated Google  %s\nPress Ctrl-C to stop.\n", s.URL, s.GoogleURL); err != nil {
		return err
	}
	return errors.Join(s.Wait(ctx), s.Stop(ctx))
}
