package services_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/hashicorp/vault/api"
	"google.golang.org/protobuf/types/known/durationpb"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/emulators/tasks"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/firestore"
	"gcpconnect/shared/setup"
)

// loginKey is a key as `openssl rand -base64 32` makes one.
const loginKey = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="

// system is where instances of the program run, each a process of its own: a
// Google, a Cloud Tasks and a Firestore project of their own, a shared Vault,
// and an address that outlives them.
type system struct {
	t           testing.TB
	URL         string
	google      *google.Server
	scenario    *google.Scenario
	tasks       *tasks.Server
	store       *firestore.Store
	vault       *api.Client
	environment map[string]string
	socket      *os.File
	client      *http.Client
	wire        http.RoundTripper // what the client sends through, unwatched
	user        string
	shared      services

	mu         sync.Mutex
	calls      int                       // of Google, that are being answered
	done       map[string]map[string]int // function -> task -> how often it was answered with success
	instances  []*instance
	kills      int
	closed     bool
	supervisor sync.WaitGroup
}

// shortLeases are the timing of every system: a lease is waited for. A step takes a
// tenth of a second, and has twenty times as long on a busy machine.
var shortLeases = map[string]string{"STEP_BUDGET": "3s", "STEP_DEADLINE": "4s", "STEP_LEASE": "5s", "OPERATION_GRACE": "0s"}

// patience bounds what takes a few seconds, on a busy machine too.
const patience = time.Minute

// queueOf is the queue of every system.
const queueOf = "projects/aurora-local/locations/local/queues/setups"

// newSystem starts everything but instances.
func newSystem(t testing.TB, shared services, user string, s *google.Scenario, environment map[string]string) *system {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	y := &system{
		t: t, user: user, shared: shared, scenario: s, environment: shared.environment(),
		done: map[string]map[string]int{},
	}
	// Connections are not kept: those to an instance die with it.
	y.wire = &http.Transport{DisableKeepAlives: true}

	at := httptest.NewServer(nil)
	t.Cleanup(at.Close)
	var err error
	y.google, err = google.NewServer(google.Options{Scenario: s, PublicURL: at.URL})
	must(err)
	at.Config.Handler = &counted{next: shortLived{y.google}, system: y}

	y.tasks, err = tasks.NewServer(tasks.Options{Client: &http.Client{Transport: deliveries{y}, Timeout: 5 * time.Second}})
	must(err)
	taskListener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(err)
	go func() { _ = y.tasks.Serve(taskListener) }()
	parent, _, _ := strings.Cut(queueOf, "/queues/")
	_, err = y.tasks.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{
		Name: queueOf, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 100, MinBackoff: durationpb.New(20 * time.Millisecond), MaxBackoff: durationpb.New(2 * time.Second), MaxDoublings: 16},
	}})
	must(err)

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(err)
	y.URL = "http://" + listener.Addr().String()
	y.client = &http.Client{Transport: contract.Watch(t.Errorf).Transport(y.wire, y.URL), Timeout: 30 * time.Second}
	tcp, _ := listener.(*net.TCPListener)
	y.socket, err = tcp.File()
	must(err)
	must(listener.Close()) // the socket stays open in the file, and nothing here takes from it

	must(y.openStore())
	y.vault, err = api.NewClient(&api.Config{Address: shared.vault.Address})
	must(err)
	y.vault.SetToken(shared.vault.RootToken.Reveal())
	for variable, value := range map[string]string{
		"CLIENT_ID": s.Clients[0].ID, "CLIENT_SECRET": s.Clients[0].Secret, "LOGIN_KEY": loginKey, "NEXT_PUBLIC_BACKEND_URL": y.URL, "FRONTURL": y.URL + "/",
		"GOOGLE_ENDPOINT": at.URL, "TASK_TARGET": y.URL + "/tasks/{function}", "BACKENDS": "real", "TASK_MAX_ATTEMPTS": "100",
		"CLOUD_TASKS_QUEUE": queueOf, "CLOUD_TASKS_EMULATOR_HOST": taskListener.Addr().String(),
	} {
		y.environment[variable] = value
	}
	maps.Copy(y.environment, shortLeases)
	maps.Copy(y.environment, environment)
	t.Cleanup(y.close)
	return y
}

func (y *system) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(y.t.Context()), 5*time.Second)
	defer cancel()
	y.mu.Lock()
	y.closed = true
	instances := slices.Clone(y.instances)
	y.mu.Unlock()
	for _, i := range instances {
		_ = i.cmd.Process.Signal(syscall.SIGCONT)
		if err := i.kill(); err != nil {
			y.t.Error(err)
		}
	}
	y.supervisor.Wait()
	_ = y.tasks.Close(ctx) // what is under way is cut off
	_ = y.socket.Close()
	if err := y.store.Close(); err != nil {
		y.t.Error(err)
	}
	if y.t.Failed() {
		for n, i := range instances {
			y.t.Logf("instance %d of %s said:\n%s", n+1, y.user, tail(i.said.String(), 200))
		}
	}
}

