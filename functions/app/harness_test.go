// Package app_test runs the whole program in a harness that injects faults:
// processes crash at any call, answers are lost, tasks are delivered twice,
// dependencies are down, users change their minds. Every run must end as if no
// fault had been injected.
//
// The harness is in memory and on a virtual clock (testing/synctest), so that
// hours pass in milliseconds. If a test says so, the state is in a real Firestore
// and the tokens are in a real Vault.
package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/functions"
	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/setup"
)

const (
	owner     = googletest.Owner
	userID    = "user-1"
	auroraURL = "http://127.0.0.1:8080"
	googleURL = "http://127.0.0.1:8085"
)

// scenario makes a Google with n projects of one owner. Their organization
// allows only its own members in policies, and the owner may change that.
func googleScenario(n int) *google.Scenario {
	return googletest.Scenario(n, googletest.Restricted, googletest.PolicyAdministrator, func(s *google.Scenario) {
		s.Latencies.Read, s.Latencies.IAMWrite = googletest.Milliseconds(80), googletest.Milliseconds(250)
		s.Propagation.AccountMember = googletest.Seconds(3)
		for _, p := range googletest.Customers(s) {
			p.EnabledAPIs = &[]string{"serviceusage.googleapis.com", "cloudresourcemanager.googleapis.com", "storage.googleapis.com"}
			p.Resources = []google.Resource{{AssetType: "storage.googleapis.com/Bucket", Name: "bucket", Location: "eu", Count: 3}}
		}
	})
}

// errCrashed is the error of every call of a crashed process.
var errCrashed = errors.New("the process has crashed")

// harness is the program and everything around it.
type harness struct {
	google *google.Server
	store  connect.Store
	vault  *safe
	queue  *memory.Queue
	cfg    *config.Config
	log    *slog.Logger
	user   *demo.User

	// between comes between every process and what it calls; nil: nothing.
	between connecttest.Hook
	// deliver, if there is one, carries a task to the program in place of the
	// one delivery that a queue makes.
	deliver func(task *delivery) (*http.Response, error)

	mu      sync.Mutex
	process *process
	orphans sync.WaitGroup // requests of crashed processes
	tasks   []*delivery    // every delivery of a task
	calls   map[string]int // of each moment
	wrong   []string       // what must never be
}

// process is one instance of the program.
type process struct {
	handler http.Handler
	crashed chan struct{}
	once    sync.Once
}

func (p *process) crash() { p.once.Do(func() { close(p.crashed) }) }

func (p *process) hasCrashed() bool {
	select {
	case <-p.crashed:
		return true
	default:
		return false
	}
}

// newHarness makes a harness with one process. A store and a vault of nil are
// in memory.
func newHarness(s *google.Scenario, environment map[string]string, store connect.Store, vault connect.Vault) (*harness, error) {
	variables := map[string]string{
		"CLIENT_ID": s.Clients[0].ID, "CLIENT_SECRET": s.Clients[0].Secret, "LOGIN_KEY": "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI=", "NEXT_PUBLIC_BACKEND_URL": auroraURL, "FRONTURL": "http://127.0.0.1:8090/", "GOOGLE_ENDPOINT": googleURL,
	}
	for name, value := range environment {
		variables[name] = value
	}
	cfg, err := config.Read(context.Background(), config.Environment{Lookup: func(v string) (string, bool) { value, ok := variables[v]; return value, ok }})
	if err != nil {
		return nil, err
	}
	if store == nil {
		store, vault = memory.NewStore(), memory.NewVault()
	}
	w := &harness{store: store, vault: &safe{Vault: vault, refs: map[connect.TokenRef]bool{}}, cfg: cfg, log: slog.New(slog.DiscardHandler), calls: map[string]int{}}
	if w.google, err = google.NewServer(google.Options{Scenario: s, PublicURL: googleURL}); err != nil {
		return nil, err
	}
	w.queue = memory.NewQueue(memory.Options{
		URL: cfg.TaskURL, Client: &http.Client{Transport: w}, DispatchDeadline: functions.MaxTimeout + 15*time.Second,
		MinBackoff: time.Second, MaxBackoff: 30 * time.Second, MaxAttempts: cfg.TaskMaxAttempts,
	})
	if w.process, err = w.start(); err != nil {
		return nil, err
	}
	w.user, err = demo.NewUser(userID, auroraURL, &http.Client{Transport: w})
	return w, err
}

