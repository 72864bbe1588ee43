// Package partstest gives tests the real parts that they need.
//
// On a machine where one is not installed, its tests are skipped, and their
// names go to the file that SKIPPED_TESTS names, which `make test` shows. With
// CI set nothing may be missing: they fail.
package partstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"gcpconnect/emulators/parts"
)

// Firestore starts a Firestore emulator that ends with the test.
func Firestore(t testing.TB) *parts.Firestore {
	t.Helper()
	f, err := parts.StartFirestore(context.WithoutCancel(t.Context()), "", t.TempDir())
	require(t, err)
	t.Cleanup(func() { check(t, f.Stop()) })
	return f
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
		f, failed := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // named by whoever runs the tests
		if failed == nil {
			_, failed = fmt.Fprintf(f, "%s: %v\n", t.Name(), err)
			failed = errors.Join(failed, f.Close())
		}
		check(t, failed)
	}
	t.Skip(err)
}

// Vault starts a Vault that ends with the test.
func Vault(t testing.TB) *parts.Vault {
	t.Helper()
	v, err := parts.StartVault(context.WithoutCancel(t.Context()), "", t.TempDir())
	require(t, err)
	t.Cleanup(func() { check(t, v.Stop()) })
	return v
}

// CloudTasks starts the Cloud Tasks emulator of other authors, with a queue,
// that ends with the test.
func CloudTasks(t testing.TB, queue string) *parts.CloudTasks {
	t.Helper()
	c, err := parts.StartCloudTasks(context.WithoutCancel(t.Context()), queue, t.TempDir())
	require(t, err)
	t.Cleanup(func() { check(t, c.Stop()) })
	return c
}

// Terraform returns Terraform with Google's provider emulated.
func Terraform(t testing.TB) *parts.Terraform {
	t.Helper()
	found, err := parts.FindTerraform(t.Context(), t.TempDir())
	require(t, err)
	return found
}

// Gcloud makes sure that Google's command line is there.
func Gcloud(t testing.TB) {
	t.Helper()
	_, err := exec.LookPath("gcloud")
	if err != nil {
		err = &parts.MissingError{Program: "gcloud", Install: "see https://cloud.google.com/sdk/docs/install"}
	}
	require(t, err)
}

// Chromium returns the program of a Chromium, which the test starts itself.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	require(t, &parts.MissingError{Program: "chromium", Install: "apt-get install chromium"})
	return ""
}
