// Package connecttest says what package connect's interfaces promise, as
// tests: one suite per interface. Every adapter runs the suite of its
// interface, the ones in memory and the ones behind a network alike, so that
// what is tested with the former holds with the latter.
//
// The suites do not need an empty database: every test works with users,
// setups and tasks of its own, under random IDs. Tests run in parallel with
// each other against one adapter.
package connecttest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gcpconnect/shared/connect"
)

// patience is how long a suite waits for what must happen. It bounds a
// failure only; no passing test waits for its end.
const patience = time.Minute

// part is a named group of cases against an adapter.
type part[T any] struct {
	name  string
	cases []testCase[T]
}

// testCase is one sentence of a contract and how to see that it holds.
type testCase[T any] struct {
	says string
	run  func(t *testing.T, it T)
}

// run runs the cases, in parallel with each other.
func run[T any](t *testing.T, it T, cases []testCase[T]) {
	for _, c := range cases {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel()
			c.run(t, it)
		})
	}
}

// ok ends the test if err is not nil.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// wantCode checks the class of an error.
func wantCode(t *testing.T, what string, err error, want connect.Code) {
	t.Helper()
	var e *connect.Error
	switch {
	case err == nil:
		t.Errorf("%s succeeded, want an error of code %q", what, want)
	case !errors.As(err, &e):
		t.Errorf("%s failed with %v, which is no *connect.Error; want code %q", what, err, want)
	case e.Code != want:
		t.Errorf("%s failed with code %q (%v), want %q", what, e.Code, err, want)
	case e.Message == "":
		t.Errorf("%s failed without a message for people: %v", what, err)
	}
}

// equal compares, not telling nil from empty and comparing times with
// time.Time.Equal.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

// insist calls f until it returns something else than Unavailable, which says
// that the same call may work later: a database under contention may answer so.
func insist(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if connect.CodeOf(err) != connect.Unavailable || ctx.Err() != nil {
			return err
		}
	}
}

// together runs n functions at the same time and waits for all of them.
func together(n int, f func(i int)) {
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

// newUser returns the ID of a user that nobody has used.
func newUser() string { return "user-" + connect.NewID() }

// wantMessage checks that the words for people in err name a parameter.
func wantMessage(t *testing.T, err error, name string) {
	t.Helper()
	if err != nil && !strings.Contains(connect.MessageOf(err), name) {
		t.Errorf("the message is %q, want one that names %s", connect.MessageOf(err), name)
	}
}