// start starts a process.
func (w *harness) start() (*process, error) {
	p := &process{crashed: make(chan struct{})}
	hook := connecttest.Hook(func(ctx context.Context, m connecttest.Moment) error {
		if p.hasCrashed() {
			return errCrashed
		}
		if w.between != nil {
			if err := w.between(context.WithValue(ctx, processKey{}, p), m); err != nil {
				return err
			}
		}
		if p.hasCrashed() { // of that, or meanwhile: what has not been called is not called any more
			return errCrashed
		}
		return nil
	})
	a, err := app.New(w.cfg, &app.Backends{Store: hook.Store(w.store), Vault: hook.Vault(w.vault), Queue: hook.Queue(w.queue)}, hook.Transport(w), w.log)
	if err != nil {
		return nil, err
	}
	p.handler = contract.Watch(w.complain).Handler(a.Handler(""))
	return p, nil
}

// The function at work, and the process that it works in, within a context.
type (
	functionKey struct{}
	processKey  struct{}
	visitKey    struct{}
)

// visit is one request at work.
type visit struct {
	function string
	began    time.Time
	over     atomic.Bool // it has ended, or its process has crashed
}

// RoundTrip implements http.RoundTripper: it is the network of the harness.
func (w *harness) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.URL.Host == strings.TrimPrefix(googleURL, "http://") {
		return serve(w.google, r), nil
	}
	if !strings.HasPrefix(r.URL.Path, "/tasks/") || r.URL.Path == functions.TaskPath(setup.SweepFunction) {
		return w.send(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	task := &delivery{w: w, request: r, body: body, name: r.Header.Get("X-CloudTasks-TaskName"), function: strings.TrimPrefix(r.URL.Path, "/tasks/")}
	w.mu.Lock()
	w.tasks = append(w.tasks, task)
	w.mu.Unlock()
	if w.deliver != nil {
		return w.deliver(task)
	}
	return task.deliver()
}

// delivery is a task on its way to the program.
type delivery struct {
	w              *harness
	request        *http.Request
	body           []byte
	name, function string
	done           bool // under w.mu: answered with 2xx
}

// deliver delivers the task, once more if it was before.
func (d *delivery) deliver() (*http.Response, error) { return d.deliverIn(d.request.Context()) }

func (d *delivery) deliverIn(ctx context.Context) (*http.Response, error) {
	r := d.request.Clone(ctx)
	r.Body = io.NopCloser(bytes.NewReader(d.body))
	response, err := d.w.send(r)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.done = d.done || err == nil && response.StatusCode/100 == 2
	return response, err
}

// twice delivers the task twice at the same moment.
func (d *delivery) twice() (*http.Response, error) {
	twin := make(chan struct{})
	go func() {
		defer close(twin)
		_, _ = d.deliver()
	}()
	response, err := d.deliver()
	<-twin
	return response, err
}

// send hands a request to the process that serves. If the process crashes
// meanwhile the connection breaks, and another is started.
func (w *harness) send(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	p := w.process
	w.mu.Unlock()
	answer := make(chan *http.Response, 1)
	v := &visit{function: strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/tasks"), "/"), began: time.Now()}
	w.orphans.Go(func() {
		ctx := context.WithValue(context.WithValue(r.Context(), functionKey{}, v.function), visitKey{}, v)
		response := serve(p.handler, r.WithContext(ctx))
		v.over.Store(true)
		answer <- response
	})
	select {
	case response := <-answer:
		if !p.hasCrashed() {
			if !strings.HasPrefix(r.URL.Path, "/tasks/") {
				w.inspect(r, response)
			}
			return response, nil
		}
	case <-p.crashed:
		v.over.Store(true)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return nil, fmt.Errorf("connection reset: %w", w.restart(p))
}

// inspect sees that a user is told what to do when something is down.
func (w *harness) inspect(r *http.Request, response *http.Response) {
	status, wait := response.StatusCode, response.Header.Get("Retry-After")
	if status >= 500 && (status != http.StatusServiceUnavailable || wait == "") {
		w.complain("%s %s was answered %d with Retry-After %q", r.Method, r.URL.Path, status, wait)
	}
}

// restart starts a process in the place of a crashed one.
func (w *harness) restart(crashed *process) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process != crashed {
		return errCrashed
	}
	next, err := w.start()
	if err != nil {
		return err
	}
	w.process = next
	return errCrashed
}

// serve serves a request without a network.
func serve(h http.Handler, r *http.Request) *http.Response {
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.RemoteAddr, r.RequestURI = "127.0.0.1:1", r.URL.RequestURI()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return recorder.Result()
}

// moment names a moment so that it is the same in every run: by the function
// at work, what is called, and how often that was before.
func (w *harness) moment(ctx context.Context, m connecttest.Moment) string {
	name, _ := ctx.Value(functionKey{}).(string)
	if id, ok := strings.CutPrefix(name, "gcp/setup/status/"); ok && id != "" {
		name = "status"
	}
	if m.Part == strings.TrimPrefix(googleURL, "http://") {
		m.Part = "google"
	}
	m.About = strings.Join(strings.FieldsFunc(m.About, func(r rune) bool { return r == '/' }), "/")
	key := name + ": " + m.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[key]++
	return fmt.Sprintf("%s #%d", key, w.calls[key])
}

// sweep calls sweep as the scheduler does.
func (w *harness) sweep(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, auroraURL+functions.TaskPath(setup.SweepFunction), http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set(string(functions.SchedulerMark), "true")
	response, err := w.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("sweep answered %d", response.StatusCode)
	}
	return nil
}

// schedule sweeps every other minute until ctx ends, whatever comes of it.
func (w *harness) schedule(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Minute):
			_ = w.sweep(ctx) // the next one makes up for it
		}
	}
}

