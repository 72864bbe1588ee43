package tasks

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
)

// Options say how a Server works. All may be left out.
type Options struct {
	// Client sends the tasks. Redirects are not followed whatever it says, and
	// its idle connections are closed with the server.
	Client *http.Client
	// Token returns an ID token of a service account for an audience. Without
	// it tasks that ask for one are refused.
	Token func(email, audience string) (string, error)
	// Logger hears of deliveries that failed; nobody does without one.
	// Bodies are not logged.
	Logger *slog.Logger
}

// Counts are what a Server has done since its start.
type Counts struct {
	Created    int64 // tasks
	Duplicates int64 // tasks refused because their name was taken
	Dispatches int64 // requests sent
	Completed  int64 // tasks answered with 2xx
	GivenUp    int64 // tasks that failed for the last time
}

// Server is a Cloud Tasks service.
type Server struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	opts   Options
	client *http.Client
	grpc   *grpc.Server
	ctx    context.Context //nolint:containedctx // deliveries outlive the calls that caused them; it ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	queues  map[string]*queue // by full name
	tasks   int               // in all queues
	running int
	counts  Counts
	still   chan struct{} // closed when tasks or running has become 0; see wait
}

// NewServer returns a server that delivers until it is closed. It holds no
// goroutine while no task is under way.
func NewServer(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	client := *cmp.Or(opts.Client, &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: mostConcurrent, IdleConnTimeout: 90 * time.Second,
	}})
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &Server{opts: opts, client: &client, grpc: grpc.NewServer(), queues: map[string]*queue{}, still: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.Register(s.grpc)
	return s, nil
}

// Register has another gRPC server serve calls too. Whoever calls it stops that
// server before Close.
func (s *Server) Register(r grpc.ServiceRegistrar) { cloudtaskspb.RegisterCloudTasksServer(r, s) }

// Serve serves calls until Close.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Counts returns what the server has done so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Idle waits until no task is pending or running in any queue. A task that is
// scheduled for later is pending.
func (s *Server) Idle(ctx context.Context) error {
	return s.wait(ctx, func() bool { return s.tasks == 0 && s.running == 0 })
}

// wait waits until something holds of s, which it asks under the lock.
func (s *Server) wait(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		done, still := holds(), s.still
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-still:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle wakes who waits; s.mu is held.
func (s *Server) settle() {
	if s.tasks == 0 || s.running == 0 {
		close(s.still)
		s.still = make(chan struct{})
	}
}

// Close takes no more tasks, starts no more deliveries and waits for those
// under way. When ctx ends first, their requests are cut off and Close returns
// ctx's error.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for _, q := range s.queues {
		q.rest()
	}
	s.mu.Unlock()
	err := s.wait(ctx, func() bool { return s.running == 0 })
	s.cancel()
	s.grpc.Stop()
	// Those cut off end at once.
	err = errors.Join(err, s.wait(context.WithoutCancel(ctx), func() bool { return s.running == 0 }))
	s.client.CloseIdleConnections()
	return err
}

// now is the time to the microsecond, as Cloud Tasks keeps it.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }
