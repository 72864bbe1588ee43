package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"gcpconnect/shared/connect"
)

// checkpointEvery is how long a step may work before what it has done is
// written down. Most steps end sooner and cost two transactions: claim and
// commit.
const checkpointEvery = 15 * time.Second

// Run is one execution of a step. The step reads and changes Setup, its own
// copy, which only the runner writes to the store.
type Run struct {
	*Parts
	Setup      *connect.Setup
	Connection *connect.Connection

	user   Cloud // Google as the user sees it
	ledger *ledger
	log    *slog.Logger
	// onCommit are changes to the connection that become true with the step.
	onCommit []func(*connect.Connection)
	// recorded is the step's outcome as the commit wrote it down.
	recorded string

	holder string // of the lease
	last   bool   // the queue will not deliver the task again
	// lastLook says that Google is not looked at later: what is not there is undone.
	lastLook bool
	leaveAt  time.Time // when to begin no more work

	mu      sync.Mutex // guards what follows, and Setup, while each is at work
	savedAt time.Time
	turned  time.Duration // after which there is a turn for a call at Google; 0: every call had one
}

func newRun(p *Parts, c *connect.Connection, s *connect.Setup, holder string, last bool, log *slog.Logger) *Run {
	now := time.Now()
	return &Run{
		Parts: p, Setup: s, Connection: c,
		user: p.Google.As(p.Tokens.User(c.Tokens)),
		ledger: &ledger{
			store: p.Store, userID: s.UserID, setupID: s.ID, interrupted: s.Interrupted, last: last,
			made: s.ChangesMade, stood: s.ChangesStood,
		},
		log:    log,
		holder: holder, last: last, leaveAt: now.Add(p.Settings.Budget), savedAt: now,
	}
}

// write puts the run's copy, with what change does to it, in place of the
// stored setup, if the lease and the generation are still this execution's;
// errLost if not. The run's own copy stays as it was.
func (r *Run) write(ctx context.Context, change func(*connect.Connection, *connect.Setup, time.Time)) (*connect.Setup, error) {
	_, s, err := r.Store.UpdateSetup(ctx, r.Setup.ID, func(c *connect.Connection, s *connect.Setup) error {
		if s.State.Ended() || s.Lease.Holder != r.holder || c.Generation != s.Generation {
			return errLost
		}
		now := time.Now()
		*s = *r.copy()
		s.ChangesMade, s.ChangesStood = r.ledger.counts()
		if change(c, s, now); !s.State.Ended() {
			s.Move(now)
		}
		return nil
	})
	if connect.CodeOf(err) == connect.NotFound {
		return nil, errLost
	}
	return s, err
}

// copy is a copy of the setup as it stands, while projects are at work.
func (r *Run) copy() *connect.Setup {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Setup.Clone()
}