// tail returns the last lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// start starts an instance.
func (y *system) start() *instance {
	y.t.Helper()
	i, err := startInstance(y.socket, y.environment)
	if err != nil {
		y.t.Fatal(err)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.instances = append(y.instances, i)
	return i
}

// supervise keeps an instance running, as Cloud Run does: when it dies it is
// started again.
func (y *system) supervise() {
	i := y.start()
	y.supervisor.Go(func() {
		for ; i != nil; i = y.replace(i) {
			<-i.ended
		}
	})
}

// replace starts an instance in the place of one that died, unless the system is
// closed.
func (y *system) replace(dead *instance) *instance {
	y.mu.Lock()
	defer y.mu.Unlock()
	defer close(dead.replaced)
	if y.closed {
		return nil
	}
	next, err := startInstance(y.socket, y.environment)
	if err != nil {
		y.t.Error(err)
		return nil
	}
	y.kills++
	y.instances = []*instance{next}
	return next
}

// control gives the instance a fault, with nil none new, and returns the moments
// that it has met since it was given one before.
func (y *system) control(f *fault) []string {
	y.t.Helper()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if f != nil {
		encoded, err := json.Marshal(f)
		if err != nil {
			y.t.Fatal(err)
		}
		method, body = http.MethodPost, bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(y.t.Context(), method, y.URL+controlPath, body)
	if err != nil {
		y.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: y.wire, Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		y.t.Fatal(err)
	}
	defer resp.Body.Close()
	var moments []string
	if err := json.NewDecoder(resp.Body).Decode(&moments); err != nil {
		y.t.Fatal(err)
	}
	return moments
}

// shortLived is a Google whose first access tokens are short-lived, so that
// each chain has to refresh one.
type shortLived struct{ *google.Server }

func (s shortLived) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		s.Server.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	s.Server.ServeHTTP(answer, r)
	content := answer.Body.Bytes()
	if bytes.Contains(body, []byte("authorization_code")) {
		content = regexp.MustCompile(`"expires_in": ?\d+`).ReplaceAll(content, []byte(`"expires_in":60`))
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(content)
}

// counted counts the calls that are being answered.
type counted struct {
	next   http.Handler
	system *system
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.count(1)
	defer c.count(-1)
	c.next.ServeHTTP(w, r)
}

func (c *counted) count(n int) {
	c.system.mu.Lock()
	defer c.system.mu.Unlock()
	c.system.calls += n
}

// quiet waits until Google has not been called for a while.
func (y *system) quiet() {
	const while = 300 * time.Millisecond
	for known, since := -1, time.Now(); time.Since(since) < while; time.Sleep(while / 30) {
		calls := len(y.google.Calls())
		y.mu.Lock()
		if calls != known || y.calls > 0 {
			known, since = calls, time.Now()
		}
		y.mu.Unlock()
	}
}

// deliveries are the queue's requests on their way, which counts those that were
// done.
type deliveries struct{ system *system }

func (d deliveries) RoundTrip(r *http.Request) (*http.Response, error) {
	y := d.system
	resp, err := y.client.Transport.RoundTrip(r)
	if err == nil && resp.StatusCode/100 == 2 {
		function, name := strings.TrimPrefix(r.URL.Path, "/tasks/"), r.Header.Get("X-CloudTasks-TaskName")
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.done[function] == nil {
			y.done[function] = map[string]int{}
		}
		y.done[function][name]++
	}
	return resp, err
}

// idle waits until the queue is empty.
func (y *system) idle() error {
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	if err := y.tasks.Idle(ctx); err != nil {
		return fmt.Errorf("tasks are left in the queue: %w", err)
	}
	return nil
}

// person is a user of the system who does again what did not work.
func (y *system) person(id string) *demo.User {
	y.t.Helper()
	u, err := demo.NewUser(id, y.URL, y.client)
	if err != nil {
		y.t.Fatal(err)
	}
	return u
}

// connect connects, and does so again until it works.
func (y *system) connect(u *demo.User) (logins int, err error) {
	var login string
	for logins = 1; logins <= 3; logins++ {
		if login, _, err = u.Connect(y.t.Context(), demo.Choice{}); err == nil && login == "gcp_setup_pending" {
			return logins, nil
		}
	}
	return logins, fmt.Errorf("the login ended with %q, %w", login, err)
}

// call calls a function until it answers with that status.
func (y *system) call(u *demo.User, want int, method, path string, body any) (err error) {
	for range 3 {
		var answer *demo.Answer
		if answer, err = u.Call(y.t.Context(), method, path, body); err == nil && answer.Status == want {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%s %s answered %d %s", method, path, answer.Status, answer.Body)
		}
	}
	return err
}

// sweep lets the time pass after which logins and tokens count as nobody's, and
// after which a removal looks once more, and calls sweep until that is done.
func (y *system) sweep() error {
	ctx, cancel := context.WithTimeout(y.t.Context(), patience)
	defer cancel()
	logins, err := y.store.UsedLogins(ctx, time.Now().Add(time.Hour), 100)
	if err != nil {
		return err
	}
	for _, l := range logins {
		if _, err := y.store.UpdateLogin(ctx, l.StateHash, func(l *connect.Login) error {
			l.ConsumedAt = l.ConsumedAt.Add(-2 * connect.LoginLifetime)
			return nil
		}); err != nil {
			return err
		}
	}
	if _, err := y.store.UpdateConnection(ctx, y.user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		if !c.StaleAt.IsZero() {
			c.StaleAt = c.StaleAt.Add(-time.Hour)
		}
		if c.LookAt.After(time.Now()) {
			c.LookAt = time.Now()
		}
		return nil, nil
	}); err != nil {
		return err
	}
	for ; ; time.Sleep(100 * time.Millisecond) {
		status, err := y.callSweep(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("sweep answered %d, %w", status, err)
		}
		if err != nil || status != http.StatusNoContent {
			continue
		}
		if c, err := y.store.Connection(ctx, y.user); err != nil || c.LookAt.IsZero() {
			return err
		}
	}
}

func (y *system) callSweep(ctx context.Context) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, y.URL+"/tasks/"+setup.SweepFunction, http.NoBody)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-CloudScheduler", "true")
	resp, err := y.client.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// kept is everything that is kept of the system's user, in lines, without what
