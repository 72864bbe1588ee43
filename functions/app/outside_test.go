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
type outside struct{ free chan *porter }

// porter carries calls out, one at a time. Its channels are not of a bubble.
type porter struct {
	out      chan func(*porter) any
	back     chan any
	ask      chan func()
	answered chan struct{}
}

// newOutside is made where there is no bubble. Close it there.
func newOutside() *outside {
	const porters = 32
	o := &outside{make(chan *porter, porters)}
	for range porters {
		p := &porter{make(chan func(*porter) any), make(chan any), make(chan func()), make(chan struct{})}
		o.free <- p
		go func() {
			for call := range p.out {
				p.back <- call(p)
			}
		}()
	}
	return o
}

func (o *outside) close() {
	for range cap(o.free) {
		close((<-o.free).out)
	}
}

// call makes a call outside.
func (o *outside) call(call func(*porter) any) any {
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
func (p *porter) inside(f func() error) (err error) {
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
func through[T any](ctx context.Context, o *outside, call func(ctx context.Context, p *porter) (T, error)) (T, error) {
	if ctx.Err() != nil {
		var none T
		return none, errDown
	}
	result, _ := o.call(func(p *porter) any {
		value, err := call(context.Background(), p)
		return answer[T]{value, err}
	}).(answer[T])
	return result.value, result.err
}

func throughOnly(ctx context.Context, o *outside, call func(ctx context.Context) error) error {
	_, err := through(ctx, o, func(ctx context.Context, _ *porter) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// pair is two values of one answer.
type pair[A, B any] struct {
	a A
	b B
}

// outerVault is a vault outside.
type outerVault struct {
	connect.Vault
	*outside
}

func (v outerVault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	return through(ctx, v.outside, func(ctx context.Context, _ *porter) (int, error) { return v.Vault.Put(ctx, ref, t, version) })
}

func (v outerVault) Get(ctx context.Context, ref connect.TokenRef) (connect.Token, int, error) {
	r, err := through(ctx, v.outside, func(ctx context.Context, _ *porter) (r pair[connect.Token, int], err error) {
		r.a, r.b, err = v.Vault.Get(ctx, ref)
		return r, err
	})
	return r.a, r.b, err
}

func (v outerVault) Delete(ctx context.Context, ref connect.TokenRef) error {
	return throughOnly(ctx, v.outside, func(ctx context.Context) error { return v.Vault.Delete(ctx, ref) })
}

// outerStore is a store outside.
type outerStore struct {
	store connect.Store
	*outside
}

func (s outerStore) CreateLogin(ctx context.Context, l *connect.Login) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.CreateLogin(ctx, l) })
}

func (s outerStore) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) (*connect.Login, error) {
		return s.store.ConsumeLogin(ctx, stateHash, now)
	})
}

func (s outerStore) UpdateLogin(ctx context.Context, stateHash string, fn func(*connect.Login) error) (*connect.Login, error) {
	return through(ctx, s.outside, func(ctx context.Context, p *porter) (*connect.Login, error) {
		return s.store.UpdateLogin(ctx, stateHash, func(l *connect.Login) error { return p.inside(func() error { return fn(l) }) })
	})
}

func (s outerStore) UsedLogins(ctx context.Context, before time.Time, limit int) ([]connect.Login, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Login, error) {
		return s.store.UsedLogins(ctx, before, limit)
	})
}

func (s outerStore) UserLogins(ctx context.Context, user string, limit int) ([]connect.Login, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Login, error) {
		return s.store.UserLogins(ctx, user, limit)
	})
}

func (s outerStore) DeleteLogin(ctx context.Context, stateHash string) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.DeleteLogin(ctx, stateHash) })
}

func (s outerStore) Grants(ctx context.Context, subject string) ([]connect.Grant, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Grant, error) { return s.store.Grants(ctx, subject) })
}

func (s outerStore) StaleConnections(ctx context.Context, before time.Time, limit int) ([]connect.Connection, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Connection, error) {
		return s.store.StaleConnections(ctx, before, limit)
	})
}

func (s outerStore) StalledSetups(ctx context.Context, before time.Time, limit int) ([]connect.Setup, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Setup, error) {
		return s.store.StalledSetups(ctx, before, limit)
	})
}

