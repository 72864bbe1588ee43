package google

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// accountTokens are of a service account in a project of its own.
type accountTokens struct{ project string }

func (accountTokens) Token(context.Context) (connect.Secret, error) { return "ya29.account", nil }

func (accountTokens) Renew(context.Context, connect.Secret) (connect.Secret, error) {
	return "ya29.account", nil
}

func (a accountTokens) Project() string { return a.project }

// paced is Google over send, with the times at which it was asked.
func paced(t *testing.T, quota float64, send roundTrip) (*Google, *[]time.Duration) {
	t.Helper()
	began, mu := time.Now(), sync.Mutex{}
	at := new([]time.Duration)
	g, err := New(Options{
		Endpoints: EndpointsUnder("http://google.test"), PlatformQuota: quota,
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			*at = append(*at, time.Since(began))
			mu.Unlock()
			return send(r)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, at
}

func granting(*http.Request) (*http.Response, error) { return reply(200, `{"etag":"BwY="}`) }

// away is how long an error says to stay away, and with which reason.
func away(t *testing.T, err error) (time.Duration, string) {
	t.Helper()
	e, ok := errors.AsType[*connect.Error](err)
	if !ok || e.Code != connect.Unavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
	return e.RetryAfter, e.Reason
}

func user() *tokens { return &tokens{secrets: []connect.Secret{"ya29.first"}} }

// Of 600 reads a minute 150 go at once, and then one each 450th of a minute,
// for all clients of an instance together.
func TestCallsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, at := paced(t, 1, granting)
		const turn = time.Minute / 450
		var group sync.WaitGroup
		for i := range 160 {
			group.Go(func() {
				if _, err := g.As(user()).Policy(t.Context(), fmt.Sprint("p", i)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		slices.Sort(*at)
		for i, when := range *at {
			want := max(0, time.Duration(i-149)*turn)
			if off := when - want; off < -time.Microsecond || off > time.Microsecond {
				t.Errorf("call %d was made after %v, want %v", i+1, when, want)
			}
		}
	})
}

// However many ask, for however long, and whenever they begin to: no minute
// holds more than the quota, and all of it is used.
func TestNoMinuteHoldsMoreThanTheQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, at := paced(t, 1, granting)
		var group sync.WaitGroup
		for range 40 {
			group.Go(func() {
				for range 50 {
					for {
						_, err := g.As(user()).Policy(t.Context(), "p")
						if err == nil {
							break
						}
						wait, _ := away(t, err)
						time.Sleep(wait)
					}
				}
			})
		}
		group.Wait()
		slices.Sort(*at)
		for i := range *at {
			if last := i + 600; last < len(*at) && (*at)[last]-(*at)[i] < time.Minute-time.Microsecond {
				t.Fatalf("601 calls within %v", (*at)[last]-(*at)[i])
			}
		}
		// 2000 calls: 150 at once, the others at 450 a minute. Who comes back late
		// leaves a turn unused.
		if took, least := (*at)[len(*at)-1], 1850*time.Minute/450; len(*at) != 2000 || took < least-time.Millisecond || took > least*105/100 {
			t.Errorf("%d calls took %v, want 2000 in little more than %v", len(*at), took, least)
		}
	})
}

func TestWhoseQuotaACallUses(t *testing.T) {
	t.Parallel()
	policy := func(t *testing.T, c setup.Cloud, project string) error {
		_, err := c.Policy(t.Context(), project)
		return err
	}
	search := func(t *testing.T, c setup.Cloud, _ string) error { _, err := c.Projects(t.Context()); return err }
	assets := func(t *testing.T, c setup.Cloud, project string) error {
		_, _, err := c.SearchResources(t.Context(), project, "")
		return err
	}
	tests := []struct {
		name   string
		used   func(*testing.T, setup.Cloud, string) error // until none is left
		source setup.TokenSource
		then   func(*testing.T, setup.Cloud, string) error // in another project
		as     setup.TokenSource
		waits  bool
	}{
		{"users share the platform's", policy, user(), policy, user(), true},
		{"each of the quotas of an API is one by itself", policy, user(), search, user(), false},
		{"a service account uses its own project's", policy, user(), policy, accountTokens{"root"}, false},
		{"accounts in one project share it", policy, accountTokens{"root"}, policy, accountTokens{"root"}, true},
		{"calls that name a project use that one's", assets, user(), assets, user(), false},
		{"with any credentials", assets, user(), func(t *testing.T, c setup.Cloud, _ string) error { return assets(t, c, "p") }, accountTokens{"root"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, _ := paced(t, 1, granting)
				began := time.Now()
				for time.Since(began) == 0 {
					if err := test.used(t, g.As(test.source), "p"); err != nil {
						t.Fatal(err)
					}
				}
				began = time.Now()
				if err := test.then(t, g.As(test.as), "q"); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 0 != test.waits {
					t.Errorf("the call waited %v", took)
				}
			})
		})
	}
}

