package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack"
)

// Overhead is the processor time of setups.
type Overhead struct {
	Over       string // memory or real services
	Projects   int
	CPUSeconds float64 // of the functions' process
	PerProject float64 // milliseconds
	// Libraries is the part of PerProject that a program takes which makes the same calls to Google
	// and about as many to Firestore, with the same libraries.
	Libraries float64
	// Own is the difference. It includes the delivery of tasks, and over the real services the
	// clients of Cloud Tasks and Vault.
	Own float64
}

// Memory is the memory of the functions' process in bytes.
type Memory struct{ Rest, AfterSetups int64 }

// deployedGC is the configuration of the garbage collector in a deployment: see terraform/.
var deployedGC = map[string]string{"GOGC": "400", "GOMEMLIMIT": "384MiB"}

// overheadSizes are the numbers of projects of the setups.
var overheadSizes = []int{50, 200}

// overMemory and overServices are where a process keeps state, tokens and tasks.
const (
	overMemory   = "memory"
	overServices = "real services"
)

// measureOverhead has a process of its own set up projects at a Google that takes no time, and
// reads the processor time of that process.
func (b *bench) measureOverhead(ctx context.Context) error {
	for _, over := range []string{overServices, overMemory} {
		for _, n := range overheadSizes {
			if err := b.measureOverheadOf(ctx, over, n); err != nil {
				return fmt.Errorf("%d projects over %s: %w", n, over, err)
			}
		}
	}
	return nil
}

func (b *bench) measureOverheadOf(ctx context.Context, over string, n int) (err error) {
	product, err := b.build(ctx, productProgram)
	if err != nil {
		return err
	}
	// The same setup in this process counts the operations of its state.
	limits := map[string]string{"MAX_AUTO_PROJECTS": "1000", "VERIFY_INTERVAL": "1s"}
	counted, err := measureSetup(ctx, instantScenario(n), n, false, limits)
	if err != nil {
		return err
	}
	var process *server
	y, err := startSystem(ctx, stack.Options{
		Real: true, Scenario: instantScenario(n), Environment: b.services.environment(), Logs: b.dir,
		Elsewhere: func(_ context.Context, environment map[string]string) (http.Handler, error) {
			environment = maps.Clone(environment)
			maps.Copy(environment, limits)
			maps.Copy(environment, deployedGC)
			environment["LOG_LEVEL"] = "INFO"
			if over == overMemory { // the process delivers its tasks to itself
				environment["BACKENDS"] = "memory"
			}
			if process, err = b.serve(ctx, product, environment); err != nil {
				return nil, err
			}
			target, err := url.Parse(process.url)
			return httputil.NewSingleHostReverseProxy(target), err
		},
	})
	if process != nil {
		defer process.stop()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Stop(ctx)) }()
	before, rest, err := process.usage()
	if err != nil {
		return err
	}
	task, err := login(ctx, y.user, "")
	if err != nil {
		return err
	}
	if _, err := awaitFull(ctx, y.user, task, n, poll); err != nil {
		return err
	}
	if err := y.awaitDiscovery(ctx, 2*n); err != nil {
		return err
	}
	after, resident, err := process.usage()
	if err != nil {
		return err
	}
	cpu := after - before
	m := Overhead{
		Over: over, Projects: n, CPUSeconds: cpu.Seconds(),
		PerProject: float64(cpu.Microseconds()) / 1000 / float64(n),
	}
	environment := map[string]string{}
	if over == overServices {
		environment = b.services.environment()
	}
	m.Libraries, err = b.measureLibraries(ctx, n, y.Google.CallCounts(), counted.State, environment)
	if err != nil {
		return err
	}
	m.Own = m.PerProject - m.Libraries
	b.report.Overhead = append(b.report.Overhead, m)
	b.report.Resident = Memory{rest, resident} // of the last: 200 projects in memory
	return nil
}

// awaitDiscovery waits until a number of resources is discovered.
func (y *system) awaitDiscovery(ctx context.Context, resources int) error {
	var summary struct{ Total int }
	for range 300 {
		answer, err := y.user.Call(ctx, http.MethodGet, "/api/gcp/resources/summary", nil)
		if err != nil {
			return err
		}
		if err := answer.Decode(&summary); err != nil {
			return err
		}
		if summary.Total >= resources {
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("discovery found %d resources of %d", summary.Total, resources)
}

// measureLibraries makes the calls of a setup of n projects with the libraries alone and returns
// the milliseconds of processor time of a project. If the environment names a Firestore, it makes
// the transactions and writes of state too.
func (b *bench) measureLibraries(
	ctx context.Context, n int,
	counts google.Counts, state stack.Counts, environment map[string]string,
) (float64, error) {
	program, err := b.build(ctx, callsProgram)
	if err != nil {
		return 0, err
	}
	emulated, err := google.NewServer(google.Options{Scenario: instantScenario(n)})
	if err != nil {
		return 0, err
	}
	server := httptest.NewServer(emulated)
	defer server.Close()
	token, err := emulated.MintToken(owner)
	if err != nil {
		return 0, err
	}
	calls, err := json.Marshal(counts.ByMethod)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // built by build
	cmd.Stderr = os.Stderr
	cmd.Env = []string{
		"HOME=" + b.dir, "GOOGLE_ENDPOINT=" + server.URL, "TOKEN=" + token, "MEMBER=user:" + owner,
		"CALLS=" + string(calls), fmt.Sprint("PROJECTS=", n),
		fmt.Sprint("TRANSACTIONS=", state.Transactions),
		fmt.Sprint("WRITES=", state.Writes-state.Transactions),
	}
	for _, variables := range []map[string]string{environment, deployedGC} {
		for name, value := range variables {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("make the calls with the libraries alone: %w", err)
	}
	nanoseconds, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of the libraries: %w", err)
	}
	return float64(nanoseconds) / 1e6 / float64(n), nil
}
