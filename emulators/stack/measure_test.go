package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/stack"
	"gcpconnect/functions"
)

// measureTo is where `make bench` wants what is measured, as JSON. Without it the
// tests check what does not depend on the machine.
var measureTo = flag.String("measure", "", "file for what is measured, as JSON")

// Measured is what `make bench` writes.
type Measured struct {
	Setups     []measuredSetup
	SecondRun  measuredSetup // of what is set up already
	Crowds     []measuredCrowd
	Real       []measuredState
	Overhead   []measuredOverhead
	Throughput []measuredThroughput
	ColdStart  []measuredStart
	Binary     int64 // bytes
	Hello      int64 // of the least that the framework can serve
	Resident   measuredMemory
	Cost       []measuredCost // of a setup of five projects
}

// setups

// original is what the connector that this one replaces took, under the same
// latencies: seconds and calls by projects.
var original = map[int]struct {
	Seconds float64
	Calls   int
}{1: {149, 67}, 5: {321, 243}, 20: {916, 699}, 50: {2255, 1718}}

type measuredSetup struct {
	Projects   int
	Seconds    float64 // from the callback to the end of the setup
	Floor      float64
	Ratio      float64
	Calls      int // to Google, discovery included
	PerProject float64
	ByMethod   map[string]int
	Writes     int     // of Calls, those that change something
	Busy       float64 // seconds of requests to step functions: what an instance is paid for
	State      stack.Counts
	Original   float64 `json:",omitempty"` // seconds
	Faster     float64 `json:",omitempty"`
}

// measuredState is what a setup asks of the real services.
type measuredState struct {
	Projects, Executions int
	Seconds              float64
	State                stack.Counts
}

// contractLatencies are those under which the original was measured: reads 80 ms,
// IAM writes 250 ms, account creation 500 ms, batchEnable 250 ms and a 15 s
// operation; 60 s of propagation come from the scenario.
var contractLatencies = google.Latencies{
	Read: milliseconds(80), IAMWrite: milliseconds(250), CreateAccount: milliseconds(500), BatchEnable: milliseconds(250), OAuth: milliseconds(80), Operation: seconds(15),
}

func milliseconds(n int) google.Duration { return google.Duration(time.Duration(n) * time.Millisecond) }

// likeTheOriginal has Google take the time that the original was measured with.
func likeTheOriginal(s *google.Scenario) {
	s.Latencies = contractLatencies
	for i := range s.Projects[1:] {
		s.Projects[1+i].EnabledAPIs = &[]string{"serviceusage.googleapis.com"} // two batches to enable
	}
}

// measureReal connects n projects over the real services, where operations of
// Firestore, Vault and Cloud Tasks go over the wire, from login to the end of
// discovery. Google takes no time; what is left of a setup's is the services', and
// the waiting for what Google would have to do.
func measureReal(t *testing.T, n int, shared services) measuredState {
	t.Helper()
	m := measuredState{Projects: n}
	environment := shared.environment()
	environment["MAX_AUTO_PROJECTS"], environment["VERIFY_INTERVAL"] = "50", "30s"
	runReal(t, stack.Options{Environment: environment}, scenario(n, likeTheOriginal), func(y *system) {
		y.poll = 5 * time.Second // as the frontend does: each look is a read
		began := time.Now()
		final := y.complete()
		y.wantSuccess(final, n, n)
		m.Seconds = time.Since(began).Seconds()
		if err := y.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.Executions = n // of discover-project
		for _, step := range final.Steps {
			m.Executions += step.Attempts
		}
		m.State = y.Counts()
	})
	return m
}

// floor is the least time that any connector could take under the contract's
// latencies: the longest chain of calls of which each needs what the one before it
// gave, with all that does not depend on one another at once; and the propagation of
// what the last of them granted, looked for at once and then every 30 s. Google's
// quotas are not in it.
func floor() time.Duration {
	read, write, create := time.Duration(contractLatencies.Read), time.Duration(contractLatencies.IAMWrite), time.Duration(contractLatencies.CreateAccount)
	chain := read + // the code for tokens
		read + // which projects there are
		read + // which of them have billing: where the accounts are to be
		create + // the agent account
		write // its roles in the projects, which take no member that does not exist
	return chain + 2*30*time.Second + // the checks until 60 s of propagation are over
		read + // a token of the agent account
		read // whether it has its permissions in the projects
}