// A batchEnable counts as 5 of 60 writes of which 35 may go at once.
func TestABatchWeighsFive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, at := paced(t, 1, func(*http.Request) (*http.Response, error) { return reply(200, `{"name":"operations/1"}`) })
		enable := func(apis ...string) error { _, err := g.As(user()).EnableAPIs(t.Context(), "p", apis); return err }
		for range 6 {
			if err := enable("a", "b"); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			if err := enable("a"); err != nil {
				t.Fatal(err)
			}
		}
		if took := (*at)[len(*at)-1]; took != 0 {
			t.Errorf("35 writes took %v", took)
		}
		if err := enable("a"); err != nil || (*at)[len(*at)-1] != 2400*time.Millisecond {
			t.Errorf("the next was made after %v, %v, want 2.4 s", (*at)[len(*at)-1], err)
		}
		// The next five have their turn 12 s later: that is not waited for.
		wait, reason := away(t, enable("a", "b"))
		if reason != setup.ReasonPaced || wait != 12*time.Second || len(*at) != 12 {
			t.Errorf("got %q, again after %v, want 12 s", reason, wait)
		}
	})
}

// A call is not kept waiting for a turn that comes after its caller has left,
// or later than another instance would have it.
func TestWhoCannotHaveATurnIsToldAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		left time.Duration // of the caller's time; 0: enough
		more int           // calls that wait already
		want time.Duration // waited
		err  bool
	}{
		{"a turn that is near is waited for", 0, 36, 37 * time.Minute / 450, false},
		{"one that is too far is not", 0, 37, 0, true},
		{"nor one that comes too late for the caller", time.Second, 7, 0, true},
		{"but one that does not", time.Second, 6, 7 * time.Minute / 450, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, _ := paced(t, 1, granting)
				for range 150 {
					_, _ = g.As(user()).Policy(t.Context(), "p")
				}
				for range test.more {
					go g.As(user()).Policy(t.Context(), "p")
				}
				synctest.Wait()
				ctx := t.Context()
				if test.left > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				began := time.Now()
				_, err := g.As(user()).Policy(ctx, "p")
				if took := time.Since(began); (took-test.want).Abs() > time.Microsecond || err != nil != test.err {
					t.Errorf("waited %v, want %v: %v", took, test.want, err)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// A caller that leaves while it waits gives its turn back.
func TestATurnThatIsNotTakenIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, at := paced(t, 1, granting)
		for range 150 {
			_, _ = g.As(user()).Policy(t.Context(), "p")
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { _, err := g.As(user()).Policy(ctx, "p"); failed <- err }()
		synctest.Wait()
		cancel()
		if err := <-failed; connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("got %v", err)
		}
		if _, err := g.As(user()).Policy(t.Context(), "p"); err != nil || ((*at)[150]-time.Minute/450).Abs() > time.Microsecond {
			t.Errorf("the next call was made after %v: %v", (*at)[150], err)
		}
	})
}

// Those who are sent away come back one after another.
func TestReturnsAreSpaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := paced(t, 1, func(*http.Request) (*http.Response, error) { return reply(200, `{}`) })
		var mu sync.Mutex
		var waits []time.Duration
		var group sync.WaitGroup
		for range 500 { // of 240 searches a minute 60 go at once, then one each third of a second
			group.Go(func() {
				if _, err := g.As(user()).Projects(t.Context()); err != nil {
					mu.Lock()
					defer mu.Unlock()
					wait, _ := away(t, err)
					waits = append(waits, wait)
				}
			})
		}
		group.Wait()
		slices.Sort(waits)
		if len(waits) != 500-60-15 { // fifteen wait for their turns
			t.Fatalf("%d were sent away", len(waits))
		}
		for i, wait := range waits {
			want := max(16*time.Second/3, time.Duration(i-4)*time.Second/3)
			if (wait - want).Abs() > time.Microsecond {
				t.Errorf("number %d is to come back after %v, want %v", i+1, wait, want)
			}
		}
	})
}

