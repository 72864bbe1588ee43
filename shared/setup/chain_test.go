package setup_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	emulated "gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/google"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/setup"
)

const owner = googletest.Owner

// chain is the chain without its edge: a test is the queue, and delivers tasks
// how and when it likes.
type chain struct {
	*setup.Runner
	t       *testing.T
	service *setup.Service
	google  *emulated.Server
	store   *store
	vault   *vault
	queue   *queue
	consent *authority
	// between, if there is one, comes between the chain and its store, Vault and queue.
	// Work that outlives its step, as a token's renewal does, calls it while a test sets it.
	between atomic.Pointer[connecttest.Hook]
	// afterCall, if there is one, runs after each call that Google has answered.
	afterCall func()
}

// queue keeps the tasks that were enqueued.
type queue struct {
	mu    sync.Mutex
	tasks []connect.Task
	fail  error // of the next Enqueue
}

func (q *queue) Enqueue(_ context.Context, t connect.Task) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fail; err != nil {
		q.fail = nil
		return err
	}
	if !slices.ContainsFunc(q.tasks, func(known connect.Task) bool { return known.Name == t.Name }) {
		q.tasks = append(q.tasks, t)
	}
	return nil
}

// store is the embedded store, with a place to come between.
type store struct {
	*memory.Store
	mu                 sync.Mutex
	beforeSaveChanges  func([]connect.Change) error
	beforeConnection   func() error
	unreadable         string // the user whose connection cannot be read
	afterUpdateSetup   func()
	afterSaveResources func()
}

func (s *store) UpdateConnection(ctx context.Context, userID string, fn func(*connect.Connection, *connect.Setup) (*connect.Setup, error)) (*connect.Connection, error) {
	if s.beforeConnection != nil {
		if err := s.beforeConnection(); err != nil {
			return nil, err
		}
	}
	return s.Store.UpdateConnection(ctx, userID, fn)
}

func (s *store) Connection(ctx context.Context, userID string) (*connect.Connection, error) {
	if userID == s.unreadable {
		return nil, connect.Errorf(connect.Internal, "this document cannot be decoded")
	}
	return s.Store.Connection(ctx, userID)
}

func (s *store) UpdateSetup(ctx context.Context, id string, fn func(*connect.Connection, *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	c, made, err := s.Store.UpdateSetup(ctx, id, fn)
	if s.afterUpdateSetup != nil {
		s.afterUpdateSetup()
	}
	return c, made, err
}

func (s *store) SaveResources(ctx context.Context, userID string, resources []connect.Resource) error {
	err := s.Store.SaveResources(ctx, userID, resources)
	if s.afterSaveResources != nil {
		s.afterSaveResources()
	}
	return err
}

func (s *store) SaveChanges(ctx context.Context, userID string, changes []connect.Change) error {
	if err := s.before(changes); err != nil {
		return err
	}
	return s.Store.SaveChanges(ctx, userID, changes)
}

func (s *store) before(changes []connect.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beforeSaveChanges == nil {
		return nil
	}
	return s.beforeSaveChanges(changes)
}

// vault knows what it holds, and can lose answers.
type vault struct {
	*memory.Vault
	mu   sync.Mutex
	held map[connect.TokenRef]bool
	lost error // what the next Delete answers, when it has been done
}

func (v *vault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	n, err := v.Vault.Put(ctx, ref, t, version)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.held[ref] = true
	}
	return n, err
}

func (v *vault) Delete(ctx context.Context, ref connect.TokenRef) error {
	err := v.Vault.Delete(ctx, ref)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		delete(v.held, ref)
		err, v.lost = v.lost, nil
	}
	return err
}

// direct serves requests without a network.
type direct struct {
	http.Handler
	of *chain
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if d.of.afterCall != nil {
		d.of.afterCall()
	}
	return w.Result(), nil
}

// authority refreshes nothing, for tests end before the first token does, and
// revokes what it is asked to, unless it is away.
type authority struct {
	mu      sync.Mutex
	away    bool
	revoked []connect.Secret // refresh tokens
}

func (a *authority) Refresh(context.Context, connect.Token) (connect.Token, error) {
	return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
}

func (a *authority) Revoke(_ context.Context, t connect.Token) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return connect.Errorf(connect.Unavailable, "Google is away")
	}
	a.revoked = append(a.revoked, t.Refresh)
	return nil
}

// run makes a chain over an emulated Google with n projects, in a bubble, with
// a setup that is about to begin.
func run(t *testing.T, n int, body func(*chain, *connect.Setup)) {
	t.Helper()
	runWith(t, n, func(*emulated.Scenario) {}, body)
}