// measureSetup connects n projects in virtual time.
func measureSetup(t *testing.T, n int, again bool) measuredSetup {
	t.Helper()
	var m measuredSetup
	var busy atomic.Int64
	between := func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if began := time.Now(); strings.HasPrefix(r.URL.Path, "/tasks/") {
				defer func() { busy.Add(int64(time.Since(began))) }()
			}
			return next.RoundTrip(r)
		})
	}
	runOver(t, between, scenario(n, likeTheOriginal), map[string]string{"MAX_AUTO_PROJECTS": "1000", "MAX_SELECTED_PROJECTS": "1000"}, func(y *system) {
		began := time.Now()
		task, before := y.connect(), google.Counts{}
		if again {
			y.end(task)
			if err := y.Idle(t.Context()); err != nil {
				t.Fatal(err)
			}
			before = y.Google.CallCounts()
			var selected []string
			for i := 1; i <= n; i++ {
				selected = append(selected, fmt.Sprintf("project-%03d", i))
			}
			began, task = time.Now(), y.restart(selected...)
		}
		m.Seconds = y.end(task).Sub(began).Seconds()
		if err := y.Idle(t.Context()); err != nil { // and with it discovery
			t.Fatal(err)
		}
		counts := y.Google.CallCounts()
		m.Projects, m.Calls, m.Writes, m.ByMethod = n, counts.Total-before.Total, counts.Writes-before.Writes, maps.Clone(counts.ByMethod)
		for method, calls := range before.ByMethod {
			m.ByMethod[method] -= calls
		}
		m.State, m.Busy, m.Floor = y.Counts(), time.Duration(busy.Load()).Seconds(), floor().Seconds()
		m.finish()
	})
	return m
}

// finish computes what follows from the rest.
func (m *measuredSetup) finish() {
	m.Ratio, m.PerProject = m.Seconds/m.Floor, float64(m.Calls)/float64(m.Projects)
	if o, ok := original[m.Projects]; ok {
		m.Original, m.Faster = o.Seconds, o.Seconds/m.Seconds
	}
}

// end waits until a setup has succeeded, and returns when it had.
func (y *system) end(task string) time.Time {
	y.t.Helper()
	var status struct {
		State string
		Steps []struct {
			Finished time.Time `json:"finished_at"`
		}
		Result *struct {
			Status      string
			Propagation string `json:"propagation_status"`
		}
	}
	for range 2000 {
		y.call(http.StatusOK, http.MethodGet, "/gcp/setup/status/"+task+"?view=detail", nil, &status)
		if status.Result != nil {
			break
		}
		time.Sleep(5 * time.Second)
	}
	if status.Result == nil || status.Result.Status != "SUCCESS" || status.Result.Propagation != "FULL" {
		y.t.Fatalf("the setup ended with %s", show(status))
	}
	return status.Steps[len(status.Steps)-1].Finished
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A setup takes as long as Google does, whatever the number of projects, and a
// second one changes nothing.
func TestASetupTakesAsLongAsGoogleDoes(t *testing.T) {
	t.Parallel()
	one, fifty, again := measureSetup(t, 1, false), measureSetup(t, 50, false), measureSetup(t, 50, true)
	for _, m := range []measuredSetup{one, fifty} {
		if m.Ratio > 1.05 {
			t.Errorf("%d projects take %.2f s, %.3f times the least possible %.2f s", m.Projects, m.Seconds, m.Ratio, m.Floor)
		}
	}
	if fifty.Seconds > 1.1*one.Seconds {
		t.Errorf("50 projects take %.2f s, 1 takes %.2f s", fifty.Seconds, one.Seconds)
	}
	if fifty.Calls > 11*50+25 || one.Calls > 11+25 {
		t.Errorf("50 projects take %d calls, 1 takes %d", fifty.Calls, one.Calls)
	}
	if fifty.Faster < 20 {
		t.Errorf("50 projects are connected %.1f times faster than by the original", fifty.Faster)
	}
	found := again.ByMethod["cloudasset.searchAllResources"] // discovery runs again too, which is not the setup's
	if again.Writes > 0 || again.Calls-found > 5*50+25 {
		t.Errorf("a second run of 50 projects takes %d calls, %d of them writes: %v", again.Calls, again.Writes, again.ByMethod)
	}
}

// programs

// build builds a program as the image has it.
func build(t *testing.T, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return program
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// served is a program that serves at a port.
type served struct {
	*exec.Cmd
	url   string
	start time.Duration // from exec to its first answer
	logs  bytes.Buffer
}

// serve starts a program, and asks it at a path until it answers.
func serve(t *testing.T, program, path string, environment map[string]string) *served {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	s := &served{Cmd: exec.CommandContext(context.WithoutCancel(t.Context()), program), url: "http://" + address}
	s.Env, s.Stderr = []string{"PORT=" + port, "HOME=" + t.TempDir()}, &s.logs
	for name, value := range environment {
		s.Env = append(s.Env, name+"="+value)
	}
	s.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
			answer := make([]byte, 12)
			_, err = io.ReadFull(conn, answer)
			_ = conn.Close()
			if err == nil {
				break
			}
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s does not answer: %v\n%s", program, err, s.logs.String())
		}
		time.Sleep(200 * time.Microsecond)
	}
	s.start = time.Since(began)
	return s
}

