// Package stack runs the whole system on one machine: an emulated Google, the
// functions, and a gateway with the console, and every function under the path
// that the HTTP contract gives it. The functions keep state, tokens and tasks in memory, or
// in the real services: a Firestore emulator, a Vault and a Cloud Tasks
// emulator, which the stack starts, or uses where they run already.
//
// It is what `go run ./emulators` starts, and what the tests of the whole
// system start: over TCP, or over a network of their own.
package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"gcpconnect/emulators/console"
	"gcpconnect/emulators/google"
	"gcpconnect/functions"
	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	clients "gcpconnect/shared/google"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// Options say what to start. The zero value is the default system on free
// ports.
type Options struct {
	Listen       string           // address of the gateway; empty: a free port on loopback
	GoogleListen string           // address of the emulated Google; empty: likewise
	Scenario     *google.Scenario // empty: google.DefaultScenario
	// Environment is the configuration of the functions beside what the stack
	// itself sets, by variable.
	Environment map[string]string
	Network     Network // nil: TCP
	Log         *slog.Logger
	Telemetry   *telemetry.Telemetry // nil: none

	// Real keeps state, tokens and tasks in the real services. Those whose
	// address Environment has (FIRESTORE_EMULATOR_HOST, VAULT_ADDR,
	// CLOUD_TASKS_EMULATOR_HOST) are used and not started. It needs TCP.
	Real bool
	// Instances is how many instances of the functions take turns, over the
	// same real services; 0 is one.
	Instances int
	// Elsewhere, where it is set, starts the functions outside of this process,
	// given their environment, and returns a handler that leads to them. It is
	// for Real only, and nothing is counted.
	Elsewhere func(ctx context.Context, environment map[string]string) (http.Handler, error)
	// Around is put around the functions, to see what they are asked and what
	// they answer; nil: nothing.
	Around func(http.Handler) http.Handler
	// Logs is the folder for the logs of what runs in processes of their own;
	// empty: a new one.
	Logs string
}

// Network is how the parts reach one another.
type Network interface {
	Listen(ctx context.Context, address string) (net.Listener, error)
	Transport() http.RoundTripper
}

// tcp is the operating system's network.
type tcp struct{ transport *http.Transport }

