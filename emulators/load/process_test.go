package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/http/pprof"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	"gcpconnect/shared/telemetry"
)

// mark is in the environment of the test's own program where it is to be the
// functions.
const mark = "LOAD_SERVES_FUNCTIONS"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(mark); !ok {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// where is the line that the functions' process prints when it serves.
type where struct {
	Functions string // URL
	Inspect   string // URL of /memory and /debug/pprof/
}

// serve is the program gcpconnect with two more: who can look into it, and that
// it ends with its parent.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // the parent holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	cfg, err := config.Read(ctx, config.Environment{Lookup: os.LookupEnv, Functions: app.Functions()})
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(os.Stderr, cfg.LogLevel, cfg.Project)
	slog.SetDefault(log)
	backends, err := app.Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	a, err := app.New(cfg, backends, nil, log)
	if err != nil {
		return err
	}
	inspect := http.NewServeMux()
	inspect.HandleFunc("/memory", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(look()) })
	inspect.HandleFunc("/debug/pprof/", pprof.Index)
	inspect.HandleFunc("/debug/pprof/profile", pprof.Profile)
	var servers []*http.Server
	var urls []string
	failed := make(chan error, 2)
	for _, handler := range []http.Handler{a.Handler(""), inspect} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- server.Serve(listener) }()
		servers, urls = append(servers, server), append(urls, "http://"+listener.Addr().String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(where{urls[0], urls[1]}); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
	defer cancel()
	return errors.Join(servers[0].Shutdown(ctx), a.Close(ctx))
}

// memory is what the functions' process holds.
type memory struct {
	Heap       uint64 // bytes that are alive after a collection
	Goroutines int
	Resident   uint64 // bytes
	CPU        time.Duration
}

func look() memory {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m := memory{Heap: stats.HeapAlloc, Goroutines: runtime.NumGoroutine(), CPU: spent()}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64)
		m.Resident = pages * uint64(os.Getpagesize())
	}
	return m
}

// spent is the processor time that this process has used.
func spent() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// process is the functions in a process of their own, which can be replaced.
type process struct {
	t           *testing.T
	environment []string
	log         *os.File
	transport   *http.Transport

	at    atomic.Pointer[where]
	cmd   *exec.Cmd
	hold  io.Closer
	ended chan error
}

// newProcess returns one that is started by stack.Options.Elsewhere.
func newProcess(t *testing.T) *process {
	t.Helper()
	log, err := os.Create(t.TempDir() + "/functions.log")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	p := &process{t: t, log: log, transport: transport}
	t.Cleanup(func() {
		if p.cmd != nil {
			_ = p.hold.Close() // which ends it
			<-p.ended
		}
		transport.CloseIdleConnections()
		_ = log.Close()
		if t.Failed() {
			t.Logf("the functions' log ends with:\n%s", tail(log.Name()))
		}
	})
	return p
}

func tail(file string) string {
	content, _ := os.ReadFile(file)
	return string(content[max(0, len(content)-20_000):])
}

// elsewhere starts the process and returns what leads to it, whichever it is.
func (p *process) elsewhere(_ context.Context, environment map[string]string) (http.Handler, error) {
	p.environment = []string{mark + "=1", "LOG_LEVEL=WARN"}
	for variable, value := range environment {
		p.environment = append(p.environment, variable+"="+value)
	}
	p.start()
	return &httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			target, _ := url.Parse(p.at.Load().Functions)
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { // as Cloud Run says it
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	}, nil
}

// start starts the process and waits until it serves.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), os.Args[0])
	p.cmd.Env, p.cmd.Stderr = p.environment, p.log
	hold, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.hold, p.ended = hold, make(chan error, 1)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	at := new(where)
	if err := errors.Join(err, json.Unmarshal(line, at)); err != nil {
		p.t.Fatalf("the functions do not start: %v\n%s", err, tail(p.log.Name()))
	}
	p.at.Store(at)
	cmd, ended := p.cmd, p.ended
	go func() { ended <- cmd.Wait() }()
}

// replace ends the process with a signal and starts another.
func (p *process) replace(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	<-p.ended
	p.start()
}

// memory asks what the process holds, without the connections that are idle.
func (p *process) memory() memory {
	p.t.Helper()
	p.transport.CloseIdleConnections()
	var m memory
	content := p.get("/memory")
	if err := json.Unmarshal(content, &m); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// get asks the process about itself.
func (p *process) get(path string) []byte {
	p.t.Helper()
	response, err := http.Get(p.at.Load().Inspect + path)
	if err != nil {
		p.t.Error(err)
		return nil
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Error(err)
	}
	return content
}
