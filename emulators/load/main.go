// Command load puts the system under load over the real services and prints what it measures:
// hundreds of users who connect at once, an open loop of status polls, and one setup of as many
// projects as a setup can hold, in whose middle the functions' process is killed.
//
//	go run ./emulators/load                       a quarter of an hour
//	go run ./emulators/load -profile cpu.pprof    profile the functions while they are polled
//
// It fails if something is lost or stuck, or if a request that cannot be served is not told when to
// come back. The emulated Google takes the time and counts the quotas of the real one. The test of
// this package runs a small form.
//
// The functions run in a process of their own, over the Firestore emulator, a real Vault and the
// Cloud Tasks emulator. The load is generated here and not by a library: libraries measure a
// request from when it was sent. Here it is measured from when it was due, so that a system that
// falls behind cannot hide it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gcpconnect/emulators/parts"
)

func main() {
	if _, ok := os.LookupEnv(functionsMark); ok {
		if err := serveFunctions(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run starts the services and puts the system under the large load.
func run(ctx context.Context, args []string, out, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	profile := flags.String("profile", "",
		"`file` for a CPU profile of the functions while they are polled")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: see -help", flags.Arg(0))
	}
	dir, err := os.MkdirTemp("", "gcpconnect-load-")
	if err != nil {
		return fmt.Errorf("make a folder for logs: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	firestore, err := parts.StartFirestore(ctx, "", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, firestore.Stop()) }()
	vault, err := parts.StartVault(ctx, "", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vault.Stop()) }()
	l := &load{size: large(), out: out, dir: dir, profile: *profile}
	return l.run(ctx, firestore, vault)
}
