package memory

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"gcpconnect/shared/connect"
)

// remembered is how long a name stays taken after its task has ended
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create).
const remembered = 24 * time.Hour

// Options say how a Queue works. All but URL may be left out: the defaults
// are those of a new queue of Cloud Tasks where no other is given.
type Options struct {
	// Name is the queue's name, as handlers see it; "default".
	Name string
	// URL is where a function is served, or "" for one that is not known.
	URL func(function string) string
	// Client sends the tasks. Its idle connections are closed with the queue.
	// Redirects are not followed whatever it says: to Cloud Tasks they are a
	// failure.
	Client *http.Client
	// The pause after the first failure of a task is MinBackoff (100 ms). It
	// doubles with each further one, up to MaxBackoff (1 h).
	MinBackoff, MaxBackoff time.Duration
	// MaxAttempts is after how many failures a task is given up: 100; below 0
	// never.
	MaxAttempts int
	// MaxConcurrent is how many tasks may be under way at once: 100.
	MaxConcurrent int
	// DispatchDeadline is how long a handler may take to answer: 10 min.
	DispatchDeadline time.Duration
	// Logger hears of failures; nobody does without one. Bodies are not logged.
	Logger *slog.Logger
}

// Queue is a connect.Queue in memory that behaves as Cloud Tasks does: it
// keeps time, takes a name once, repeats what was not answered with a 2xx
// status, and tells the handler in headers which attempt it is.
type Queue struct {
	opts   Options
	client *http.Client
	ctx    context.Context //nolint:containedctx // deliveries outlive the Enqueue that caused them; it ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	pending []*delivery // the next that is due first
	running int
	taken   map[string]bool // names that are pending, running or remembered
	ended   []ending        // oldest first: when to forget names
	timer   *time.Timer     // wakes at the time of the next task; nil before the first
	idle    chan struct{}   // closed while nothing is pending or running
}

var _ connect.Queue = (*Queue)(nil)

// ending is a name whose task is done or given up.
type ending struct {
	name   string
	forget time.Time
}

// NewQueue returns a queue that delivers until it is closed. It holds no
// goroutine while no task is under way.
func NewQueue(opts Options) *Queue {
	opts.Name = cmp.Or(opts.Name, "default")
	opts.MinBackoff = cmp.Or(opts.MinBackoff, 100*time.Millisecond)
	opts.MaxBackoff = cmp.Or(opts.MaxBackoff, time.Hour)
	opts.MaxAttempts = cmp.Or(opts.MaxAttempts, 100)
	opts.MaxConcurrent = cmp.Or(opts.MaxConcurrent, 100)
	opts.DispatchDeadline = cmp.Or(opts.DispatchDeadline, 10*time.Minute)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Client == nil {
		opts.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: opts.MaxConcurrent}}
	}
	client := *opts.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	q := &Queue{opts: opts, client: &client, taken: map[string]bool{}, idle: make(chan struct{})}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	close(q.idle)
	return q
}

// Enqueue hands a task over. It fails with Invalid for what Cloud Tasks would
// not take, and with Unavailable after Close.
func (q *Queue) Enqueue(ctx context.Context, t connect.Task) error {
	if err := alive(ctx); err != nil {
		return err
	}
	now := time.Now()
	target, err := q.check(t, now)
	if err != nil {
		return err
	}
	d := &delivery{function: t.Function, name: t.Name, url: target, body: slices.Clone(t.Body), due: t.At, header: http.Header{}}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(d.header))
	if d.due.Before(now) {
		d.due = now
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return connect.Errorf(connect.Unavailable, "The queue is closed.")
	}
	q.forget(now)
	if q.taken[t.Name] {
		return nil
	}
	q.taken[t.Name] = true
	if len(q.pending)+q.running == 0 {
		q.idle = make(chan struct{})
	}
	q.schedule(d)
	q.dispatch()
	return nil
}

// check refuses what Cloud Tasks would refuse and returns where t goes.
func (q *Queue) check(t connect.Task, now time.Time) (string, error) {
	if err := t.Validate(now); err != nil {
		return "", err
	}
	target := q.opts.URL(t.Function)
	if u, err := url.Parse(target); err != nil || u.Host == "" {
		return "", connect.Errorf(connect.Invalid, "There is no function %q to give a task to.", t.Function).Because(err)
	}
	return target, nil
}

// forget gives names free whose time is over; q.mu is held.
func (q *Queue) forget(now time.Time) {
	for len(q.ended) > 0 && !now.Before(q.ended[0].forget) {
		delete(q.taken, q.ended[0].name)
		q.ended = q.ended[1:]
	}
}

// schedule puts d behind all that is due before it or at the same time; q.mu
// is held.
func (q *Queue) schedule(d *delivery) {
	at, _ := slices.BinarySearchFunc(q.pending, d.due, func(p *delivery, due time.Time) int {
		if p.due.After(due) {
			return 1
		}
		return -1
	})
	q.pending = slices.Insert(q.pending, at, d)
}

// dispatch starts what is due, as far as MaxConcurrent allows, and has itself
// called when the next task is due; q.mu is held. It is called after every
// change to pending and running.
func (q *Queue) dispatch() {
	now := time.Now()
	for q.running < q.opts.MaxConcurrent && len(q.pending) > 0 && !q.pending[0].due.After(now) {
		d := q.pending[0]
		q.pending = q.pending[1:]
		q.running++
		go q.deliver(d)
	}
	switch {
	case len(q.pending)+q.running == 0:
		select {
		case <-q.idle:
		default:
			close(q.idle)
		}
	case len(q.pending) == 0 || q.running == q.opts.MaxConcurrent:
		// The end of a running delivery calls dispatch again.
	case q.timer == nil:
		q.timer = time.AfterFunc(q.pending[0].due.Sub(now), q.wake)
	default:
		q.timer.Reset(q.pending[0].due.Sub(now))
	}
}

func (q *Queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// Idle waits until no task is pending or running. A task that is scheduled
// for later is pending.
func (q *Queue) Idle(ctx context.Context) error {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle: // even if ctx has ended as well
		return nil
	default:
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close takes no more tasks, drops those that are pending and waits for those
// that are running. When ctx ends first, their requests are cut off and Close
// returns ctx's error.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	if dropped := len(q.pending); dropped > 0 {
		q.opts.Logger.Warn("queue closed before all tasks were delivered", "queue", q.opts.Name, "dropped", dropped)
	}
	q.pending = nil
	if q.timer != nil {
		q.timer.Stop()
	}
	q.dispatch()
	q.mu.Unlock()

	err := q.Idle(ctx)
	q.cancel()
	q.client.CloseIdleConnections()
	return err
}