// runWith is run with another scenario.
func runWith(t *testing.T, n int, change func(*emulated.Scenario), body func(*chain, *connect.Setup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		scenario := googletest.Scenario(n, googletest.Instant, change)
		server, err := emulated.NewServer(emulated.Options{Scenario: scenario, PublicURL: "http://google.test"})
		if err != nil {
			t.Fatal(err)
		}
		c := &chain{t: t, google: server, store: &store{Store: memory.NewStore()}, vault: &vault{Vault: memory.NewVault(), held: map[connect.TokenRef]bool{}}, queue: &queue{}, consent: &authority{}}
		cloud, err := google.New(google.Options{Endpoints: google.EndpointsUnder("http://google.test"), Transport: direct{server, c}})
		if err != nil {
			t.Fatal(err)
		}
		hook := connecttest.Hook(func(ctx context.Context, m connecttest.Moment) error {
			if between := c.between.Load(); between != nil {
				return (*between)(ctx, m)
			}
			return nil
		})
		parts := setup.Parts{
			Store: hook.Store(c.store), Queue: hook.Queue(c.queue), Google: cloud,
			Tokens: setup.NewCredentials(hook.Vault(c.vault), c.consent, nil, slog.New(slog.DiscardHandler)),
			Settings: setup.Settings{
				Timing:     setup.DefaultTiming(),
				AgentRoles: setup.DefaultAgentRoles(), AskRoles: setup.DefaultAskRoles(), OrgPolicy: true,
				AutoProjects: 5, MaxSelected: 100, CheckInterval: 30 * time.Second, MaxChecks: 3, GiveUpAfter: time.Hour,
			},
			Log: slog.New(slog.DiscardHandler),
		}
		c.Runner, c.service = &setup.Runner{Parts: parts}, &setup.Service{Parts: parts}
		made, err := c.service.Connect(t.Context(), c.login("user-1"), c.consented("1"))
		if err != nil {
			t.Fatal(err)
		}
		body(c, made)
	})
}

// consented is the owner's consent, as the Google account of a subject.
func (c *chain) consented(subject string) setup.Consent {
	c.t.Helper()
	access, err := c.google.MintToken(owner)
	if err != nil {
		c.t.Fatal(err)
	}
	return setup.Consent{
		Token: connect.Token{Access: connect.Secret(access), Refresh: connect.Secret("refresh-" + subject), Expiry: time.Now().Add(time.Hour)},
		Email: owner, Subject: subject,
	}
}

// interpose has a hook come between the chain and its parts from now on.
func (c *chain) interpose(between connecttest.Hook) { c.between.Store(&between) }

// dieAt has the process die when a moment that begins so comes for the nth time: from then on
// nothing that it does in store, Vault and queue has an effect, until a new one
// starts.
func (c *chain) dieAt(moment string, nth int) {
	var mu sync.Mutex
	dead := false
	c.interpose(func(_ context.Context, m connecttest.Moment) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(m.String(), moment) {
			nth--
		}
		if dead = dead || nth <= 0; dead {
			return connect.Errorf(connect.Unavailable, "the process is dead")
		}
		return nil
	})
}

// restart starts a new process, when the leases of one that died are over.
func (c *chain) restart() {
	c.between.Store(nil)
	time.Sleep(2 * time.Minute)
}

// fault has Google fail.
func (c *chain) fault(f emulated.Fault) {
	c.t.Helper()
	if err := c.google.AddFault(f); err != nil {
		c.t.Fatal(err)
	}
}

// cloud is Google as the owner sees it by other means than Aurora's.
func (c *chain) cloud() setup.Cloud {
	return c.Google.As(minted{c, ""})
}

// login is a login that comes back from Google at this moment.
func (c *chain) login(userID string) *connect.Login {
	c.t.Helper()
	l := connecttest.Login(c.t, userID, connect.NewID(), "browser", time.Now())
	if err := c.store.CreateLogin(c.t.Context(), l); err != nil {
		c.t.Fatal(err)
	}
	l, err := c.store.ConsumeLogin(c.t.Context(), l.StateHash, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// due is the task that was enqueued last for a step.
func (c *chain) due() setup.Task {
	c.t.Helper()
	for _, t := range slices.Backward(c.queue.tasks) {
		if t.Function != setup.DiscoverFunction {
			task, err := setup.ParseTask(t.Body)
			if err != nil {
				c.t.Fatal(err)
			}
			return task
		}
	}
	c.t.Fatal("no task is enqueued")
	return setup.Task{}
}

// deliver delivers the due task when it is due, and expects no error.
func (c *chain) deliver() {
	c.t.Helper()
	time.Sleep(time.Until(c.queue.tasks[len(c.queue.tasks)-1].At))
	if err := c.Handle(c.t.Context(), c.due(), setup.Delivery{}); err != nil {
		c.t.Fatalf("%+v: %v", c.due(), err)
	}
}

// attempt delivers the due task when it is due, whatever comes of it.
func (c *chain) attempt(ctx context.Context) error {
	c.t.Helper()
	time.Sleep(time.Until(c.queue.tasks[len(c.queue.tasks)-1].At))
	return c.Handle(ctx, c.due(), setup.Delivery{})
}

// until delivers tasks until the step is due.
func (c *chain) until(step string) {
	c.t.Helper()
	for c.due().Step != step {
		c.deliver()
	}
}

// finish delivers tasks until the setup has ended, and returns it.
func (c *chain) finish(id string) *connect.Setup {
	c.t.Helper()
	for range 80 {
		s, err := c.store.Setup(c.t.Context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		if s.State.Ended() {
			return s
		}
		if err := c.attempt(c.t.Context()); err != nil { // the queue would try again
			time.Sleep(5 * time.Second)
		}
	}
	c.t.Fatal("the setup does not end")
	return nil
}

// changes reads the whole ledger.
func (c *chain) changes() []connect.Change {
	c.t.Helper()
	page, next, err := c.store.Changes(c.t.Context(), "user-1", connect.ChangeQuery{PageSize: 1000})
	if err != nil || next != "" {
		c.t.Fatal(err, next)
	}
	return page
}
