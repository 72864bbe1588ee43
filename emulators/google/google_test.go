package google

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	"google.golang.org/api/cloudasset/v1"
	"google.golang.org/api/cloudbilling/v1"
	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	crmv3 "google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"
	"google.golang.org/api/orgpolicy/v2"
	"google.golang.org/api/serviceusage/v1"
)

const (
	demo    = "demo@example.com"
	runner  = "gcpconnect-runner@gcpconnect-platform.iam.gserviceaccount.com"
	shop    = "shop-production"
	staging = "shop-staging"
	unpaid  = "dana-playground"
)

// A fakeClock stands still but for Advance; sleeping moves it on.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *fakeClock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.Advance(d)
	return ctx.Err()
}

// A rig is a server, its clock, and an HTTP client that reaches it. Every
// exchange is held against the discovery documents.
type rig struct {
	*Server
	inspector *inspector
	t         *testing.T
	clock     *fakeClock // nil: package time
	http      *http.Client
	base      string
}

// newRig serves the default scenario without latencies, quotas and
// propagation, changed by the given functions.
func newRig(t *testing.T, change ...func(*Scenario)) *rig {
	t.Helper()
	scenario := DefaultScenario()
	scenario.Latencies, scenario.Propagation, scenario.Quotas = Latencies{}, Propagation{}, false
	for _, f := range change {
		f(scenario)
	}
	clock := newClock()
	return serveRig(t, Options{Scenario: scenario, Clock: clock, Seed: 1}, clock)
}

// pipes are a network in memory that works in a synctest bubble. It is not
// grpc's bufconn, where a deadline that net/http sets and takes back at once
// can still end the connection afterwards.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.accept <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serveRig serves in memory, so that it works in a synctest bubble too.
func serveRig(t *testing.T, opts Options, clock *fakeClock) *rig {
	t.Helper()
	s, err := NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	inspected := inspect(t, s)
	listener := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: inspected}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(listener)
	}()
	transport := &http.Transport{DialContext: listener.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		<-ended
	})
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &rig{Server: s, inspector: inspected, t: t, clock: clock, http: client, base: "http://google.test"}
}

// quotaProject sends X-Goog-User-Project.
type quotaProject struct {
	base    http.RoundTripper
	project string
}

func (q quotaProject) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Goog-User-Project", q.project)
	return q.base.RoundTrip(r)
}

// A view is all APIs as one caller sees them.
type view struct {
	v1      *crmv1.Service
	v3      *crmv3.Service
	billing *cloudbilling.APIService
	usage   *serviceusage.Service
	iam     *iam.Service
	cred    *iamcredentials.Service
	org     *orgpolicy.Service
	asset   *cloudasset.Service
}

// as returns the official clients with a token of a user or service account.
func (r *rig) as(email string, consumer ...string) *view {
	r.t.Helper()
	token, err := r.MintToken(email)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.with(token, consumer...)
}

func (r *rig) with(token string, consumer ...string) *view {
	r.t.Helper()
	var transport http.RoundTripper = &oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), Base: r.http.Transport}
	if len(consumer) > 0 {
		transport = quotaProject{transport, consumer[0]}
	}
	client := option.WithHTTPClient(&http.Client{Transport: transport})
	ctx, urls := r.t.Context(), Endpoints(r.base)
	v := new(view)
	var errs [8]error
	v.v1, errs[0] = crmv1.NewService(ctx, client, option.WithEndpoint(urls.ResourceManager))
	v.v3, errs[1] = crmv3.NewService(ctx, client, option.WithEndpoint(urls.ResourceManager))
	v.billing, errs[2] = cloudbilling.NewService(ctx, client, option.WithEndpoint(urls.Billing))
	v.usage, errs[3] = serviceusage.NewService(ctx, client, option.WithEndpoint(urls.ServiceUsage))
	v.iam, errs[4] = iam.NewService(ctx, client, option.WithEndpoint(urls.IAM))
	v.cred, errs[5] = iamcredentials.NewService(ctx, client, option.WithEndpoint(urls.IAMCredentials))
	v.org, errs[6] = orgpolicy.NewService(ctx, client, option.WithEndpoint(urls.OrgPolicy))
	v.asset, errs[7] = cloudasset.NewService(ctx, client, option.WithEndpoint(urls.CloudAsset))
	if err := errors.Join(errs[:]...); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// refusal is what callers classify on.
type refusal struct {
	Code           int
	Status, Reason string
	Message        string
}

// refused takes an error of the official clients apart.
func refused(err error) refusal {
	var e *googleapi.Error
	if !errors.As(err, &e) {
		if err != nil {
			return refusal{Message: err.Error()}
		}
		return refusal{}
	}
	out := refusal{Code: e.Code, Message: e.Message}
	var body struct {
		Error struct {
			Status  string
			Details []struct{ Reason string }
		}
	}
	if err := json.Unmarshal([]byte(e.Body), &body); err != nil {
		return out
	}
	out.Status = body.Error.Status
	for _, d := range body.Error.Details {
		if d.Reason != "" {
			out.Reason = d.Reason
		}
	}
	return out
}

// mustRefuse compares a refusal; an empty message is not compared.
func mustRefuse(t *testing.T, err error, want refusal) {
	t.Helper()
	got := refused(err)
	if want.Message == "" {
		got.Message = ""
	} else if strings.Contains(got.Message, want.Message) {
		got.Message = want.Message
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refusal (-want +got):\n%s%v", diff, err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var denied = refusal{Code: 403, Status: "PERMISSION_DENIED"}
