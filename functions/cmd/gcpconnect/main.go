// Command gcpconnect serves one function of the connector (FUNCTION_TARGET) or
// all of them. On SIGTERM it stops taking requests, lets running ones end and
// exits.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gcpconnect/functions"
	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	"gcpconnect/shared/secretmanager"
	"gcpconnect/shared/telemetry"
)

// Limits of the server, around those of the functions: the longest may work
// for functions.MaxTimeout, and its answer must still arrive.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = functions.MaxTimeout + 5*time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes, of all headers: an ID token has up to 16 KiB
	// stopTimeout is a little less than the 10 s that Cloud Run gives between
	// SIGTERM and SIGKILL
	// (https://cloud.google.com/run/docs/container-contract#instance-shutdown).
	stopTimeout = 9 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gcpconnect:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context) error {
	secrets := secretmanager.New()
	defer func() { _ = secrets.Close() }() // the process ends
	cfg, err := config.Read(ctx, config.Environment{Lookup: os.LookupEnv, Secret: secrets.Access, Functions: app.Functions()})
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(os.Stderr, cfg.LogLevel, cfg.Project)
	slog.SetDefault(log)
	backends, err := app.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	a, err := app.New(cfg, backends, nil, log)
	if err != nil {
		return errors.Join(err, backends.Close(ctx))
	}
	functions.Register(a.Handlers)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(cfg.ListenHost(), cfg.Port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// The framework's own Start is a bare ListenAndServe: it has no timeouts
	// and drops requests when the process is told to stop.
	server := &http.Server{
		Handler: a.Handler(cfg.FunctionTarget), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	log.InfoContext(ctx, "serving", "address", listener.Addr().String(), "config", cfg)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.InfoContext(ctx, "stopping")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := errors.Join(server.Shutdown(ctx), a.Close(ctx)); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
