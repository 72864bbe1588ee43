package connecttest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// Moment is a boundary between the program and what it works with: just before
// a call, or just after it has taken effect.
type Moment struct {
	Part  string // store, vault, queue, or the host of an HTTP request
	Call  string // the method
	About string // what tells calls of one method apart, e.g. a project
	After bool
}

// String names the moment in the words of a test.
func (m Moment) String() string {
	when := "before"
	if m.After {
		when = "after"
	}
	return strings.TrimSpace(strings.Join([]string{when, m.Part, m.Call, m.About}, " "))
}

// Hook comes between the program and a part, at each moment. An error before a
// call takes the call's place; one after it takes the place of the answer,
// whatever that was. A Hook is called from many goroutines at once, and may
// take its time.
type Hook func(ctx context.Context, m Moment) error

// Store returns s with the hook around each call.
func (h Hook) Store(s connect.Store) connect.Store { return &watchedStore{s, h} }

// Vault returns v with the hook around each call.
func (h Hook) Vault(v connect.Vault) connect.Vault { return watchedVault{v, h} }

// Queue returns q with the hook around each call.
func (h Hook) Queue(q connect.Queue) connect.Queue { return watchedQueue{q, h} }

// Transport returns next with the hook around each request.
func (h Hook) Transport(next http.RoundTripper) http.RoundTripper { return watchedTransport{next, h} }

// around runs one call between its two moments.
func (h Hook) around(ctx context.Context, m Moment, call func() error) error {
	if err := h(ctx, m); err != nil {
		return err
	}
	err := call()
	m.After = true
	return errors.Join(h(ctx, m), err)
}

type watchedQueue struct {
	connect.Queue
	hook Hook
}

func (q watchedQueue) Enqueue(ctx context.Context, t connect.Task) error {
	return q.hook.around(ctx, Moment{Part: "queue", Call: "Enqueue", About: t.Function}, func() error { return q.Queue.Enqueue(ctx, t) })
}

type watchedVault struct {
	connect.Vault
	hook Hook
}

func (v watchedVault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (n int, err error) {
	err = v.hook.around(ctx, Moment{Part: "vault", Call: "Put"}, func() (err error) {
		n, err = v.Vault.Put(ctx, ref, t, version)
		return err
	})
	return n, err
}

func (v watchedVault) Get(ctx context.Context, ref connect.TokenRef) (t connect.Token, version int, err error) {
	err = v.hook.around(ctx, Moment{Part: "vault", Call: "Get"}, func() (err error) {
		t, version, err = v.Vault.Get(ctx, ref)
		return err
	})
	return t, version, err
}

func (v watchedVault) Delete(ctx context.Context, ref connect.TokenRef) error {
	return v.hook.around(ctx, Moment{Part: "vault", Call: "Delete"}, func() error { return v.Vault.Delete(ctx, ref) })
}

type watchedTransport struct {
	next http.RoundTripper
	hook Hook
}

func (t watchedTransport) RoundTrip(r *http.Request) (response *http.Response, err error) {
	err = t.hook.around(r.Context(), Moment{Part: r.URL.Host, Call: r.Method, About: r.URL.Path}, func() (err error) {
		response, err = t.next.RoundTrip(r) //nolint:bodyclose // the caller's, or closed below
		return err
	})
	if err != nil && response != nil {
		_ = response.Body.Close()
		response = nil
	}
	return response, err
}

// watchedStore names each method, so that one that is new does not go
// unwatched.
type watchedStore struct {
	store connect.Store
	hook  Hook
}

func (s *watchedStore) do(ctx context.Context, call, about string, f func() error) error {
	return s.hook.around(ctx, Moment{Part: "store", Call: call, About: about}, f)
}

// got is do for a call that returns something.
func got[T any](ctx context.Context, s *watchedStore, call, about string, f func() (T, error)) (result T, err error) {
	err = s.do(ctx, call, about, func() (err error) {
		result, err = f()
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

// two are two results of a call.
type two[A, B any] struct {
	a A
	b B
}

func gotTwo[A, B any](ctx context.Context, s *watchedStore, call, about string, f func() (A, B, error)) (A, B, error) {
	r, err := got(ctx, s, call, about, func() (r two[A, B], err error) {
		r.a, r.b, err = f()
		return r, err
	})
	return r.a, r.b, err
}

func (s *watchedStore) CreateLogin(ctx context.Context, l *connect.Login) error {
	return s.do(ctx, "CreateLogin", "", func() error { return s.store.CreateLogin(ctx, l) })
}

func (s *watchedStore) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	return got(ctx, s, "ConsumeLogin", "", func() (*connect.Login, error) { return s.store.ConsumeLogin(ctx, stateHash, now) })
}

func (s *watchedStore) UpdateLogin(ctx context.Context, stateHash string, fn func(l *connect.Login) error) (*connect.Login, error) {
	return got(ctx, s, "UpdateLogin", "", func() (*connect.Login, error) { return s.store.UpdateLogin(ctx, stateHash, fn) })
}

func (s *watchedStore) UsedLogins(ctx context.Context, before time.Time, limit int) ([]connect.Login, error) {
	return got(ctx, s, "UsedLogins", "", func() ([]connect.Login, error) { return s.store.UsedLogins(ctx, before, limit) })
}

func (s *watchedStore) UserLogins(ctx context.Context, userID string, limit int) ([]connect.Login, error) {
	return got(ctx, s, "UserLogins", "", func() ([]connect.Login, error) { return s.store.UserLogins(ctx, userID, limit) })
}

func (s *watchedStore) DeleteLogin(ctx context.Context, stateHash string) error {
	return s.do(ctx, "DeleteLogin", "", func() error { return s.store.DeleteLogin(ctx, stateHash) })
}

func (s *watchedStore) Grants(ctx context.Context, subject string) ([]connect.Grant, error) {
	return got(ctx, s, "Grants", "", func() ([]connect.Grant, error) { return s.store.Grants(ctx, subject) })
}

func (s *watchedStore) StaleConnections(ctx context.Context, before time.Time, limit int) ([]connect.Connection, error) {
	return got(ctx, s, "StaleConnections", "", func() ([]connect.Connection, error) { return s.store.StaleConnections(ctx, before, limit) })
}

func (s *watchedStore) StalledSetups(ctx context.Context, before time.Time, limit int) ([]connect.Setup, error) {
	return got(ctx, s, "StalledSetups", "", func() ([]connect.Setup, error) { return s.store.StalledSetups(ctx, before, limit) })
}

func (s *watchedStore) StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]connect.Discovery, error) {
	return got(ctx, s, "StalledDiscoveries", "", func() ([]connect.Discovery, error) { return s.store.StalledDiscoveries(ctx, before, limit) })
}

func (s *watchedStore) Connection(ctx context.Context, userID string) (*connect.Connection, error) {
	return got(ctx, s, "Connection", "", func() (*connect.Connection, error) { return s.store.Connection(ctx, userID) })
}

func (s *watchedStore) UpdateConnection(ctx context.Context, userID string, fn func(*connect.Connection, *connect.Setup) (*connect.Setup, error)) (*connect.Connection, error) {
	return got(ctx, s, "UpdateConnection", "", func() (*connect.Connection, error) { return s.store.UpdateConnection(ctx, userID, fn) })
}

func (s *watchedStore) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	return got(ctx, s, "Setup", "", func() (*connect.Setup, error) { return s.store.Setup(ctx, id) })
}

