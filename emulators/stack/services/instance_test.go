package services_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions/app"
	"gcpconnect/functions/functionstest"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// instanceVariable has the test's program serve as an instance of the
// functions, over the real services, with the environment that it holds.
const instanceVariable = "GCPCONNECT_TEST_INSTANCE"

func TestMain(m *testing.M) {
	if environment, ok := os.LookupEnv(instanceVariable); ok {
		fmt.Fprintln(os.Stderr, "instance ended:", serveInstance(environment))
		os.Exit(1)
	}
	flag.Parse()
	stacktest.SetFlags(map[string]string{"test.parallel": "4"}) // they wait more than they work
	var err error
	if contract, err = functionstest.Load(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// contract is what every exchange with the functions is held to.
var contract functionstest.Contract

// controlPath is where an instance takes a fault and tells its moments.
const controlPath = "/instance"

// fault is a signal that an instance sends to itself when a moment comes for the
// n-th time. Times count from when the instance was given the fault, or from the
// moment Since.
type fault struct {
	Since  string // empty: it was given the fault
	Moment string
	Nth    int
	Signal syscall.Signal
}

func (f fault) String() string { return fmt.Sprintf("%v %s #%d", f.Signal, f.Moment, f.Nth) }

// faulty is the instance's own side of a fault.
type faulty struct {
	google string // its host

	mu      sync.Mutex
	change  *sync.Cond
	fault   fault
	moments []string
	times   map[string]int
	open    int  // calls of the store under way
	holding bool // no call may begin or return
}

func newFaulty(google string) *faulty {
	f := &faulty{google: google, times: map[string]int{}}
	f.change = sync.NewCond(&f.mu)
	return f
}

// madeUp are parts of moments that differ from user to user, and uniqueID what
// differs from run to run.
var (
	madeUp   = regexp.MustCompile(`aurora-[0-9a-f]{20}`)
	uniqueID = regexp.MustCompile(`\b\d{21}\b`)
)

// meet is the hook of an instance.
func (f *faulty) meet(_ context.Context, m connecttest.Moment) error {
	if m.Part == f.google {
		m.Part = "google"
	}
	name := uniqueID.ReplaceAllString(madeUp.ReplaceAllString(m.String(), "aurora"), "N")
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.Part == "store" && m.After {
		f.open--
		f.change.Broadcast()
	}
	for f.holding {
		f.change.Wait()
	}
	f.moments = append(f.moments, name)
	if f.times[name]++; name == f.fault.Since {
		f.fault.Since, f.times = "", map[string]int{}
	}
	if f.fault.Since == "" && name == f.fault.Moment && f.times[name] == f.fault.Nth {
		f.strike(name)
	}
	if m.Part == "store" && !m.After {
		f.open++
	}
	return nil
}

// strike sends the signal. It waits until no call of the store is under way:
// Firestore keeps the locks of a transaction for a minute after its process
// died, which nobody here waits for. (Nothing of such a transaction has
// happened, so that it is as if the process had been struck before it.)
func (f *faulty) strike(name string) {
	f.holding = true
	for f.open > 0 {
		f.change.Wait()
	}
	fmt.Fprintln(os.Stderr, struckLine, name)
	if err := syscall.Kill(os.Getpid(), f.fault.Signal); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// The signal may need a moment. What comes after a stop goes on at once, as
	// it would wherever a process was stopped: before any timer has had its turn.
	for began, last := time.Now(), time.Now(); time.Since(began) < 10*time.Second; {
		now := time.Now()
		if now.Sub(last) > time.Second {
			break
		}
		last = now
	}
	f.holding = false
	f.change.Broadcast()
}

// The lines that an instance says about itself.
const (
	struckLine = "instance: struck"
	beginsLine = "instance: begins"
	endsLine   = "instance: ends"
)

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	met := f.moments
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&f.fault); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.moments, f.times = nil, map[string]int{}
	}
	_ = json.NewEncoder(w).Encode(met)
}

