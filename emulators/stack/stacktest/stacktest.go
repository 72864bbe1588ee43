// Package stacktest is the harness of whole-system tests: users, the functions,
// Google's own Go clients and the emulated Google, over HTTP.
//
// Run runs a system in memory inside a testing/synctest bubble, on a virtual
// clock. RunServices runs it over a real Firestore emulator and a real Vault, on
// the wall clock. Both hold every exchange to the HTTP contract.
package stacktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/telemetry"
)

// UserID is the user that a System starts with.
const UserID = "user-1"

// System is a running stack with a user.
type System struct {
	*stack.Stack
	T    testing.TB
	User *demo.User
	// Poll is the time between two polls of a status.
	Poll time.Duration
	// Logs are the lines that the functions logged.
	Logs fmt.Stringer
	// Exchanges are the requests and responses of the functions.
	Exchanges *functionstest.Watch
	// TokenEndpoint changes answers of Google's token endpoint. It is nil over real
	// services.
	TokenEndpoint *TokenEndpoint
}

// Options say how RunWith starts a system in memory. Only Scenario is required.
type Options struct {
	Scenario    *google.Scenario
	Environment map[string]string
	// Between wraps the transport that the functions, the queue and the users
	// send through.
	Between   func(http.RoundTripper) http.RoundTripper
	Telemetry *telemetry.Telemetry
}

// Run starts a system in memory in a bubble, runs body and stops it. The
// bubble's clock moves only while every goroutine waits.
func Run(t *testing.T, s *google.Scenario, environment map[string]string, body func(*System)) {
	t.Helper()
	RunWith(t, Options{Scenario: s, Environment: environment}, body)
}

// RunWith is Run with further options.
func RunWith(t *testing.T, opts Options, body func(*System)) {
	t.Helper()
	contract := Contract(t) // loading it starts goroutines, which a bubble would wait for
	synctest.Test(t, func(t *testing.T) {
		logs, exchanges := new(strings.Builder), contract.Watch(t.Errorf)
		wire := newNetwork()
		endpoint := &TokenEndpoint{next: wire.transport}
		wire.outward = endpoint
		if opts.Between != nil {
			wire.outward = opts.Between(endpoint)
		}
		started, err := stack.Start(t.Context(), stack.Options{
			Scenario: opts.Scenario, Environment: opts.Environment, Network: wire,
			Telemetry: opts.Telemetry, Log: newLogger(logs), Around: exchanges.Handler,
		})
		if err != nil {
			t.Fatal(err)
		}
		y := &System{
			Stack: started, T: t, Poll: 5 * time.Second, Logs: logs, Exchanges: exchanges, TokenEndpoint: endpoint,
		}
		defer func() { // a bubble must not be left with goroutines in it
			if err := started.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Log(logs)
			}
		}()
		y.User = y.NewUser(UserID)
		body(y)
		if err := started.Idle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// RunServices starts a system over real services on the wall clock, runs body
// and stops it. Google takes no time. The stack starts the services that the
// environment of opts does not name.
func RunServices(t testing.TB, opts stack.Options, s *google.Scenario, body func(*System)) {
	t.Helper()
	googletest.Instant(s)
	logs, exchanges := new(Buffer), Contract(t).Watch(t.Errorf)
	opts.Real, opts.Scenario, opts.Logs = true, s, t.TempDir()
	opts.Log, opts.Around = newLogger(logs), exchanges.Handler
	started, err := stack.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	y := &System{
		Stack: started, T: t, Poll: 250 * time.Millisecond, Logs: logs, Exchanges: exchanges,
	}
	defer func() {
		if err := started.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(logs)
		}
	}()
	y.User = y.NewUser(UserID)
	body(y)
}

// Contract returns the description that every exchange with the functions is
// held to.
func Contract(t testing.TB) functionstest.Contract {
	t.Helper()
	contract, err := functionstest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return contract
}

// newLogger makes a logger that writes lines as the program does for people.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(telemetry.InContext(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}), ""))
}

// Buffer is a buffer that is safe for concurrent use.
type Buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// Show renders a value as indented JSON.
func Show(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// ProjectError returns the error that a status shows for a project, or "".
func ProjectError(s *demo.Status, id string) string {
	for _, p := range s.Projects {
		if p.ID == id && p.Error != nil {
			return p.Error.Step + ": " + p.Error.Message
		}
	}
	return ""
}
