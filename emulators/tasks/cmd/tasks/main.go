// Command tasks serves an emulated Cloud Tasks, for clients in any language
// that honour CLOUD_TASKS_EMULATOR_HOST or can be given an address.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/tasks"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "tasks:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out, logs io.Writer) error {
	flags := flag.NewFlagSet("tasks", flag.ContinueOnError)
	flags.SetOutput(logs)
	listen := flags.String("listen", "127.0.0.1:8123", "address to serve gRPC on")
	keys := flags.String("keys", "127.0.0.1:0", "address to serve the public keys of OIDC tokens on")
	file := flags.String("file", "", "`file` that keeps everything over a restart (default: nothing is kept)")
	var queues []string
	flags.Func("queue", "full `name` of a queue to have, projects/P/locations/L/queues/Q; may be repeated", func(name string) error {
		queues = append(queues, name)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // unless that is done already
	keysListener, err := new(net.ListenConfig).Listen(ctx, "tcp", *keys)
	if err != nil {
		return err
	}
	defer func() { _ = keysListener.Close() }()

	// The emulated Google signs the tokens and publishes the keys.
	signer, err := google.NewServer(google.Options{})
	if err != nil {
		return err
	}
	server, err := tasks.NewServer(tasks.Options{Token: signer.IDToken, File: *file, Logger: slog.New(slog.NewTextHandler(logs, nil))})
	if err != nil {
		return err
	}
	published := &http.Server{Handler: signer, ReadHeaderTimeout: 10 * time.Second}
	if err = have(ctx, server, queues); err == nil {
		served := make(chan error, 2)
		go func() { served <- server.Serve(listener) }()
		go func() { served <- published.Serve(keysListener) }()
		fmt.Fprintf(out, "Cloud Tasks  %s\nKeys         http://%s/oauth2/v3/certs\n", listener.Addr(), keysListener.Addr())
		select {
		case err = <-served:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)
	defer cancel()
	return errors.Join(err, server.Close(ctx), published.Shutdown(ctx))
}

// have creates queues. One that the file knows stays as it is.
func have(ctx context.Context, server *tasks.Server, names []string) error {
	for _, name := range names {
		if _, err := server.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: name}); err == nil {
			continue
		}
		if _, err := server.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: name}}); err != nil {
			return err
		}
	}
	return nil
}