func (s outerStore) StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]connect.Discovery, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Discovery, error) {
		return s.store.StalledDiscoveries(ctx, before, limit)
	})
}

func (s outerStore) Connection(ctx context.Context, user string) (*connect.Connection, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) (*connect.Connection, error) {
		return s.store.Connection(ctx, user)
	})
}

func (s outerStore) UpdateConnection(ctx context.Context, user string, fn func(*connect.Connection, *connect.Setup) (*connect.Setup, error)) (*connect.Connection, error) {
	return through(ctx, s.outside, func(ctx context.Context, p *porter) (*connect.Connection, error) {
		return s.store.UpdateConnection(ctx, user, func(c *connect.Connection, current *connect.Setup) (made *connect.Setup, err error) {
			err = p.inside(func() (err error) {
				made, err = fn(c, current)
				return err
			})
			return made, err
		})
	})
}

func (s outerStore) Setup(ctx context.Context, id string) (*connect.Setup, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) (*connect.Setup, error) { return s.store.Setup(ctx, id) })
}

func (s outerStore) UpdateSetup(ctx context.Context, id string, fn func(*connect.Connection, *connect.Setup) error) (*connect.Connection, *connect.Setup, error) {
	r, err := through(ctx, s.outside, func(ctx context.Context, p *porter) (r pair[*connect.Connection, *connect.Setup], err error) {
		r.a, r.b, err = s.store.UpdateSetup(ctx, id, func(c *connect.Connection, x *connect.Setup) error {
			return p.inside(func() error { return fn(c, x) })
		})
		return r, err
	})
	return r.a, r.b, err
}

func (s outerStore) SaveChanges(ctx context.Context, user string, changes []connect.Change) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.SaveChanges(ctx, user, changes) })
}

func (s outerStore) Changes(ctx context.Context, user string, q connect.ChangeQuery) ([]connect.Change, string, error) {
	r, err := through(ctx, s.outside, func(ctx context.Context, _ *porter) (r pair[[]connect.Change, string], err error) {
		r.a, r.b, err = s.store.Changes(ctx, user, q)
		return r, err
	})
	return r.a, r.b, err
}

func (s outerStore) CountChanges(ctx context.Context, user string, q connect.ChangeQuery) (int, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) (int, error) { return s.store.CountChanges(ctx, user, q) })
}

func (s outerStore) ChangesByID(ctx context.Context, user string, ids []string) ([]connect.Change, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Change, error) {
		return s.store.ChangesByID(ctx, user, ids)
	})
}

func (s outerStore) SaveResources(ctx context.Context, user string, resources []connect.Resource) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.SaveResources(ctx, user, resources) })
}

func (s outerStore) Resources(ctx context.Context, user string, q connect.ResourceQuery) ([]connect.Resource, string, error) {
	r, err := through(ctx, s.outside, func(ctx context.Context, _ *porter) (r pair[[]connect.Resource, string], err error) {
		r.a, r.b, err = s.store.Resources(ctx, user, q)
		return r, err
	})
	return r.a, r.b, err
}

func (s outerStore) DeleteResources(ctx context.Context, user string, f connect.ResourceFilter) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.DeleteResources(ctx, user, f) })
}

func (s outerStore) Discoveries(ctx context.Context, user string) ([]connect.Discovery, error) {
	return through(ctx, s.outside, func(ctx context.Context, _ *porter) ([]connect.Discovery, error) {
		return s.store.Discoveries(ctx, user)
	})
}

func (s outerStore) UpdateDiscovery(ctx context.Context, user, project string, fn func(*connect.Connection, *connect.Discovery) error) (*connect.Connection, *connect.Discovery, error) {
	r, err := through(ctx, s.outside, func(ctx context.Context, p *porter) (r pair[*connect.Connection, *connect.Discovery], err error) {
		r.a, r.b, err = s.store.UpdateDiscovery(ctx, user, project, func(c *connect.Connection, d *connect.Discovery) error {
			return p.inside(func() error { return fn(c, d) })
		})
		return r, err
	})
	return r.a, r.b, err
}

func (s outerStore) DeleteDiscoveries(ctx context.Context, user string, before int64) error {
	return throughOnly(ctx, s.outside, func(ctx context.Context) error { return s.store.DeleteDiscoveries(ctx, user, before) })
}
