package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/stack"
)

// load is one run of the program.
type load struct {
	size    size
	out     io.Writer
	dir     string // for logs
	profile string // a file; empty: none

	system    *stack.Stack
	functions *process
	client    *http.Client
	answers   *answers

	mu       sync.Mutex
	problems []error
}

// printf prints a line of what was measured.
func (l *load) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// problem records something that must not happen under load. The run goes on.
func (l *load) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// run starts the system over the services, puts it under load and returns all problems.
func (l *load) run(
	ctx context.Context, firestore *parts.Firestore, vault *parts.Vault,
) (err error) {
	if l.functions, err = newProcess(l.dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			fmt.Fprintf(l.out, "the functions' log ends with:\n%s\n", l.functions.tail())
		}
	}()
	defer l.functions.stop()
	environment := map[string]string{
		"FIRESTORE_EMULATOR_HOST": firestore.Address,
		"VAULT_ADDR":              vault.Address,
		"VAULT_ROLE_ID":           vault.RoleID,
		"VAULT_SECRET_ID":         vault.SecretID.Reveal(),
		"MAX_SELECTED_PROJECTS":   "1000",
	}
	maps.Copy(environment, l.size.environment)
	l.system, err = stack.Start(ctx, stack.Options{
		Real: true, Scenario: l.size.scenario, Environment: environment,
		Elsewhere: l.functions.elsewhere, Logs: l.dir, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.system.Stop(ctx)) }()
	l.answers = &answers{next: l.functions.transport, counts: map[string]int{}}
	l.client = &http.Client{Transport: l.answers, Timeout: 100 * time.Second}
	if err := l.runAll(ctx); err != nil {
		return errors.Join(append(l.problems, err)...)
	}
	l.checkCounts("after all")
	l.printf("answers to users: %v", l.answers.all())
	for status, times := range l.answers.all() {
		if status >= "500" && status != comeBack {
			l.problem("users were answered %s %d times", status, times)
		}
	}
	return errors.Join(l.problems...)
}

// runAll runs the users and the large setup, one after the other or together.
func (l *load) runAll(ctx context.Context) error {
	await, err := l.runUsers(ctx)
	if err != nil {
		return err
	}
	if l.size.together {
		return errors.Join(l.runLargeSetup(ctx), await())
	}
	if err := await(); err != nil {
		return err
	}
	return l.runLargeSetup(ctx)
}

// comeBack is the answer 503 with a Retry-After.
const comeBack = "503, come back"

// describe returns the status of an answer as it is counted.
func describe(response *http.Response) string {
	status := response.StatusCode
	if status == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "" {
		return comeBack
	}
	return fmt.Sprint(status)
}

// answers counts what users are answered.
type answers struct {
	next   http.RoundTripper
	mu     sync.Mutex
	counts map[string]int
}

// RoundTrip implements http.RoundTripper.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := a.next.RoundTrip(r)
	status := "599 no answer"
	if err == nil {
		status = describe(response)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[status]++
	return response, err
}

func (a *answers) all() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.counts)
}

// checkMemory compares the memory of the functions' process before and after something.
func (l *load) checkMemory(what string, before, after memory, bytes uint64, goroutines int) {
	l.printf("memory of the functions before and after %s: heap %.1f MB and %.1f MB, "+
		"goroutines %d and %d, resident %.0f MB and %.0f MB", what,
		megabytes(before.Heap), megabytes(after.Heap), before.Goroutines, after.Goroutines,
		megabytes(before.Resident), megabytes(after.Resident))
	if after.Heap > before.Heap+bytes || after.Goroutines > before.Goroutines+goroutines {
		l.problem("the functions hold %+v after %s, and %+v before", after, what, before)
	}
}

func megabytes(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// checkCounts prints how many calls and tasks there were. The queue must not have given up a task:
// it would be lost.
func (l *load) checkCounts(when string) {
	refused := 0
	calls := l.system.Google.Calls()
	for _, c := range calls {
		if c.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	tasks := l.system.Parts.Tasks.Counts()
	l.printf("%s: %d calls to Google, of which it refused %d for quota; %d tasks in %d deliveries",
		when, len(calls), refused, tasks.Completed, tasks.Dispatches)
	if tasks.GivenUp > 0 || tasks.Created != tasks.Completed {
		l.problem("%s, the tasks are %+v", when, tasks)
	}
}

// percentiles describes durations. It sorts them.
func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(part float64) time.Duration {
		return all[min(len(all)-1, int(part*float64(len(all))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v", at(0.5), at(0.9), at(0.99), at(1))
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
