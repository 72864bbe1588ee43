package app_test

import (
	"context"
	"time"

	"gcpconnect/shared/connect"
)

// outside lets what is in a bubble call what cannot be in one: clients that wait
// for a network would hold the bubble's clock. A call is made by a goroutine that
// is not of the bubble, and the bubble's clock stands until it is back. Closures
// are called back in the bubble, by its clock.
type external struct{ free chan *externalCaller }

// externalCaller makes calls outside the bubble, one at a time. Its channels are
// not of a bubble.
type externalCaller struct {
	out      chan func(*externalCaller) any
	back     chan any
	ask      chan func()
	answered chan struct{}
}

// newExternal is made where there is no bubble. Close it there.
func newExternal() *external {
	const callers = 32
	o := &external{make(chan *externalCaller, callers)}
	for range callers {
		p := &externalCaller{make(chan func(*externalCaller) any), make(chan any), make(chan func()), make(chan struct{})}
		o.free <- p
		go func() {
			for call := range p.out {
				p.back <- call(p)
			}
		}()
	}
	return o
}

func (o *external) close() {
	for range cap(o.free) {
		close((<-o.free).out)
	}
}

// call makes a call outside.
func (o *external) call(call func(*externalCaller) any) any {
	p := <-o.free
	defer func() { o.free <- p }()
	p.out <- call
	for {
		select {
		case f := <-p.ask:
			f()
			p.answered <- struct{}{}
		case result := <-p.back:
			return result
		}
	}
}

// inside calls a closure in the bubble.
func (p *externalCaller) inside(f func() error) (err error) {
	p.ask <- func() { err = f() }
	<-p.answered
	return err
}

// answer is what a call came to.
type answer[T any] struct {
	value T
	err   error
}

// through makes a call that returns a value. The caller's context is of the
// bubble, so the call has none but its adapter's own limits.
func callExternal[T any](ctx context.Context, o *external, call func(ctx context.Context, p *externalCaller) (T, error)) (T, error) {
	if ctx.Err() != nil {
		var none T
		return none, errDown
	}
	result, _ := o.call(func(p *externalCaller) any {
		value, err := call(context.Background(), p)
		return answer[T]{value, err}
	}).(answer[T])
	return result.value, result.err
}

func runExternal(ctx context.Context, o *external, call func(ctx context.Context) error) error {
	_, err := callExternal(ctx, o, func(ctx context.Context, _ *externalCaller) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// pair is two values of one answer.
type pair[A, B any] struct {
	a A
	b B
}

// externalVault is a vault outside.
type externalVault struct {
	connect.Vault
	*external
}

func (v externalVault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	return callExternal(ctx, v.external, func(ctx context.Context, _ *externalCaller) (int, error) { return v.Vault.Put(ctx, ref, t, version) })
}

func (v externalVault) Get(ctx context.Context, ref connect.TokenRef) (connect.Token, int, error) {
	r, err := callExternal(ctx, v.external, func(ctx context.Context, _ *externalCaller) (r pair[connect.Token, int], err error) {
		r.a, r.b, err = v.Vault.Get(ctx, ref)
		return r, err
	})
	return r.a, r.b, err
}

func (v externalVault) Delete(ctx context.Context, ref connect.TokenRef) error {
	return runExternal(ctx, v.external, func(ctx context.Context) error { return v.Vault.Delete(ctx, ref) })
}

// externalStore is a store outside.
type externalStore struct {
	store connect.Store
	*external
}

func (s externalStore) CreateLogin(ctx context.Context, l *connect.Login) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.CreateLogin(ctx, l) })
}

func (s externalStore) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (*connect.Login, error) {
		return s.store.ConsumeLogin(ctx, stateHash, now)
	})
}

func (s externalStore) UpdateLogin(ctx context.Context, stateHash string, fn func(*connect.Login) error) (*connect.Login, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, p *externalCaller) (*connect.Login, error) {
		return s.store.UpdateLogin(ctx, stateHash, func(l *connect.Login) error { return p.inside(func() error { return fn(l) }) })
	})
}

func (s externalStore) UsedLogins(ctx context.Context, before time.Time, limit int) ([]connect.Login, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Login, error) {
		return s.store.UsedLogins(ctx, before, limit)
	})
}

func (s externalStore) UserLogins(ctx context.Context, user string, limit int) ([]connect.Login, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Login, error) {
		return s.store.UserLogins(ctx, user, limit)
	})
}

func (s externalStore) DeleteLogin(ctx context.Context, stateHash string) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.DeleteLogin(ctx, stateHash) })
}

