package stack_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/stack"
	"gcpconnect/emulators/stack/stacktest"
)

// The measurements have names of their own for the harness. This file ends with
// them.

const (
	owner    = googletest.Owner
	loginKey = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="
)

func scenario(n int, change func(*google.Scenario)) *google.Scenario {
	return googletest.Scenario(n, change)
}

func project(s *google.Scenario, id string) *google.Project { return googletest.Project(s, id) }

func seconds(n int) google.Duration { return googletest.Seconds(n) }

func show(v any) string { return stacktest.Show(v) }

type services struct {
	firestore *parts.Firestore
	vault     *parts.Vault
}

func (r services) environment() map[string]string {
	return stacktest.Services{Firestore: r.firestore, Vault: r.vault}.Environment()
}

type system struct {
	*stack.Stack
	t    testing.TB
	user *demo.User
	poll time.Duration
	logs fmt.Stringer
}

func (y *system) harness() *stacktest.System {
	return &stacktest.System{Stack: y.Stack, T: y.t, User: y.user, Poll: y.poll, Logs: y.logs}
}

func systemOf(y *stacktest.System) *system { return &system{y.Stack, y.T, y.User, y.Poll, y.Logs} }

func runOver(t *testing.T, between func(http.RoundTripper) http.RoundTripper, s *google.Scenario, environment map[string]string, body func(*system)) {
	t.Helper()
	stacktest.RunWith(t, stacktest.Options{Between: between, Scenario: s, Environment: environment}, func(y *stacktest.System) { body(systemOf(y)) })
}

func runReal(t testing.TB, opts stack.Options, s *google.Scenario, body func(*system)) {
	t.Helper()
	stacktest.RunServices(t, opts, s, func(y *stacktest.System) { body(systemOf(y)) })
}

func (y *system) newUser(id string) *demo.User { return y.harness().NewUser(id) }

func (y *system) connect() string { return y.harness().Connect() }

func (y *system) complete() *demo.Status { return y.harness().Complete() }

func (y *system) restart(selected ...string) string { return y.harness().Restart(selected...) }

func (y *system) call(want int, method, path string, body any, into any) string {
	return y.harness().Call(want, method, path, body, into)
}

func (y *system) wantSuccess(s *demo.Status, verified, total int) {
	y.t.Helper()
	y.harness().WantSuccess(s, verified, total)
}