func (tcp) Listen(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

func (t tcp) Transport() http.RoundTripper { return t.transport }

// Stack is a running system.
type Stack struct {
	URL       string // of the gateway
	GoogleURL string // of the emulated Google
	FrontURL  string // where the callback sends the browser
	Google    *google.Server
	// Parts are the services in processes of their own that were started.
	Parts Parts

	apps    []*app.App
	network Network
	servers []*http.Server
	failed  chan error
	idle    func(ctx context.Context) error
	quiet   func(ctx context.Context) error // ends deliveries of a queue in memory
	counts  func() Counts
}

// demoClient is the OAuth client that the stack's scenarios know.
const (
	demoClientID     = "demo-client.apps.googleusercontent.com"
	demoClientSecret = "demo-secret"
)

// Start starts the system and returns when it serves. Stop it.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s := &Stack{network: opts.Network, failed: make(chan error, 8), quiet: func(context.Context) error { return nil }}
	if s.network == nil {
		transport, _ := http.DefaultTransport.(*http.Transport)
		transport = transport.Clone()
		transport.MaxIdleConnsPerHost = 100
		s.network = tcp{transport}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if err := s.start(ctx, opts); err != nil {
		_ = s.Stop(ctx) // what had been started; the error says what had not
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, opts Options) error {
	googleListener, err := s.listen(ctx, "the emulated Google", opts.GoogleListen)
	if err != nil {
		return err
	}
	gatewayListener, err := s.listen(ctx, "the gateway", opts.Listen)
	if err != nil {
		_ = googleListener.Close()
		return err
	}
	s.GoogleURL, s.URL = "http://"+googleListener.Addr().String(), "http://"+gatewayListener.Addr().String()
	s.FrontURL = s.URL + "/"
	s.Google, err = google.NewServer(google.Options{Scenario: opts.Scenario, PublicURL: s.GoogleURL, Logger: opts.Log})
	if err != nil {
		_, _ = googleListener.Close(), gatewayListener.Close()
		return fmt.Errorf("the emulated Google did not start: %w", err)
	}
	handler, err := s.startFunctions(ctx, opts)
	if err == nil && opts.Around != nil {
		handler = opts.Around(handler)
	}
	if err == nil {
		handler, err = s.withConsole(handler)
	}
	if err != nil {
		_, _ = googleListener.Close(), gatewayListener.Close()
		return fmt.Errorf("the functions did not start: %w", err)
	}
	s.serve("the emulated Google", googleListener, s.Google)
	s.serve("the gateway", gatewayListener, handler)
	return nil
}

// startFunctions starts what the functions need and returns their handler.
func (s *Stack) startFunctions(ctx context.Context, opts Options) (http.Handler, error) {
	environment := config.Environment{}
	variables := map[string]string{
		"CLIENT_ID": demoClientID, "CLIENT_SECRET": demoClientSecret, "LOGIN_KEY": newKey(),
		"NEXT_PUBLIC_BACKEND_URL": s.URL, "FRONTURL": s.FrontURL,
		"GOOGLE_ENDPOINT": s.GoogleURL, "TASK_TARGET": s.URL + "/tasks/{function}",
	}
	platform, err := s.platform(variables)
	if err != nil {
		return nil, err
	}
	maps.Copy(variables, opts.Environment)
	environment.Lookup = func(v string) (string, bool) { value, ok := variables[v]; return value, ok }
	if opts.Real {
		if environment.Secret, err = s.startParts(ctx, opts, variables); err != nil {
			return nil, err
		}
	}
	cfg, err := config.Read(ctx, environment)
	if err != nil {
		return nil, err
	}
	if !opts.Real {
		return s.startEmbedded(cfg, platform, opts)
	}
	if opts.Elsewhere != nil {
		return s.startElsewhere(ctx, cfg, variables, opts.Elsewhere)
	}
	return s.startInstances(ctx, cfg, platform, opts)
}

// platform is the identity of the machine that the scenario has the platform
// run on, which the metadata server gives in a deployment; nil: none.
func (s *Stack) platform(variables map[string]string) (setup.TokenSource, error) {
	machine := s.Google.Scenario().Metadata
	if machine == nil {
		return nil, nil
	}
	key, err := s.Google.AccountKey(machine.ServiceAccount)
	if err != nil {
		return nil, fmt.Errorf("make the platform's key: %w", err)
	}
	variables["PLATFORM_SERVICE_ACCOUNT"] = machine.ServiceAccount
	return clients.NewPlatformWithKey(key, s.network.Transport())
}

// newKey returns a key as `openssl rand -base64 32` makes one.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// startEmbedded starts the functions with everything in memory.
func (s *Stack) startEmbedded(cfg *config.Config, platform setup.TokenSource, opts Options) (http.Handler, error) {
	embedded := app.NewMemory(cfg, s.network.Transport(), opts.Log)
	backends, tasks := embedded.Backends(), new(atomic.Int64)
	backends.Queue, backends.Platform, backends.Telemetry = &countingQueue{embedded.Queue, tasks}, platform, opts.Telemetry
	a, err := app.New(cfg, backends, s.network.Transport(), opts.Log)
	if err != nil {
		return nil, err
	}
	s.apps = append(s.apps, a)
	s.idle, s.quiet = embedded.Queue.Idle, embedded.Queue.Close
	s.counts = func() Counts {
		state, tokens := embedded.Store.Counts(), embedded.Vault.Counts()
		return Counts{
			Transactions: state.Transactions, Reads: state.Reads, Writes: state.Writes, Deletes: state.Deletes,
			Tasks: tasks.Load(), VaultCalls: tokens.Reads + tokens.Writes + tokens.Deletes,
			TokenWrites: tokens.Writes, TokenDeletes: tokens.Deletes,
		}
	}
	return a.Handler(""), nil
}

func (s *Stack) listen(ctx context.Context, part, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := s.network.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%s cannot listen on %s: %w", part, address, err)
	}
	return l, nil
}

// withConsole adds the frontend, where the callback ends, what its developers'
// panel needs, and for those who write one the description of what it may ask.
func (s *Stack) withConsole(gateway http.Handler) (http.Handler, error) {
	developers, err := console.Developers(s.Google)
	if err != nil {
		return nil, err
	}
	mux, page := http.NewServeMux(), console.Handler()
	mux.Handle("/", gateway)
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /console/", page)
	mux.Handle("/dev/", developers)
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml") // https://www.rfc-editor.org/rfc/rfc9512
		_, _ = io.WriteString(w, functions.OpenAPI)
	})
	return mux, nil
}

func (s *Stack) serve(part string, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	s.background(part, func() error { return server.Serve(l) })
}

// background runs a part until it is stopped, or fails.
func (s *Stack) background(part string, run func() error) {
	go func() {
		if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s stopped: %w", part, err)
		}
	}()
}

// Wait returns when a part stops by itself, with why, or when ctx ends.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Stop lets running requests and deliveries end, for some seconds at most, and
// stops all parts.
func (s *Stack) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 9*time.Second)
	defer cancel()
	var faults []error
	faults = append(faults, s.quiet(ctx), s.Parts.quiet(ctx)) // deliveries first: they use everything
	for i := len(s.servers) - 1; i >= 0; i-- {                // Google last: the functions use it to the end
		faults = append(faults, s.servers[i].Shutdown(ctx))
	}
	for _, a := range s.apps {
		faults = append(faults, a.Close(ctx))
	}
	faults = append(faults, s.Parts.stop())
	if closer, ok := s.network.Transport().(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
	return errors.Join(faults...)
}

// Idle waits until no task is pending or running. A task that is scheduled for
// later is pending.
func (s *Stack) Idle(ctx context.Context) error { return s.idle(ctx) }

// Sweep calls sweep, as a scheduler does every minute in a deployment.
func (s *Stack) Sweep(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+functions.TaskPath(setup.SweepFunction), http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set(string(functions.SchedulerMark), "true")
	response, err := s.Client().Do(r)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("sweep answered %d", response.StatusCode)
	}
	return nil
}

// Counts returns what the functions have asked of state, tokens and tasks so far.
func (s *Stack) Counts() Counts { return s.counts() }

// Client returns an HTTP client on the stack's network that follows no
// redirect.
func (s *Stack) Client() *http.Client {
	return &http.Client{
		Transport:     s.network.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
