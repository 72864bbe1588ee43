package main

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
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	"gcpconnect/shared/telemetry"
)

// functionsMark is in the environment of this program if it is to be the functions.
const functionsMark = "LOAD_SERVES_FUNCTIONS"

// where is the line that the functions' process prints when it is ready.
type where struct {
	Functions string // URL
	Inspect   string // URL of /memory and /debug/pprof/
}

// serveFunctions is the program gcpconnect with two additions: it serves profiles and the memory
// that it holds, and it exits when its parent does.
func serveFunctions() error {
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
	inspect.HandleFunc("/memory", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(currentMemory())
	})
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

// memory is the use of memory and processor of a process.
type memory struct {
	Heap       uint64 // bytes that are in use after a collection
	Goroutines int
	Resident   uint64 // bytes
	CPU        time.Duration
}

// currentMemory returns the memory of this process.
func currentMemory() memory {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m := memory{Heap: stats.HeapAlloc, Goroutines: runtime.NumGoroutine(), CPU: processorTime()}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64)
		m.Resident = pages * uint64(os.Getpagesize()) //nolint:gosec // not negative
	}
	return m
}

// processorTime returns the processor time that this process has used.
func processorTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// process is the functions in a process of their own, which can be replaced.
type process struct {
	environment []string
	log         *os.File
	transport   *http.Transport

	at    atomic.Pointer[where]
	cmd   *exec.Cmd
	hold  io.Closer     // the process exits when this is closed
	ended chan struct{} // closed when it has exited
}

// newProcess returns a process that stack.Options.Elsewhere starts. Its log is in a folder.
func newProcess(dir string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, "functions.log")) //nolint:gosec // a folder of this run
	if err != nil {
		return nil, err
	}
	return &process{log: log, transport: &http.Transport{MaxIdleConnsPerHost: 1000}}, nil
}

// stop ends the process.
func (p *process) stop() {
	if p.cmd != nil {
		_ = p.hold.Close()
		<-p.ended
	}
	p.transport.CloseIdleConnections()
	_ = p.log.Close()
}

// tail returns the end of the log.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-20_000):])
}

// elsewhere starts the process and returns a handler that leads to it, and to its successors.
func (p *process) elsewhere(
	ctx context.Context, environment map[string]string,
) (http.Handler, error) {
	p.environment = []string{functionsMark + "=1", "LOG_LEVEL=WARN"}
	for variable, value := range environment {
		p.environment = append(p.environment, variable+"="+value)
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			target, _ := url.Parse(p.at.Load().Functions)
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { // as Cloud Run does
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	}, nil
}

// start starts the process and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// stop ends it, also after ctx has ended.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program) //nolint:gosec // this program
	cmd.Env, cmd.Stderr = p.environment, p.log
	hold, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.hold, p.ended = cmd, hold, ended
	line, err := bufio.NewReader(out).ReadBytes('\n')
	go func() {
		_ = cmd.Wait() // how it exited is in its log
		close(ended)
	}()
	at := new(where)
	if err := errors.Join(err, json.Unmarshal(line, at)); err != nil {
		return fmt.Errorf("the functions do not start: %w\n%s", err, p.tail())
	}
	p.at.Store(at)
	return nil
}

// replace ends the process with a signal and starts another.
func (p *process) replace(ctx context.Context, s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return err
	}
	<-p.ended
	return p.start(ctx)
}

// memory returns what the process holds without idle connections.
func (p *process) memory(ctx context.Context) (memory, error) {
	p.transport.CloseIdleConnections()
	var m memory
	content, err := p.get(ctx, "/memory")
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(content, &m)
}

// get reads from the process's own pages.
func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.at.Load().Inspect+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return io.ReadAll(response.Body)
}