func (s *served) stop(t *testing.T) {
	t.Helper()
	if err := s.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = s.Wait()
}

// spent is the processor time that a process has taken, and resident what it holds
// of memory (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
func (s *served) spent(t *testing.T) (cpu time.Duration, resident int64) {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
	const ticks = 100 // a second, on Linux
	return time.Duration(number(11)+number(12)) * time.Second / ticks, number(21) * int64(os.Getpagesize())
}

// overhead

type measuredOverhead struct {
	Over       string // memory or real services
	Projects   int
	CPUSeconds float64 // of the functions' process
	PerProject float64 // milliseconds
	// Libraries is what a program takes of it that makes the same calls to Google,
	// and about as many to Firestore, by the same libraries: milliseconds a project.
	Libraries float64
	// Own is the difference. The delivery of tasks is in it, and over the real
	// services also Cloud Tasks' and Vault's clients.
	Own float64
}

type measuredMemory struct{ Rest, AfterSetups int64 } // bytes

// deployedGC is how a deployment has the garbage collector: see terraform/.
var deployedGC = map[string]string{"GOGC": "400", "GOMEMLIMIT": "384MiB"}

// measureCalls makes the calls of a setup of n projects by the libraries alone, and
// returns the milliseconds of processor time that it takes a project. In an
// environment with Firestore it makes as many transactions and writes, too.
func measureCalls(t *testing.T, program string, n int, counts google.Counts, state stack.Counts, environment map[string]string) float64 {
	t.Helper()
	s := scenario(n, nil)
	s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
	emulated, err := google.NewServer(google.Options{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(emulated)
	defer server.Close()
	token, err := emulated.MintToken(owner)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := json.Marshal(counts.ByMethod)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stderr = os.Stderr
	cmd.Env = []string{
		"HOME=" + t.TempDir(), "GOOGLE_ENDPOINT=" + server.URL, "TOKEN=" + token, "MEMBER=user:" + owner, "CALLS=" + string(calls),
		fmt.Sprint("PROJECTS=", n), fmt.Sprint("TRANSACTIONS=", state.Transactions), fmt.Sprint("WRITES=", state.Writes-state.Transactions),
	}
	for _, more := range []map[string]string{environment, deployedGC} {
		for name, value := range more {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	spent, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return float64(spent) / 1e6 / float64(n)
}

// measureOverhead has a process of its own set up projects at a Google that takes no
// time, and looks at the processor time that it takes.
func measureOverhead(t *testing.T, program, calls string, shared services, setups []measuredSetup) ([]measuredOverhead, measuredMemory) {
	t.Helper()
	var found []measuredOverhead
	var memory measuredMemory
	for _, over := range []string{"real services", "memory"} {
		for _, n := range []int{50, 200} {
			var process *served
			s := scenario(n, nil)
			s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
			set := func(environment map[string]string) http.Handler {
				maps.Copy(environment, map[string]string{"MAX_AUTO_PROJECTS": "1000", "VERIFY_INTERVAL": "1s", "LOG_LEVEL": "INFO"})
				maps.Copy(environment, deployedGC)
				process = serve(t, program, "/", environment)
				target, err := url.Parse(process.url)
				if err != nil {
					t.Fatal(err)
				}
				return httputil.NewSingleHostReverseProxy(target)
			}
			opts := stack.Options{Real: true, Scenario: s, Environment: shared.environment(), Logs: t.TempDir()}
			opts.Elsewhere = func(_ context.Context, environment map[string]string) (http.Handler, error) {
				if over == "memory" { // the queue of the process delivers to itself
					environment = maps.Clone(environment)
					environment["BACKENDS"] = "memory"
				}
				return set(environment), nil
			}
			started, err := stack.Start(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			y := &system{Stack: started, t: t, logs: &process.logs}
			y.user = y.newUser("user-1")
			before, rest := process.spent(t)
			final, err := y.user.Await(t.Context(), y.connect(), 5*time.Second, nil) // as the frontend polls
			if err != nil {
				t.Fatal(err)
			}
			y.wantSuccess(final, n, n)
			var summary struct{ Total int }
			for summary.Total < 2*n { // discovery
				y.call(http.StatusOK, http.MethodGet, "/api/gcp/resources/summary", nil, &summary)
				time.Sleep(time.Second)
			}
			after, resident := process.spent(t)
			cpu := after - before
			m := measuredOverhead{Over: over, Projects: n, CPUSeconds: cpu.Seconds(), PerProject: float64(cpu.Microseconds()) / 1000 / float64(n)}
			environment := map[string]string{}
			if over != "memory" {
				environment = shared.environment()
			}
			of := slices.IndexFunc(setups, func(s measuredSetup) bool { return s.Projects == n })
			m.Libraries = measureCalls(t, calls, n, y.Google.CallCounts(), setups[of].State, environment)
			m.Own = m.PerProject - m.Libraries
			found = append(found, m)
			if n == 200 {
				memory = measuredMemory{rest, resident}
			}
			if err := started.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			process.stop(t)
		}
	}
	return found, memory
}

// throughput

type measuredThroughput struct {
	What      string
	PerSecond float64
	P50, P99  float64 // milliseconds
}

// under asks again and again, from as many callers as wait for an answer, and
// measures.
func under(t *testing.T, what string, callers int, during time.Duration, ask func(caller int) error) measuredThroughput {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	began := time.Now()
	for caller := range callers {
		group.Go(func() {
			var mine []time.Duration
			for time.Since(began) < during {
				asked := time.Now()
				if err := ask(caller); err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				mine = append(mine, time.Since(asked))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	group.Wait()
	total := time.Since(began)
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatalf("%s answered nothing", what)
	}
	ms := func(part float64) float64 { return float64(took[int(part*float64(len(took)-1))].Microseconds()) / 1000 }
	return measuredThroughput{what, float64(len(took)) / total.Seconds(), ms(0.5), ms(0.99)}
}

func measureThroughput(t *testing.T, program, bare string, shared services) []measuredThroughput {
	t.Helper()
	environment := shared.environment()
	var variables map[string]string
	opts := stack.Options{Real: true, Scenario: scenario(5, func(s *google.Scenario) { s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{} }), Environment: environment, Logs: t.TempDir()}
	var gateway *served
	opts.Elsewhere = func(_ context.Context, environment map[string]string) (http.Handler, error) {
		variables = environment
		gateway = serve(t, program, "/", environment)
		target, err := url.Parse(gateway.url)
		return httputil.NewSingleHostReverseProxy(target), err
	}
	started, err := stack.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := started.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		gateway.stop(t)
	}()
	y := &system{Stack: started, t: t, logs: &gateway.logs}
	y.user = y.newUser("user-1")
	task := y.connect()
	final, err := y.user.Await(t.Context(), task, 250*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	y.wantSuccess(final, 5, 5)

	const callers, during = 32, 8 * time.Second
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	get := func(method, address, body string) func(int) error {
		return func(caller int) error {
			r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("X-User-ID", "user-1")
			if body != "" {
				r.Header.Set("X-User-ID", fmt.Sprintf("load-%d", caller))
				r.Header.Set("Content-Type", "application/json")
			}
			response, err := client.Do(r)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("answered %d", response.StatusCode)
			}
			return err
		}
	}
	alone := func(function string) *served {
		environment := maps.Clone(variables)
		environment["FUNCTION_TARGET"] = function
		return serve(t, program, "/", environment)
	}
	status, login := alone("status"), alone("login")
	defer status.stop(t)
	defer login.stop(t)
	reader := serve(t, bare, "/", map[string]string{
		"FIRESTORE_EMULATOR_HOST": variables["FIRESTORE_EMULATOR_HOST"], "GOOGLE_CLOUD_PROJECT": variables["GOOGLE_CLOUD_PROJECT"], "DOCUMENT": "setups/" + task, "FUNCTION_TARGET": "bare",
	})
	defer reader.stop(t)
	found := []measuredThroughput{
		under(t, "a bare handler that reads one document", callers, during, get(http.MethodGet, reader.url+"/", "")),
		under(t, "status", callers, during, get(http.MethodGet, status.url+"/gcp/setup/status/"+task, "")),
	}
	// The setups that follow from logins are not theirs to pay for. And they are
	// before the many that come to nothing: the emulator of Firestore looks at each
	// document that there is, where Firestore has an index.
	pause(t, variables["CLOUD_TASKS_EMULATOR_HOST"], variables["CLOUD_TASKS_QUEUE"])
	users := make([]*demo.User, 8)
	for i := range users {
		users[i] = y.newUser(fmt.Sprintf("callback-%d", i))
	}
	return append(found,
		under(t, "login, consent and callback together", len(users), during, func(caller int) error {
			// The first makes a connection, the others replace it, as when users come back.
			ending, _, err := users[caller].Connect(t.Context(), demo.Choice{})
			if err == nil && ending != "gcp_setup_pending" {
				err = fmt.Errorf("ended with %s", ending)
			}
			return err
		}),
		under(t, "login", callers, during, get(http.MethodPost, login.url+"/login", "{}")))
}

// pause has the queue of an emulator deliver nothing.
func pause(t *testing.T, emulator, queue string) {
	t.Helper()
	client, err := cloudtasks.NewClient(t.Context(), option.WithEndpoint(emulator), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: queue}); err != nil {
		t.Fatal(err)
	}
}

// cold starts

type measuredStart struct {
	Function     string
	Milliseconds float64 // from exec to the first answer, median
	Ratio        float64 // to a hello-world on the same framework
}

func measureColdStarts(t *testing.T, program, hello, linked string) []measuredStart {
	t.Helper()
	const times = 15
	environment := map[string]string{
		"CLIENT_ID": "id", "CLIENT_SECRET": "secret", "LOGIN_KEY": loginKey, "NEXT_PUBLIC_BACKEND_URL": "https://backend.example", "FRONTURL": "https://front.example",
		"BACKENDS": "real", "GOOGLE_CLOUD_PROJECT": "aurora", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1", "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1",
		"CLOUD_TASKS_QUEUE": "projects/aurora/locations/europe-west1/queues/setups", "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "token",
	}
	starts := map[string][]time.Duration{}
	for range times { // in turns: what else the machine does meets all alike
		for name, program := range map[string]string{"": hello, "linked": linked} {
			one := serve(t, program, "/", map[string]string{"FUNCTION_TARGET": "hello"})
			starts[name] = append(starts[name], one.start)
			one.stop(t)
		}
		for _, f := range functions.Table() {
			environment["FUNCTION_TARGET"] = f.Name
			one := serve(t, program, "/", environment)
			starts[f.Name] = append(starts[f.Name], one.start)
			one.stop(t)
		}
	}
	median := func(name string) float64 {
		slices.Sort(starts[name])
		return float64(starts[name][times/2].Microseconds()) / 1000
	}
	base := median("")
	found := []measuredStart{
		{"hello-world on the same framework", base, 1},
		{"hello-world that links the seven libraries, and uses none", median("linked"), median("linked") / base},
	}
	for _, f := range functions.Table() {
		found = append(found, measuredStart{f.Name, median(f.Name), median(f.Name) / base})
	}
	return found
}

// cost

// Google's list prices in dollars, of most regions of tier 1, as of 2026:
// https://cloud.google.com/run/pricing (paid while requests are worked on),
// https://cloud.google.com/firestore/pricing (multi-region),
// https://cloud.google.com/tasks/pricing.
const (
	perVCPUSecond = 0.000024
	perGiBSecond  = 0.0000025
	perRequest    = 0.40 / 1e6
	perRead       = 0.06 / 1e5
	perWrite      = 0.18 / 1e5
	perTask       = 0.40 / 1e6
)

type measuredCost struct {
	What                     string
	InstanceSeconds          float64 // of one vCPU and 512 MiB
	Reads, Writes, Tasks     int64
	VaultCalls               int64
	DollarsPerThousandSetups float64
}

func costOf(m measuredSetup) []measuredCost {
	requests := float64(m.State.Tasks) + 3 + m.Seconds/5 // and login, callback, and a poll every 5 s
	busy := m.Busy + 0.3
	ours := measuredCost{"steps that a queue calls", busy, m.State.Reads, m.State.Writes, m.State.Tasks, m.State.VaultCalls, 0}
	ours.DollarsPerThousandSetups = 1000 * (busy*(perVCPUSecond+perGiBSecond/2) + requests*perRequest +
		float64(m.State.Reads)*perRead + float64(m.State.Writes)*perWrite + float64(m.State.Tasks)*perTask)
	waiting := measuredCost{What: "a worker that waits, at the same speed", InstanceSeconds: m.Seconds, Reads: ours.Reads, Writes: ours.Writes, VaultCalls: ours.VaultCalls}
	waiting.DollarsPerThousandSetups = 1000 * (m.Seconds*(perVCPUSecond+perGiBSecond/2) + float64(ours.Reads)*perRead + float64(ours.Writes)*perWrite)
	return []measuredCost{ours, waiting, {
		What: "a worker that waits as the original did, its processor and memory alone", InstanceSeconds: m.Original,
		DollarsPerThousandSetups: 1000 * m.Original * (perVCPUSecond + perGiBSecond/2),
	}}
}

// TestMeasure measures what depends on the machine, and all else, for `make bench`.
func TestMeasure(t *testing.T) {
	if *measureTo == "" {
		return // its parts that do not depend on the machine are TestASetupTakesAsLongAsGoogleDoes
	}
	shared := services{partstest.Firestore(t), partstest.Vault(t)}
	program, hello, linked := build(t, "gcpconnect/functions/cmd/gcpconnect"), build(t, "./testdata/hello"), build(t, "./testdata/linked")
	bare, calls := build(t, "./testdata/bare"), build(t, "./testdata/calls")
	var m Measured
	m.Binary, m.Hello = size(t, program), size(t, hello)
	m.ColdStart = measureColdStarts(t, program, hello, linked)
	m.Throughput = measureThroughput(t, program, bare, shared)
	for _, n := range []int{1, 5, 20, 50, 200, 1000} {
		m.Setups = append(m.Setups, measureSetup(t, n, false))
	}
	m.Overhead, m.Resident = measureOverhead(t, program, calls, shared, m.Setups)
	m.SecondRun = measureSetup(t, 50, true)
	for _, of := range []struct {
		what     string
		crowd    crowd
		charging bool
	}{
		{"200 users, customers' projects pay", crowd{200, 5, 0}, true},
		{"beside one who has 200 projects", crowd{200, 5, 200}, true},
		{"6 users, customers' projects pay", crowd{6, 5, 0}, true},
		{"6 users, Aurora's project pays for all", crowd{6, 5, 0}, false},
	} {
		c, _ := of.crowd.measure(t, of.what, of.charging)
		m.Crowds = append(m.Crowds, c)
	}
	for _, n := range []int{1, 5, 50} {
		m.Real = append(m.Real, measureReal(t, n, shared))
	}
	m.Cost = costOf(m.Setups[1])
	m.print(os.Stdout)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*measureTo, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// print shows m as tables.
func (m *Measured) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	line("\nA setup\tseconds\tfloor\tratio\tcalls\ta project\toriginal\tfaster")
	for _, s := range m.Setups {
		before, faster := "", ""
		if s.Original > 0 {
			before, faster = fmt.Sprintf("%.0f s", s.Original), fmt.Sprintf("%.1f times", s.Faster)
		}
		line("%d projects\t%.2f\t%.2f\t%.3f\t%d\t%.2f\t%s\t%s", s.Projects, s.Seconds, s.Floor, s.Ratio, s.Calls, s.PerProject, before, faster)
	}
	line("%d again\t%.2f\t\t\t%d\t%.2f\twrites: %d\t", m.SecondRun.Projects, m.SecondRun.Seconds, m.SecondRun.Calls, m.SecondRun.PerProject, m.SecondRun.Writes)
	line("\nWithin a minute, 5 projects each\tp50 s\tp99 s\tlongest\tcalls\trefused")
	for _, c := range m.Crowds {
		line("%s\t%.0f\t%.0f\t%.0f\t%d\t%d", c.What, c.P50, c.P99, c.Longest, c.Calls, c.Refused)
	}
	line("\nState of a setup\ttransactions\treads\twrites\ttasks\tvault\tbusy seconds")
	for _, s := range m.Setups {
		line("%d projects\t%d\t%d\t%d\t%d\t%d\t%.2f", s.Projects, s.State.Transactions, s.State.Reads, s.State.Writes, s.State.Tasks, s.State.VaultCalls, s.Busy)
	}
	line("\nState over real services\ttransactions\treads\twrites\ttasks\tvault\texecutions\tseconds")
	for _, s := range m.Real {
		line("%d projects\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f", s.Projects, s.State.Transactions, s.State.Reads, s.State.Writes, s.State.Tasks, s.State.VaultCalls, s.Executions, s.Seconds)
	}
	line("\nProcessor time\tseconds\tms a project\tof the libraries\tour own")
	for _, o := range m.Overhead {
		line("%d projects over %s\t%.2f\t%.2f\t%.2f\t%.2f", o.Projects, o.Over, o.CPUSeconds, o.PerProject, o.Libraries, o.Own)
	}
	line("\nRequests\ta second\tp50 ms\tp99 ms")
	for _, r := range m.Throughput {
		line("%s\t%.0f\t%.1f\t%.1f", r.What, r.PerSecond, r.P50, r.P99)
	}
	line("\nCold start\tms\tratio")
	for _, s := range m.ColdStart {
		line("%s\t%.1f\t%.2f", s.Function, s.Milliseconds, s.Ratio)
	}
	line("\nBinary %.1f MB, hello-world %.1f MB; resident %.0f MB at rest, %.0f MB after 200 projects", float64(m.Binary)/1e6, float64(m.Hello)/1e6, float64(m.Resident.Rest)/1e6, float64(m.Resident.AfterSetups)/1e6)
	line("\nCost of a setup of 5\tinstance s\treads\twrites\ttasks\tvault\tdollars a thousand")
	for _, c := range m.Cost {
		line("%s\t%.1f\t%d\t%d\t%d\t%d\t%.2f", c.What, c.InstanceSeconds, c.Reads, c.Writes, c.Tasks, c.VaultCalls, c.DollarsPerThousandSetups)
	}
	_ = w.Flush()
}
