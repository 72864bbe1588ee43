package google

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Clock is the time that a Server lives in. Sleep returns early with the
// context's error when ctx ends.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// Options say what a Server plays and how. The zero value is good.
type Options struct {
	Scenario *Scenario // nil: DefaultScenario()
	Clock    Clock     // nil: package time, which is virtual in a testing/synctest bubble
	Seed     uint64    // of faults with a probability, short pages and made-up numbers
	// PublicURL is the base under which browsers and clients reach the
	// server, without a final slash; "" takes it from each request's Host.
	PublicURL string
	// Issuer is the iss of ID tokens and of the discovery document; "" is
	// https://accounts.google.com.
	Issuer string
	Logger *slog.Logger // nil: none. It is never given tokens, codes or secrets
}

// A Server is an emulated Google: an http.Handler for OAuth, eight APIs, the
// metadata server and the admin endpoints under one listener. It starts no
// goroutines and needs no closing. Its methods may be called concurrently.
type Server struct {
	clock     Clock
	publicURL string
	issuer    string
	logger    *slog.Logger
	keys      signer

	mu     sync.Mutex // guards what follows; never held while sleeping
	random *mathrand.Rand
	seed   uint64
	loaded *Scenario // as it was given
	world  *world
	calls  []Call
	quota  map[quotaKey]int
}

// maxBody bounds request bodies; Google's own limits are of this order.
const maxBody = 4 << 20

// NewServer makes a server. It fails when the scenario is not valid.
func NewServer(opts Options) (*Server, error) {
	s := &Server{
		clock:     opts.Clock,
		publicURL: strings.TrimSuffix(opts.PublicURL, "/"),
		issuer:    opts.Issuer,
		logger:    opts.Logger,
		seed:      opts.Seed,
	}
	if s.clock == nil {
		s.clock = systemClock{}
	}
	if s.issuer == "" {
		s.issuer = "https://accounts.google.com"
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	scenario := opts.Scenario
	if scenario == nil {
		scenario = DefaultScenario()
	}
	if err := s.Load(scenario); err != nil {
		return nil, err
	}
	return s, nil
}

// Load starts the scenario afresh: all state, tokens, faults and calls of
// before are gone.
func (s *Server) Load(scenario *Scenario) error {
	if err := scenario.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = scenario.clone()
	s.start()
	return nil
}

// seedOfRuns is the second half of every run's seed.
const seedOfRuns = 0x67637063

// start begins the loaded scenario.
func (s *Server) start() {
	s.random = mathrand.New(mathrand.NewPCG(s.seed, seedOfRuns)) //nolint:gosec // a run is to be repeated from its seed; tokens and codes come from crypto/rand
	s.world = newWorld(s.loaded.clone(), s.random, s.clock.Now())
	s.calls = nil
	s.quota = map[quotaKey]int{}
}

// Reset starts the scenario afresh as it was loaded.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
}

// Scenario returns a copy of the scenario, with latencies, propagation and
// faults as they are now.
func (s *Server) Scenario() *Scenario {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.scenario.clone()
}

// A call is one API call being answered.
type call struct {
	*Server
	w        http.ResponseWriter
	r        *http.Request
	m        *method
	vars     map[string]string
	body     []byte
	now      time.Time
	token    *accessToken
	caller   *principal
	consumer *project
	project  *project // the one named in the path, if it exists
	account  *account // likewise
	wanted   fieldMask
	compact  bool // the answer, without indentation
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.servePlain(w, r) {
		return
	}
	m, vars, allowed := route(r)
	switch {
	case m == nil && allowed:
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
	case m == nil:
		notFoundPage(w, r)
	default:
		s.serve(w, r, m, vars)
	}
}

// serve answers one call: who calls, faults, latency, then the answer under
// the lock, then what the faults do to it. The call is recorded before its
// answer is written, so that the record is there when the answer is.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, m *method, vars map[string]string) {
	record := Call{Time: s.clock.Now(), Method: m.name, Write: m.write}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.record(r.Context(), record, http.StatusRequestEntityTooLarge)
		writeError(w, errorf(http.StatusRequestEntityTooLarge, "INVALID_ARGUMENT", "Request payload size exceeds the limit."), m.api.withErrors)
		return
	}
	c := &call{Server: s, w: w, r: r, m: m, vars: vars, body: body}

	s.mu.Lock()
	c.identify()
	record.Project, record.Caller = c.projectID(), c.callerName()
	fault := s.strike(m.name, record.Project, record.Caller, r.URL.Path, body)
	latency := s.world.scenario.Latencies.of(m.class)
	s.mu.Unlock()

	if fault != nil {
		latency += time.Duration(fault.Delay)
	}
	if latency > 0 {
		if err := s.clock.Sleep(r.Context(), latency); err != nil {
			s.record(r.Context(), record, statusGone)
			panic(http.ErrAbortHandler) // nothing was done, so nothing must look like an answer
		}
	}
	status, write := 0, func(http.ResponseWriter) {}
	if fault == nil || !fault.answers() || fault.AfterEffect {
		status, write = c.answer()
	}
	if fault != nil {
		record.Fault = fault.answers() || fault.Truncate
		if fault.answers() {
			status, write = fault.code(), func(w http.ResponseWriter) { fault.answer(w, r, m) }
		}
	}
	s.record(r.Context(), record, status)
	if fault != nil && fault.Truncate {
		truncate(w, write)
	}
	write(w)
}

func (s *Server) record(ctx context.Context, c Call, status int) {
	s.mu.Lock()
	c.Status, c.Duration = status, s.clock.Now().Sub(c.Time)
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	s.logger.LogAttrs(ctx, slog.LevelDebug, "google call", slog.String("method", c.Method),
		slog.String("project", c.Project), slog.String("caller", c.Caller), slog.Int("status", c.Status))
}

// statusGone records a caller that left before its answer.
const statusGone = 499

// answer has the effect of the call and returns how to write its answer.
func (c *call) answer() (status int, write func(http.ResponseWriter)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.clock.Now()
	c.identify() // again: the token may have expired while waiting
	if c.m.oauth != nil {
		code, body := c.m.oauth(c)
		return code, func(w http.ResponseWriter) {
			w.Header().Set("Pragma", "no-cache")
			writeJSON(w, code, body)
		}
	}
	body, err := c.run()
	if err != nil {
		return err.code, func(w http.ResponseWriter) { writeError(w, err, c.m.api.withErrors) }
	}
	rendered, err := render(body, c.wanted, c.compact) // within the lock: the answer may share state
	if err != nil {
		return err.code, func(w http.ResponseWriter) { writeError(w, err, c.m.api.withErrors) }
	}
	return http.StatusOK, func(w http.ResponseWriter) { writeEncoded(w, http.StatusOK, rendered) }
}

// run checks in Google's order: credentials, scope, quota project, API
// enabled, quota, parameters, permission; then the method itself.
func (c *call) run() (any, *apiError) {
	for _, check := range []func() *apiError{c.authenticate, c.admit, c.checkQuery, c.authorize} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return c.m.handle(c)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// secret returns 256 random bits for a token or code: these come from the
// system, not from the seed, so that no run's tokens are another's.
func secret() string {
	return rand.Text() + rand.Text()
}

// eightBytes is n for etags and hashes.
func eightBytes(n uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return b[:]
}