// call calls a function as the user. It repeats the call while there is no answer
// or a dependency is down, as a person does.
func (w *harness) call(ctx context.Context, method, path string, body any) (*demo.Answer, error) {
	for {
		answer, err := w.user.Call(ctx, method, path, body)
		if err == nil && answer.Status != http.StatusServiceUnavailable {
			return answer, nil
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// choice is what the user does on the consent page: consent, as the owner.
var choice = demo.Choice{Account: owner}

// connect connects the user, however often it takes, and returns the setup.
// Where the way back was lost, the user sees that it worked all the same.
func (w *harness) connect(ctx context.Context) (string, error) {
	for {
		login, task, err := w.user.Connect(ctx, choice)
		if err == nil && login == "gcp_setup_pending" {
			return task, nil
		}
		if c, err := w.store.Connection(ctx, userID); err == nil && c.Connected {
			return c.SetupID, nil
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return "", err
		}
	}
}

// ended asks for the setup's status until it has ended, as the frontend does,
// and sees that its progress never goes back.
func (w *harness) ended(ctx context.Context, id string) (*demo.Status, error) {
	progress := 0
	for {
		answer, err := w.call(ctx, http.MethodGet, "/gcp/setup/status/"+id+"?view=detail", nil)
		if err != nil {
			return nil, fmt.Errorf("setup %s does not end: %w", id, err)
		}
		s := new(demo.Status)
		if err := answer.Decode(s); err != nil || answer.Status != http.StatusOK {
			return nil, fmt.Errorf("status answered %d %s, %w", answer.Status, answer.Body, err)
		}
		if s.Complete {
			return s, nil
		}
		if s.Progress < progress {
			w.complain("the progress of %s went from %d to %d", id, progress, s.Progress)
		}
		progress = s.Progress
		if err := pause(ctx, 5*time.Second); err != nil {
			return nil, fmt.Errorf("setup %s does not end: %w", id, err)
		}
	}
}

// leave disconnects with everything undone, and waits for the end of that.
func (w *harness) leave(ctx context.Context) (*demo.Status, error) {
	answer, err := w.call(ctx, http.MethodPost, "/api/gcp/force-disconnect", map[string]any{"cleanup": true})
	if err != nil {
		return nil, err
	}
	var removal struct {
		TaskID string `json:"task_id"`
	}
	if err := answer.Decode(&removal); err != nil || answer.Status != http.StatusAccepted {
		return nil, fmt.Errorf("disconnect answered %d %s, %w", answer.Status, answer.Body, err)
	}
	return w.ended(ctx, removal.TaskID)
}

// complain notes what must never be.
func (w *harness) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// stop ends everything.
func (w *harness) stop(ctx context.Context) error {
	err := w.queue.Close(ctx)
	w.mu.Lock()
	w.process.crash()
	w.mu.Unlock()
	w.orphans.Wait()
	return err
}

// safe is a vault that knows what it holds and held.
type safe struct {
	connect.Vault
	mu      sync.Mutex
	refs    map[connect.TokenRef]bool
	secrets map[string]bool
}

func (v *safe) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	n, err := v.Vault.Put(ctx, ref, t, version)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.refs[ref] = true
	}
	if v.secrets == nil {
		v.secrets = map[string]bool{}
	}
	v.secrets[t.Access.Reveal()], v.secrets[t.Refresh.Reveal()] = true, true
	return n, err
}

func (v *safe) Delete(ctx context.Context, ref connect.TokenRef) error {
	err := v.Vault.Delete(ctx, ref)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		delete(v.refs, ref)
	}
	return err
}

// held is what it holds.
func (v *safe) held() []connect.TokenRef {
	v.mu.Lock()
	defer v.mu.Unlock()
	var held []connect.TokenRef
	for ref := range v.refs {
		held = append(held, ref)
	}
	return held
}

// show is a value for a person to read.
func show(t testing.TB, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