// serveInstance is the program, with a hook around all that it calls, on the
// socket that it inherits. It ends with the process that started it.
func serveInstance(encoded string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var variables map[string]string
	if err := json.Unmarshal([]byte(encoded), &variables); err != nil {
		return err
	}
	ctx := context.Background()
	cfg, err := config.Read(ctx, config.Environment{Lookup: func(v string) (string, bool) { value, ok := variables[v]; return value, ok }})
	if err != nil {
		return err
	}
	backends, err := app.OpenReal(ctx, cfg, app.Watch{})
	if err != nil {
		return err
	}
	at, err := url.Parse(cfg.GoogleEndpoint)
	if err != nil {
		return err
	}
	f := newFaulty(at.Host)
	hook := connecttest.Hook(f.meet)
	backends.Store, backends.Vault, backends.Queue = hook.Store(backends.Store), hook.Vault(backends.Vault), hook.Queue(backends.Queue)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(cfg, backends, hook.Transport(late{&http.Transport{MaxIdleConnsPerHost: 32}}), log)
	if err != nil {
		return err
	}
	functions := a.Handler("")
	mux := http.NewServeMux()
	mux.Handle(controlPath, f)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, beginsLine, r.URL.Path)
		functions.ServeHTTP(w, r)
		fmt.Fprintln(os.Stderr, endsLine, r.URL.Path)
	})
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// late sends a request that became overdue on the way through the transport. The
// program has checked its time before, and cannot call it back.
type late struct{ next http.RoundTripper }

func (l late) RoundTrip(r *http.Request) (*http.Response, error) {
	if connect.Overdue(r.Context()) != nil {
		r = r.WithContext(context.WithoutCancel(r.Context()))
	}
	return l.next.RoundTrip(r)
}

// instance is a running process of the program.
type instance struct {
	cmd   *exec.Cmd
	hold  io.Closer // it ends when this is closed
	said  *stacktest.Buffer
	ended chan struct{}
	err   error // how it ended, once it has
	// replaced is closed when another has taken its place.
	replaced chan struct{}

	mu      sync.Mutex
	lines   int // of begun requests without those that ended
	strikes int
	changed chan struct{}
}

// startInstance starts an instance on a socket.
func startInstance(socket *os.File, environment map[string]string) (*instance, error) {
	encoded, err := json.Marshal(environment)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	i := &instance{cmd: exec.CommandContext(context.Background(), program), said: new(stacktest.Buffer), ended: make(chan struct{}), replaced: make(chan struct{}), changed: make(chan struct{})}
	// Of one processor, as Cloud Run gives: whatever was going on goes on first.
	i.cmd.Env = []string{instanceVariable + "=" + string(encoded), "GOMAXPROCS=1"}
	i.cmd.ExtraFiles = []*os.File{socket}
	if i.hold, err = i.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := i.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := i.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			i.hear(lines.Text())
		}
		i.err = i.cmd.Wait()
		close(i.ended)
	}()
	return i, nil
}

func (i *instance) hear(line string) {
	_, _ = i.said.Write([]byte(line + "\n"))
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case strings.HasPrefix(line, beginsLine):
		i.lines++
	case strings.HasPrefix(line, endsLine):
		i.lines--
	case strings.HasPrefix(line, struckLine):
		i.strikes++
	default:
		return
	}
	close(i.changed)
	i.changed = make(chan struct{})
}

// await waits until something holds of the instance.
func (i *instance) await(ctx context.Context, holds func(underWay, strikes int) bool) error {
	for {
		i.mu.Lock()
		done, changed := holds(i.lines, i.strikes), i.changed
		i.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-i.ended:
			return fmt.Errorf("the instance ended: %w", i.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kill ends the instance, wherever it is.
func (i *instance) kill() error {
	_ = i.hold.Close()
	if err := i.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-i.ended
	return nil
}
