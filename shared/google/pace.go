package google

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// metric is what Google counts calls of an API by, and how many of them it
// allows a consumer in a minute; 0: no number is published. Of these, atOnce
// may be used at once; the rest becomes free evenly over the minute. So in no
// minute, wherever it begins, does this instance send more than Google allows.
// A call of weight w counts as w.
type metric struct {
	name              string
	perMinute, atOnce float64
	weight            int
}

// heaviest is the largest weight: a bucket holds at least one such call.
const heaviest = 5

const (
	// maxPaced is how long a call waits for its turn, so that an instance is
	// not kept by what another instance could do meanwhile: who would have to
	// wait longer is told at once when to come back. It is more than the 32
	// calls that a step makes at once need to have their turns one after
	// another, so that a large setup by itself is slowed down and not sent away.
	maxPaced = 5 * time.Second
	// maxAway is the longest that anybody is sent away for, and the longest
	// that Google's own wish to be left alone is believed.
	maxAway = 5 * time.Minute
)

// paces holds the calls of all clients of this instance to what Google allows,
// by API and consumer, and to what it asks for: after an answer with
// Retry-After the API is left alone for all calls of that consumer.
type paces struct {
	platform float64 // how much of the quotas this instance may use of the platform's project; 1 is all

	mu    sync.Mutex
	paces map[payer]*pace
	sweep int // number of paces at which idle ones are looked for
}

// payer is what Google counts calls against. The consumer is a project of a
// customer or, if empty, the platform's.
type payer struct{ api, consumer string }

type pace struct {
	until   time.Time // Google asked to be left alone until then
	buckets map[string]*bucket
}

// bucket is the quota of one metric.
type bucket struct {
	turns *rate.Limiter // gives calls their turns
	// returns spaces those who were sent away: they come back one after another
	// as turns come up, and not all at once.
	returns *rate.Limiter
}

func newPaces(platform float64) *paces {
	return &paces{platform: platform, paces: map[payer]*pace{}, sweep: 1024}
}

// await waits for the call's turn. Who cannot have it within maxPaced, or
// within the time that the context leaves, gets an error at once: Unavailable,
// with RetryAfter.
func (p *paces) await(ctx context.Context, a api, consumer string) error {
	longest := maxPaced
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, max(0, time.Until(deadline)))
	}
	wait, turn, err := p.reserve(a, consumer, longest)
	if err != nil || wait <= 0 {
		return err
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		if turn != nil {
			p.mu.Lock()
			turn.Cancel()
			p.mu.Unlock()
		}
		return connect.Errorf(connect.Unavailable, "Google was not asked in time.").Because(ctx.Err())
	}
}

// reserve gives the call a turn and returns how long it is until then.
func (p *paces) reserve(a api, consumer string, longest time.Duration) (time.Duration, *rate.Reservation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	of := p.of(payer{a.name, consumer}, at)
	from := at // when the first turn may be
	if of.until.After(at) {
		from = of.until
	}
	away := from.Sub(at)
	hushed := away > longest
	if a.perMinute == 0 {
		if hushed {
			return 0, nil, errHushed(a, away)
		}
		return away, nil, nil
	}
	b := of.bucket(a.metric, p.share(consumer))
	if !hushed {
		turn := b.turns.ReserveN(from, a.weight)
		away = turn.DelayFrom(at)
		if away <= longest {
			return away, turn, nil
		}
		turn.CancelAt(from)
	}
	back := b.returns.ReserveN(from, a.weight)
	away = max(away, back.DelayFrom(at))
	if away > maxAway {
		back.CancelAt(from)
		away = maxAway
	}
	if hushed {
		return 0, nil, errHushed(a, away)
	}
	return 0, nil, connect.Errorf(connect.Unavailable, "Google allows no more calls at the moment.").
		Because(errors.New(a.name+": this instance's quota of "+a.metric.name+" is used up")).
		For(setup.ReasonPaced, away)
}

// errHushed says that Google asked to be left alone.
func errHushed(a api, away time.Duration) error {
	return connect.Errorf(connect.Unavailable, "Google is busy.").
		Because(errors.New(a.name+": Google asked to be left alone")).
		For(setup.ReasonPaced, away)
}

// heard takes note of how a call failed: of how long Google asks to be left
// alone, and of a quota that others have used up, so that nothing is saved up
// in it.
func (p *paces) heard(a api, consumer string, tooMany bool, alone time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	of := p.of(payer{a.name, consumer}, at)
	if until := at.Add(min(alone, maxAway)); until.After(of.until) {
		of.until = until
	}
	if tooMany && a.perMinute > 0 {
		b := of.bucket(a.metric, p.share(consumer))
		if saved := int(b.turns.TokensAt(at)); saved > 0 {
			b.turns.AllowN(at, saved)
		}
	}
}

// share is how much of a consumer's quota this instance may use. A customer's
// is hardly ever used by two instances at once.
func (p *paces) share(consumer string) float64 {
	if consumer == "" {
		return p.platform
	}
	return 1
}

// of returns the pace of a payer; p.mu is held. Those that would be no other
// if they were made anew are forgotten whenever their number has doubled: what
// is kept is what was used within the last minute.
func (p *paces) of(who payer, at time.Time) *pace {
	found := p.paces[who]
	if found == nil {
		if len(p.paces) >= p.sweep {
			for w, old := range p.paces {
				if old.idle(at) {
					delete(p.paces, w)
				}
			}
			p.sweep = max(1024, 2*len(p.paces))
		}
		found = &pace{buckets: map[string]*bucket{}}
		p.paces[who] = found
	}
	return found
}

func (p *pace) idle(at time.Time) bool {
	for _, b := range p.buckets {
		if b.turns.TokensAt(at) < float64(b.turns.Burst()) || b.returns.TokensAt(at) < float64(b.returns.Burst()) {
			return false
		}
	}
	return !p.until.After(at)
}

func (p *pace) bucket(m metric, share float64) *bucket {
	b := p.buckets[m.name]
	if b == nil {
		size := max(heaviest, int(m.atOnce*share))
		each := rate.Limit((m.perMinute - m.atOnce) * share / 60)
		b = &bucket{turns: rate.NewLimiter(each, size), returns: rate.NewLimiter(each, heaviest)}
		p.buckets[m.name] = b
	}
	return b
}
