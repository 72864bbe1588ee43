package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

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

	holder  string    // of the lease
	last    bool      // the queue will not deliver the task again
	leaveAt time.Time // when to begin no more work

	mu      sync.Mutex // guards Setup and savedAt while each is at work
	savedAt time.Time
}

func newRun(p *Parts, c *connect.Connection, s *connect.Setup, holder string, last bool, log *slog.Logger) *Run {
	now := time.Now()
	return &Run{
		Parts: p, Setup: s, Connection: c,
		user:   p.Google.As(p.Tokens.User(c.Tokens)),
		ledger: &ledger{store: p.Store, userID: s.UserID, setupID: s.ID, made: s.ChangesMade, stood: s.ChangesStood},
		log:    log,
		holder: holder, last: last, leaveAt: now.Add(Budget), savedAt: now,
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
		*s = *r.Setup.Clone()
		s.ChangesMade, s.ChangesStood = r.ledger.counts()
		s.UpdatedAt = now
		change(c, s, now)
		return nil
	})
	if connect.CodeOf(err) == connect.NotFound {
		return nil, errLost
	}
	return s, err
}

// checkpoint writes down what is done so far and renews the lease, if it is
// time to. The caller holds r.mu.
func (r *Run) checkpoint(ctx context.Context) error {
	if time.Since(r.savedAt) < checkpointEvery {
		return nil
	}
	_, err := r.write(ctx, func(_ *connect.Connection, s *connect.Setup, now time.Time) {
		s.Lease.ExpiresAt = now.Add(lease)
	})
	r.savedAt = time.Now()
	return err
}

// errTimeUp tells each that the step should leave what is not begun to the
// next task.
var errTimeUp = errors.New("the step's time is up")

// each runs work for every project of the setup that wants it, at most
// `concurrency` at once, and keeps what became of each. It returns
//   - nil when every such project is done, be it well or with an error of its own
//   - Later when some are not ready yet or time was up
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
	whole := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	var failed, wait error // under r.mu
	done := 0              // under r.mu: projects that came through
	over := false          // under r.mu: an error has ended the whole step
	// In a new order each time: projects that are slow or never ready cannot
	// keep the ones behind them from being reached.
	for _, i := range rand.Perm(len(r.Setup.Projects)) { //nolint:gosec // an order that spreads work, and no secret
		r.mu.Lock()
		p := r.Setup.Projects[i].Clone()
		r.mu.Unlock()
		if !wants(&p) {
			continue
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			ctx := connect.About(ctx, slog.String("project", p.ID))
			err := errTimeUp
			if time.Now().Before(r.leaveAt) {
				err = safely(func() error { return work(ctx, &p) })
			}
			r.mu.Lock()
			defer r.mu.Unlock()
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
			case err != nil && retryable(err) && (!r.last || whole.Err() != nil):
				failed = errors.Join(failed, fmt.Errorf("%s in project %s: %w", r.Setup.Step, p.ID, err))
			case err != nil:
				p.Fail(r.Setup.Step, connect.ProjectError{Code: connect.CodeOf(err), Message: connect.MessageOf(err)})
				r.log.WarnContext(ctx, "project failed", "error", err)
				done++
				r.ledger.settle(p.ID)
			default:
				done++
				r.ledger.settle(p.ID)
			}
			r.Setup.Projects[i] = p
			err = r.checkpoint(ctx)
			over = err != nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := whole.Err(); err != nil { // some were not begun
		return errCutOff(errors.Join(err, failed))
	}
	if failed != nil {
		return r.laterIf(ctx, done > 0, failed)
	}
	return wait
}

// errCutOff is the error of a step whose request or deadline ended before it.
func errCutOff(cause error) error {
	return connect.Errorf(connect.Unavailable, "The step was cut off.").Because(cause)
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