// What Google asks for in one answer holds for all calls of that API and
// consumer.
func TestGoogleIsLeftAloneByAll(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		alone string // Retry-After
		call  func(context.Context, *Google) error
		waits time.Duration
		away  time.Duration
	}{
		{"by another user", "2", func(ctx context.Context, g *Google) error { _, err := g.As(user()).Policy(ctx, "q"); return err }, 2 * time.Second, 0},
		{"by writes", "2", func(ctx context.Context, g *Google) error {
			return g.As(user()).SetPolicy(ctx, "q", &setup.Policy{Etag: "BwY="})
		}, 2 * time.Second, 0},
		{"but not in another API", "2", func(ctx context.Context, g *Google) error { _, err := g.As(user()).Account(ctx, "q", "a"); return err }, 0, 0},
		{"nor for another consumer", "2", func(ctx context.Context, g *Google) error {
			_, err := g.As(accountTokens{"root"}).Policy(ctx, "q")
			return err
		}, 0, 0},
		{"for long, with no instance kept waiting", "40", func(ctx context.Context, g *Google) error { _, err := g.As(user()).Policy(ctx, "q"); return err }, 0, 40 * time.Second},
		{"and for no longer than minutes", "86400", func(ctx context.Context, g *Google) error { _, err := g.As(user()).Policy(ctx, "q"); return err }, 0, 5 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				g, at := paced(t, 1, func(r *http.Request) (*http.Response, error) {
					if asked++; asked == 1 {
						return reply(503, busy, "Retry-After", test.alone)
					}
					return reply(200, `{"etag":"BwY=","email":"a@p.iam.gserviceaccount.com","uniqueId":"1"}`)
				})
				first := make(chan error, 1)
				go func() { _, err := g.As(user()).Policy(t.Context(), "p"); first <- err }()
				synctest.Wait()
				began := time.Now()
				err := test.call(t.Context(), g)
				if took := time.Since(began); took != test.waits {
					t.Errorf("waited %v, want %v", took, test.waits)
				}
				if test.away == 0 && err != nil {
					t.Error(err)
				}
				if test.away > 0 {
					wait, reason := away(t, err)
					if wait != test.away || reason != setup.ReasonPaced || len(*at) != 1 {
						t.Errorf("after %d calls got %q, again after %v, want %v", len(*at), reason, wait, test.away)
					}
					time.Sleep(test.away)
					if err := test.call(t.Context(), g); err != nil {
						t.Errorf("after that time: %v", err)
					}
				}
				<-first
			})
		})
	}
}

// What Google calls too many uses up what is saved up here: other instances
// have spent it.
func TestAUsedUpQuotaIsBelieved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		g, at := paced(t, 1, func(*http.Request) (*http.Response, error) {
			if asked++; asked == 1 {
				return reply(429, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`)
			}
			return reply(200, `{"etag":"BwY="}`)
		})
		for range 20 {
			if _, err := g.As(user()).Policy(t.Context(), "p"); err != nil {
				t.Fatal(err)
			}
		}
		if took := (*at)[20] - (*at)[1]; took < 18*time.Minute/450 {
			t.Errorf("19 calls after it took %v", took)
		}
	})
}

// An instance that is one of several uses its part of the platform's quota,
// and all of a customer's.
func TestThePlatformsQuotaIsShared(t *testing.T) {
	t.Parallel()
	for source, want := range map[setup.TokenSource]time.Duration{user(): time.Minute / 225, accountTokens{"root"}: 0} {
		synctest.Test(t, func(t *testing.T) {
			g, at := paced(t, 0.5, granting)
			for range 76 {
				if _, err := g.As(source).Policy(t.Context(), "p"); err != nil {
					t.Fatal(err)
				}
			}
			if ((*at)[75] - want).Abs() > time.Microsecond {
				t.Errorf("call 76 was made after %v, want %v", (*at)[75], want)
			}
		})
	}
}

// A pace for each customer's project is kept while it matters.
func TestIdlePacesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := paced(t, 1, func(*http.Request) (*http.Response, error) { return reply(200, `{}`) })
		most := 0
		for i := range 20_000 { // an hour and a half of customers
			if _, err := g.As(user()).DisabledAPIs(t.Context(), fmt.Sprint("p", i), []string{"run.googleapis.com"}); err != nil {
				t.Fatal(err)
			}
			most = max(most, len(g.paces.paces))
			time.Sleep(250 * time.Millisecond)
		}
		if most > 1024 {
			t.Errorf("%d are kept", most)
		}
	})
}

// A quota that is used up is not forgotten with the idle ones.
func TestUsedPacesAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := paced(t, 1, func(*http.Request) (*http.Response, error) { return reply(200, `{}`) })
		read := func(project string) {
			if _, err := g.As(user()).DisabledAPIs(t.Context(), project, []string{"run.googleapis.com"}); err != nil {
				t.Fatal(err)
			}
		}
		for range 60 {
			read("busy")
		}
		for i := range 2000 {
			read(fmt.Sprint("p", i))
		}
		began := time.Now()
		read("busy")
		if took := time.Since(began); (took - time.Second/3).Abs() > time.Microsecond {
			t.Errorf("the next call waited %v, want a third of a second", took)
		}
	})
}

// BenchmarkTurn is what pacing costs a call that has its turn at once.
func BenchmarkTurn(b *testing.B) {
	p := newPaces(1e9)
	for b.Loop() {
		if err := p.await(b.Context(), resourceManager, ""); err != nil {
			b.Fatal(err)
		}
	}
}
