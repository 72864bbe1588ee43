// Package partstest starts the real services that tests need.
//
// Firestore and Vault return one service that all tests of a process share. A
// test that stops, pauses, seals or wipes a service starts its own with
// OwnFirestore or OwnVault.
//
// If a program is not installed, its tests are skipped, and their names go to
// the file that SKIPPED_TESTS names, which `make test` shows. With CI set
// nothing may be missing: the tests fail. With -short every test that needs a
// program is skipped.
package partstest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"gcpconnect/emulators/parts"
)

// shared are the services of the test process, each started at its first use.
// They end with the process.
var (
	sharedFirestore = sync.OnceValues(func() (*parts.Firestore, error) {
		logs, err := sharedLogs()
		if err != nil {
			return nil, err
		}
		return parts.StartFirestore(context.Background(), "", logs)
	})
	sharedVault = sync.OnceValues(func() (*parts.Vault, error) {
		logs, err := sharedLogs()
		if err != nil {
			return nil, err
		}
		return parts.StartVault(context.Background(), "", logs)
	})
	sharedLogs = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "gcpconnect-test-logs-") })
)

// StartEarly starts the shared services in the background, so that they start
// while tests run that do not need them. Call it in TestMain. It does nothing
// with -short, and with -run or -list, because the services may not be needed.
func StartEarly() {
	if !flag.Parsed() {
		flag.Parse()
	}
	selected := false
	flag.Visit(func(f *flag.Flag) { selected = selected || f.Name == "test.run" || f.Name == "test.list" })
	if selected || testing.Short() {
		return
	}
	go func() { _, _ = sharedFirestore() }() // tests get the error
	go func() { _, _ = sharedVault() }()
}

// Firestore returns the Firestore emulator of the test process. Tests use
// projects of their own in it.
func Firestore(t testing.TB) *parts.Firestore {
	t.Helper()
	skipShort(t)
	f, err := sharedFirestore()
	require(t, err)
	return f
}

// OwnFirestore starts a Firestore emulator that ends with the test.
func OwnFirestore(t testing.TB) *parts.Firestore {
	t.Helper()
	skipShort(t)
	f, err := parts.StartFirestore(context.WithoutCancel(t.Context()), "", t.TempDir())
	require(t, err)
	t.Cleanup(func() { check(t, f.Stop()) })
	return f
}

// RequireFirestore skips the test unless the Firestore emulator is installed. It
// is for tests whose programs start it themselves.
func RequireFirestore(t testing.TB) {
	t.Helper()
	skipShort(t)
	require(t, parts.CheckFirestore())
}

// skipShort skips the test with -short, in which nothing but Go programs of
// this module may run.
func skipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an external program, and -short is set")
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// require ends the test unless err is nil.
func require(t testing.TB, err error) {
	t.Helper()
	var missing *parts.MissingError
	switch {
	case err == nil:
		return
	case os.Getenv("CI") != "" || !errors.As(err, &missing): //nolint:forbidigo // of the test run, not of the program
		t.Fatal(err)
	}
	if file := os.Getenv("SKIPPED_TESTS"); file != "" { //nolint:forbidigo // likewise
		f, failed := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // named by the developer
		if failed == nil {
			_, failed = fmt.Fprintf(f, "%s: %v\n", t.Name(), err)
			failed = errors.Join(failed, f.Close())
		}
		check(t, failed)
	}
	t.Skip(err)
}

// Vault returns the Vault of the test process. Tests use token references of
// their own in it.
func Vault(t testing.TB) *parts.Vault {
	t.Helper()
	skipShort(t)
	v, err := sharedVault()
	require(t, err)
	return v
}

// OwnVault starts a Vault that ends with the test. Variables, each NAME=value,
// are added to its environment.
func OwnVault(t testing.TB, variables ...string) *parts.Vault {
	t.Helper()
	skipShort(t)
	v, err := parts.StartVault(context.WithoutCancel(t.Context()), "", t.TempDir(), variables...)
	require(t, err)
	t.Cleanup(func() { check(t, v.Stop()) })
	return v
}

// CloudTasks starts the Cloud Tasks emulator of other authors, with a queue,
// that ends with the test.
func CloudTasks(t testing.TB, queue string) *parts.CloudTasks {
	t.Helper()
	skipShort(t)
	c, err := parts.StartCloudTasks(context.WithoutCancel(t.Context()), queue, t.TempDir())
	require(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	return c
}

// Terraform returns Terraform with Google's provider emulated.
func Terraform(t testing.TB) *parts.Terraform {
	t.Helper()
	skipShort(t)
	found, err := parts.FindTerraform(t.Context(), t.TempDir())
	require(t, err)
	return found
}

// Gcloud returns the program of Google's command line.
func Gcloud(t testing.TB) string {
	t.Helper()
	skipShort(t)
	program, err := exec.LookPath("gcloud")
	if err != nil {
		err = &parts.MissingError{Program: "gcloud", Install: "see https://cloud.google.com/sdk/docs/install"}
	}
	require(t, err)
	return program
}

// Chromium returns the program of a Chromium, which the test starts itself.
func Chromium(t testing.TB) string {
	t.Helper()
	skipShort(t)
	// The shell has no windows, which take half of what the tests cost.
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	require(t, &parts.MissingError{Program: "chromium", Install: "apt-get install chromium-headless-shell"})
	return ""
}