func (s externalStore) Grants(ctx context.Context, subject string) ([]connect.Grant, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Grant, error) {
		return s.store.Grants(ctx, subject)
	})
}

func (s externalStore) StaleConnections(ctx context.Context, before time.Time, limit int) ([]connect.Connection, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Connection, error) {
		return s.store.StaleConnections(ctx, before, limit)
	})
}

func (s externalStore) StalledSetups(ctx context.Context, before time.Time, limit int) ([]connect.Setup, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Setup, error) {
		return s.store.StalledSetups(ctx, before, limit)
	})
}

func (s externalStore) StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]connect.Discovery, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Discovery, error) {
		return s.store.StalledDiscoveries(ctx, before, limit)
	})
}

func (s externalStore) Connection(ctx context.Context, user string) (*connect.Connection, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (*connect.Connection, error) {
		return s.store.Connection(ctx, user)
	})
}

func (s externalStore) UpdateConnection(ctx context.Context, user string, fn func(*connect.Connection, *connect.Setup) (*connect.Setup, error)) (*connect.Connection, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, p *externalCaller) (*connect.Connection, error) {
		return s.store.UpdateConnection(ctx, user, func(c *connect.Connection, current *connect.Setup) (made *connect.Setup, err error) {
			err = p.inside(func() (err error) {
				made, err = fn(c, current)
				return err
			})
			return made, err
		})
	})
}

func (s externalStore) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (*connect.Setup, error) { return s.store.Setup(ctx, id) })
}

func (s externalStore) UpdateSetup(ctx context.Context, id string, fn func(*connect.Connection, *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	r, err := callExternal(ctx, s.external, func(ctx context.Context, p *externalCaller) (r pair[*connect.Connection, *connect.Setup], err error) {
		r.a, r.b, err = s.store.UpdateSetup(ctx, id, func(c *connect.Connection, x *connect.Setup) error {
			return p.inside(func() error { return fn(c, x) })
		})
		return r, err
	})
	return r.a, r.b, err
}

func (s externalStore) SaveChanges(ctx context.Context, user string, changes []connect.Change) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.SaveChanges(ctx, user, changes) })
}

func (s externalStore) Changes(ctx context.Context, user string, q connect.ChangeQuery) ([]connect.Change, string, error) {
	r, err := callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (r pair[[]connect.Change, string], err error) {
		r.a, r.b, err = s.store.Changes(ctx, user, q)
		return r, err
	})
	return r.a, r.b, err
}

func (s externalStore) CountChanges(ctx context.Context, user string, q connect.ChangeQuery) (int, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (int, error) { return s.store.CountChanges(ctx, user, q) })
}

func (s externalStore) ChangesByID(ctx context.Context, user string, ids []string) ([]connect.Change, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Change, error) {
		return s.store.ChangesByID(ctx, user, ids)
	})
}

func (s externalStore) SaveResources(ctx context.Context, user string, resources []connect.Resource) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.SaveResources(ctx, user, resources) })
}

func (s externalStore) Resources(ctx context.Context, user string, q connect.ResourceQuery) ([]connect.Resource, string, error) {
	r, err := callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) (r pair[[]connect.Resource, string], err error) {
		r.a, r.b, err = s.store.Resources(ctx, user, q)
		return r, err
	})
	return r.a, r.b, err
}

func (s externalStore) DeleteResources(ctx context.Context, user string, f connect.ResourceFilter) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.DeleteResources(ctx, user, f) })
}

func (s externalStore) Discoveries(ctx context.Context, user string) ([]connect.Discovery, error) {
	return callExternal(ctx, s.external, func(ctx context.Context, _ *externalCaller) ([]connect.Discovery, error) {
		return s.store.Discoveries(ctx, user)
	})
}

func (s externalStore) UpdateDiscovery(ctx context.Context, user, project string, fn func(*connect.Connection, *connect.Discovery) error) (*connect.Connection, *connect.Discovery, error) {
	r, err := callExternal(ctx, s.external, func(ctx context.Context, p *externalCaller) (r pair[*connect.Connection, *connect.Discovery], err error) {
		r.a, r.b, err = s.store.UpdateDiscovery(ctx, user, project, func(c *connect.Connection, d *connect.Discovery) error {
			return p.inside(func() error { return fn(c, d) })
		})
		return r, err
	})
	return r.a, r.b, err
}

func (s externalStore) DeleteDiscoveries(ctx context.Context, user string, before int64) error {
	return runExternal(ctx, s.external, func(ctx context.Context) error { return s.store.DeleteDiscoveries(ctx, user, before) })
}