// checkpoint saves what is done so far, if it is time to. Others go on with
// their work meanwhile.
func (r *Run) checkpoint(ctx context.Context) error {
	r.mu.Lock()
	due := time.Since(r.savedAt) >= checkpointEvery
	if due {
		r.savedAt = time.Now()
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	return r.save(ctx)
}

// save writes down what is done so far, and renews the lease.
func (r *Run) save(ctx context.Context) error {
	_, err := r.write(ctx, func(_ *connect.Connection, s *connect.Setup, now time.Time) {
		s.Lease.ExpiresAt = now.Add(r.Settings.Lease)
	})
	return err
}

// errTimeUp tells each that the step should leave what is not begun to the
// next task.
var errTimeUp = errors.New("the step's time is up")

// each runs work for every project of the setup that wants it, at most
// `concurrency` at once, and keeps the outcome of each. It returns
//   - nil when every such project is done, be it well or with an error of its own
//   - Later when some are not ready yet or time was up, or when Google's quotas
//     were: then it begins no more work
//   - an error to be retried when Google was busy or failing for some; Later
//     if it was not for others, so that the queue's attempts count only
//     executions that came no further
//   - an error that ends the step when the user's tokens are dead or the lease
//     is lost
//
// work gets its own copy of the project, and may return Later. An error of
// work that a retry cannot mend (or of the last delivery) is recorded in the
// project; it never touches another project.
func (r *Run) each(ctx context.Context, wants func(*connect.Project) bool, work func(context.Context, *connect.Project) error) error {
	var failed, wait error // under r.mu
	done := 0              // under r.mu: projects that came through
	over := false          // under r.mu: an error has ended the whole step
	// conclude puts the outcome of the work into the setup.
	conclude := func(about context.Context, i int, p connect.Project, err error) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if away := paced(err); away > 0 {
			r.turned = min(cmp.Or(r.turned, away), away)
			err = Later(away)
		}
		again, isLater := errors.AsType[later](err)
		switch {
		case over:
			return nil // what the cancellation made of this project says nothing about it
		case connect.CodeOf(err) == connect.NeedsReauth:
			over = true
			return err
		case errors.Is(err, errTimeUp):
			wait = Later(0)
			return nil
		case isLater:
			if before, ok := errors.AsType[later](wait); !ok || before.after > again.after {
				wait = again
			}
		case err != nil && retryable(err) && (!r.last || ctx.Err() != nil):
			failed = errors.Join(failed, fmt.Errorf("%s in project %s: %w", r.Setup.Step, p.ID, err))
		case err != nil:
			p.Fail(r.Setup.Step, connect.ProjectError{Code: connect.CodeOf(err), Message: connect.MessageOf(err)})
			r.log.WarnContext(about, "project failed", "error", err)
			done++
			r.ledger.settle(p.ID)
		default:
			done++
			r.ledger.settle(p.ID)
		}
		r.Setup.Projects[i] = p
		return nil
	}
	// In a new order each time: projects that are slow or never ready cannot
	// keep the ones behind them from being reached.
	order := rand.Perm(len(r.Setup.Projects)) //nolint:gosec // an order that spreads work, and no secret
	err := concurrently(ctx, len(order), func(ctx context.Context, at int) error {
		i := order[at]
		r.mu.Lock()
		p := r.Setup.Projects[i].Clone()
		r.mu.Unlock()
		if !wants(&p) || ctx.Err() != nil || r.mustWait() {
			return nil
		}
		ctx = connect.About(ctx, slog.String("project", p.ID))
		err := errTimeUp
		if time.Now().Before(r.leaveAt) {
			err = safely(func() error { return work(ctx, &p) })
		}
		if err := conclude(ctx, i, p, err); err != nil {
			return err
		}
		err = r.checkpoint(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		if over { // which is why the checkpoint was cut off
			return nil
		}
		over = err != nil
		return err
	})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // some were not begun
		return errCutOff(errors.Join(err, failed))
	}
	if failed != nil {
		return r.laterIf(ctx, done > 0, failed)
	}
	return wait
}

// mustWait reports whether there was no turn for a call at Google: more work
// would have none either.
func (r *Run) mustWait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turned > 0
}

// errCutOff is the error of a step whose request or deadline ended before it.
func errCutOff(cause error) error {
	return connect.Errorf(connect.Unavailable, "The step was cut off.").Because(cause)
}

// paced returns after how long there is a turn for a call at Google, if err
// says that there was none; else 0.
func paced(err error) time.Duration {
	if e, ok := errors.AsType[*connect.Error](err); ok && e.Reason == ReasonPaced {
		return e.RetryAfter
	}
	return 0
}

// laterIf turns an error that a retry may mend into Later if the execution came
// further nevertheless: the queue's attempts are for those that do not.
func (r *Run) laterIf(ctx context.Context, progressed bool, err error) error {
	if !progressed {
		return err
	}
	wait := 5 * time.Second
	if e, ok := errors.AsType[*connect.Error](err); ok {
		wait = min(max(wait, e.RetryAfter), time.Minute)
	}
	r.log.WarnContext(ctx, "part of the step will be tried again", "after", wait, "error", err)
	return Later(wait)
}