func (s *watchedStore) UpdateSetup(ctx context.Context, id string, fn func(*connect.Connection, *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	return gotTwo(ctx, s, "UpdateSetup", "", func() (*connect.Connection, *connect.Setup, error) { return s.store.UpdateSetup(ctx, id, fn) })
}

func (s *watchedStore) SaveChanges(ctx context.Context, userID string, changes []connect.Change) error {
	about := ""
	if len(changes) > 0 {
		about = string(changes[0].State) + " " + string(changes[0].Kind) + " " + changes[0].Target
	}
	return s.do(ctx, "SaveChanges", about, func() error { return s.store.SaveChanges(ctx, userID, changes) })
}

func (s *watchedStore) Changes(ctx context.Context, userID string, q connect.ChangeQuery) ([]connect.Change, string, error) {
	return gotTwo(ctx, s, "Changes", q.ProjectID, func() ([]connect.Change, string, error) { return s.store.Changes(ctx, userID, q) })
}

func (s *watchedStore) CountChanges(ctx context.Context, userID string, q connect.ChangeQuery) (int, error) {
	return got(ctx, s, "CountChanges", q.ProjectID, func() (int, error) { return s.store.CountChanges(ctx, userID, q) })
}

func (s *watchedStore) ChangesByID(ctx context.Context, userID string, ids []string) ([]connect.Change, error) {
	return got(ctx, s, "ChangesByID", "", func() ([]connect.Change, error) { return s.store.ChangesByID(ctx, userID, ids) })
}

func (s *watchedStore) SaveResources(ctx context.Context, userID string, resources []connect.Resource) error {
	return s.do(ctx, "SaveResources", "", func() error { return s.store.SaveResources(ctx, userID, resources) })
}

func (s *watchedStore) Resources(ctx context.Context, userID string, q connect.ResourceQuery) ([]connect.Resource, string, error) {
	return gotTwo(ctx, s, "Resources", "", func() ([]connect.Resource, string, error) { return s.store.Resources(ctx, userID, q) })
}

func (s *watchedStore) DeleteResources(ctx context.Context, userID string, f connect.ResourceFilter) error {
	return s.do(ctx, "DeleteResources", f.ProjectID, func() error { return s.store.DeleteResources(ctx, userID, f) })
}

func (s *watchedStore) Discoveries(ctx context.Context, userID string) ([]connect.Discovery, error) {
	return got(ctx, s, "Discoveries", "", func() ([]connect.Discovery, error) { return s.store.Discoveries(ctx, userID) })
}

func (s *watchedStore) UpdateDiscovery(ctx context.Context, userID, projectID string, fn func(*connect.Connection, *connect.Discovery) error) (*connect.Connection, *connect.Discovery, error) {
	return gotTwo(ctx, s, "UpdateDiscovery", projectID, func() (*connect.Connection, *connect.Discovery, error) {
		return s.store.UpdateDiscovery(ctx, userID, projectID, fn)
	})
}

func (s *watchedStore) DeleteDiscoveries(ctx context.Context, userID string, before int64) error {
	return s.do(ctx, "DeleteDiscoveries", "", func() error { return s.store.DeleteDiscoveries(ctx, userID, before) })
}
