// Command emulators runs the whole system on one machine: an emulated Google,
// every function, and a gateway with the paths of the HTTP contract.
//
//	go run ./emulators                  serve until Ctrl-C
//	go run ./emulators -demo            connect one user, show how it goes, and exit
//	go run ./emulators -backends real   keep state, tokens and tasks in Firestore, Vault and Cloud Tasks
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
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

// running are the variables that say where real backends run already.
var running = []string{
	"FIRESTORE_EMULATOR_HOST", "FIRESTORE_DATABASE", "GOOGLE_CLOUD_PROJECT", "CLOUD_TASKS_EMULATOR_HOST", "CLOUD_TASKS_QUEUE", "CLOUD_TASKS_DISCOVERY_QUEUE",
	"VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_MOUNT", "VAULT_AUTH_MOUNT", "VAULT_TOKEN", "VAULT_ROLE_ID", "VAULT_SECRET_ID",
}

// run starts the system, and serves until ctx ends or demonstrates.
func run(ctx context.Context, args []string, out, stderr io.Writer) error {
	flags := flag.NewFlagSet("emulators", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:8080", "address of the gateway")
	googleListen := flags.String("google", "127.0.0.1:8085", "address of the emulated Google")
	scenarioFile := flags.String("scenario", "", "JSON `file` with the scenario of the emulated Google (default: built in)")
	interval := flags.Duration("propagation-interval", 30*time.Second, "time between two checks of the permissions")
	demonstrate := flags.Bool("demo", false, "connect one user without a browser, show how it goes, and exit")
	selection := flags.String("demo-select", "", "comma-separated `projects` that the demonstration selects (default: all, if asked)")
	backends := flags.String("backends", "memory", "where state, tokens and tasks are: memory (of this process), or real (emulators and servers of their own)")
	environment := map[string]string{}
	flags.Func("set", "a `VARIABLE=value` of the functions' configuration; may be repeated", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("must be VARIABLE=value")
		}
		environment[name] = value
		return nil
	})
	logs := flags.String("logs", "", "`folder` for the logs of the real backends (default: a new one)")
	verbose := flags.Bool("v", false, "log what the functions log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: see -help", flags.Arg(0))
	}
	opts := stack.Options{
		Listen: *listen, GoogleListen: *googleListen, Logs: *logs,
		Environment: map[string]string{"VERIFY_INTERVAL": interval.String()},
	}
	maps.Copy(opts.Environment, environment)
	switch *backends {
	case "memory":
	case "real":
		opts.Real = true
		for _, variable := range running {
			if value, ok := os.LookupEnv(variable); ok { // for shared/config
				opts.Environment[variable] = value
			}
		}
	default:
		return fmt.Errorf("-backends is %q, must be memory or real", *backends)
	}
	if *verbose || !*demonstrate {
		opts.Log = telemetry.NewLogger(stderr, slog.LevelInfo, "")
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
	if _, err := fmt.Fprintf(out, "Functions        %s\nEmulated Google  %s\n%sPress Ctrl-C to stop.\n", s.URL, s.GoogleURL, s.Parts.String()); err != nil {
		return err
	}
	go sweep(ctx, s)
	return errors.Join(s.Wait(ctx), s.Stop(ctx))
}

// sweep calls sweep every minute, as Cloud Scheduler does in a deployment. What
// fails is in the functions' log, and the next minute's.
func sweep(ctx context.Context, s *stack.Stack) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Minute):
			_ = s.Sweep(ctx)
		}
	}
}