// differs from run to run: times, random names, and how often something was
// tried.
type kept struct {
	lines []string
	setup []string         // of the newest setup and the ledger
	diff  []string         // at Google, since the beginning
	done  []connect.Change // what the ledger says that stands
	open  []connect.Change // what it says may stand
	// tokens are how many tokens are in the Vault that something of the user's
	// refers to. Others would be found when all users have left.
	tokens int
}

// varying is what differs from run to run, and what stands for it.
var varying = []struct {
	what *regexp.Regexp
	sign string
}{
	{madeUp, "aurora"},
	{regexp.MustCompile(`\d{8}T\d{6}\.\d{9}`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "ID"},
	{regexp.MustCompile(`\\?"(uniqueId|etag)\\?":\\?"[^"\\]*\\?"`), "$1"},
	{regexp.MustCompile(`, \d+ refresh tokens`), ""},
	{regexp.MustCompile(`serviceAccounts/\d{21}`), "serviceAccounts/N"},
}

func (y *system) state() (s kept, err error) {
	ctx := y.t.Context()
	s.diff = y.google.Changes()
	c, err := y.store.Connection(ctx, y.user)
	if err != nil {
		return s, err
	}
	x, err := y.store.Setup(ctx, c.SetupID)
	if err != nil {
		return s, err
	}
	changes, _, err := y.store.Changes(ctx, y.user, connect.ChangeQuery{PageSize: connect.MaxPageSize})
	if err != nil {
		return s, err
	}
	resources, _, err := y.store.Resources(ctx, y.user, connect.ResourceQuery{PageSize: connect.MaxPageSize})
	if err != nil {
		return s, err
	}
	discoveries, err := y.store.Discoveries(ctx, y.user)
	if err != nil {
		return s, err
	}
	for _, change := range changes {
		switch change.State {
		case connect.ChangeDone:
			s.done = append(s.done, change)
		case connect.ChangePlanned:
			s.open = append(s.open, change)
		}
	}
	logins, err := y.store.UserLogins(ctx, y.user, 100)
	if err != nil {
		return s, err
	}
	refs := []connect.TokenRef{c.Tokens}
	for _, g := range c.Stale {
		refs = append(refs, g.Tokens)
	}
	for _, l := range logins {
		refs = append(refs, l.Tokens())
	}
	for _, ref := range refs {
		if ref == "" {
			continue
		}
		stored, err := y.vault.Logical().ReadWithContext(ctx, "gcpconnect/metadata/tokens/"+string(ref))
		if err != nil {
			return s, err
		}
		if stored != nil {
			s.tokens++
		}
	}

	c.UserID, c.Generation, c.Tokens = "", 0, ""
	x.UserID, x.Generation, x.Attempt, x.Executions, x.Lease, x.Interrupted = "", 0, 0, 0, connect.Lease{}, false
	for i := range x.Steps {
		x.Steps[i].Attempts = 0
	}
	for i := range changes {
		changes[i].ID, changes[i].UserID, changes[i].UniqueID, changes[i].Unanswered = "", "", "", false
	}
	for i := range discoveries {
		d := &discoveries[i]
		d.UserID, d.Generation, d.Attempt, d.Lease = "", 0, 0, connect.Lease{}
	}
	slices.Sort(x.MadeAccounts)
	slices.SortFunc(resources, func(a, b connect.Resource) int { return strings.Compare(a.Type+a.Name, b.Type+b.Name) })
	slices.SortFunc(changes, func(a, b connect.Change) int { return strings.Compare(keyOf(a), keyOf(b)) })
	used := slices.DeleteFunc(logins, func(l connect.Login) bool { return l.ConsumedAt.IsZero() }) // others expire
	s.setup = plainLines(map[string]any{"setup": x, "ledger": changes})
	s.lines = plainLines(map[string]any{
		"google": s.diff, "connection": c, "resources": resources, "discoveries": discoveries,
		"tokens in the vault": s.tokens, "used logins": len(used),
	})
	return s, nil
}

// plainLines shows something without what varies.
func plainLines(v any) []string {
	text := stacktest.Show(v)
	for _, v := range varying {
		text = v.what.ReplaceAllString(text, v.sign)
	}
	return strings.Split(text, "\n")
}

func keyOf(c connect.Change) string {
	return strings.Join([]string{c.ProjectID, string(c.Kind), c.Target, c.Role, c.Member}, " ")
}

// fact is a change in the words of google.Diff.
func fact(c connect.Change) string {
	where := c.ProjectID
	if strings.Contains(c.Target, "@") {
		where += " account " + c.Target
	}
	switch c.Kind {
	case connect.ChangeEnableAPI:
		return where + " api " + c.Target
	case connect.ChangeOrgPolicy:
		return where + " policy " + c.Target
	case connect.ChangeCreateAccount:
		return where
	}
	return where + " binding " + c.Role + " " + c.Member
}

// wantTruth checks that the ledger says what has changed at Google, and that
// nothing is there twice.
func (y *system) wantTruth(s kept, replaced bool) error {
	var ledger, changed []string
	for _, c := range s.done {
		ledger = append(ledger, fact(c))
	}
	if replaced { // what a setup had asked for when it was replaced stays planned in its name
		for _, c := range s.open {
			ledger = append(ledger, fact(c))
		}
	}
	for _, line := range s.diff {
		if name, _, _ := strings.Cut(line[2:], " {"); !strings.HasPrefix(name, "consent ") {
			changed = append(changed, name)
		}
	}
	slices.Sort(ledger)
	slices.Sort(changed)
	var faults []error
	if ledger = slices.Compact(ledger); !slices.Equal(ledger, changed) {
		faults = append(faults, fmt.Errorf("the ledger says\n%s\nand Google has\n%s", strings.Join(ledger, "\n"), strings.Join(changed, "\n")))
	}
	for _, p := range y.google.Snapshot().Projects {
		for _, b := range p.Bindings {
			if members := slices.Sorted(slices.Values(b.Members)); len(slices.Compact(members)) != len(b.Members) {
				faults = append(faults, fmt.Errorf("a member stands twice in %s of %s", b.Role, p.ID))
			}
		}
		if len(p.ServiceAccounts) > 2 {
			faults = append(faults, fmt.Errorf("%s has %d service accounts", p.ID, len(p.ServiceAccounts)))
		}
	}
	made := 0
	for _, c := range y.google.Calls() {
		if c.Method == "iam.serviceAccounts.create" && c.Status == http.StatusOK {
			made++
		}
	}
	if made > 2 {
		faults = append(faults, fmt.Errorf("%d service accounts were made", made))
	}
	return errors.Join(faults...)
}

// renew makes everything as it was at the beginning, with another instance.
func (y *system) renew() error {
	y.mu.Lock()
	old := y.instances[0]
	y.environment["GOOGLE_CLOUD_PROJECT"] = y.shared.environment()["GOOGLE_CLOUD_PROJECT"]
	y.mu.Unlock()
	if err := y.openStore(); err != nil {
		return err
	}
	if err := old.kill(); err != nil {
		return err
	}
	<-old.replaced
	y.mu.Lock()
	defer y.mu.Unlock()
	y.kills, y.done = 0, map[string]map[string]int{}
	return y.google.Load(y.scenario)
}

// openStore opens the system's project in Firestore.
func (y *system) openStore() error {
	if y.store != nil {
		if err := y.store.Close(); err != nil {
			return err
		}
	}
	var err error
	y.store, err = firestore.New(y.t.Context(), firestore.Options{Project: y.environment["GOOGLE_CLOUD_PROJECT"], Emulator: y.shared.firestore.Address})
	return err
}
