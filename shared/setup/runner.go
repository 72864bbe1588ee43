package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gcpconnect/shared/connect"
)

// Runner carries setups through the chain, one task at a time.
type Runner struct{ Parts }

// Delivery is what the queue says of the delivery of a task.
type Delivery struct {
	// Last says that the queue will not deliver the task again: what goes
	// wrong now must be recorded, or it is lost.
	Last bool
}

// later is what a step returns to be run again after a while. It is no
// failure.
type later struct{ after time.Duration }

func (l later) Error() string { return fmt.Sprintf("again in %v", l.after) }

// Later asks for the same step to be run again, d from now.
func Later(d time.Duration) error { return later{d} }

// stop is what a step returns to end the setup.
type stop struct {
	state         connect.State
	code, message string
}

func (s stop) Error() string { return s.code + ": " + s.message }

// Stop ends the setup as failed, with a stable code and a message for people.
func Stop(code, message string) error { return stop{connect.StateFailed, code, message} }

// What a claim can find instead of work.
var (
	errGone   = errors.New("the setup is over or not this task's")
	errBehind = errors.New("the setup is past this task")
	errBusy   = errors.New("another execution holds the lease")
	errLost   = errors.New("the lease is no longer ours")
	// errForeign: the connection is down or of another generation.
	errForeign = errors.New("the connection is another")
)

// Handle executes a task: claim, run, commit, enqueue. Nil means that the
// queue is done with the task; an error that it must deliver it again.
func (r *Runner) Handle(ctx context.Context, t Task, d Delivery) (err error) {
	ctx, x := r.Measures.begin(connect.About(ctx, t.LogValue().Group()...), t.Step)
	defer func() { err = x.end(ctx, err) }()
	holder, log := connect.NewID(), r.Log
	c, s, err := r.claim(ctx, t, holder)
	switch {
	case errors.Is(err, errGone):
		x.outcome = "out_of_date"
		log.InfoContext(ctx, "task is out of date")
		return nil
	case errors.Is(err, errBehind):
		// Whoever committed the setup's present state may have died before it
		// enqueued the task for it. The task's name makes this harmless.
		x.outcome = "behind"
		log.InfoContext(ctx, "task is behind", "due_step", s.Step, "due_attempt", s.Attempt)
		return r.enqueue(ctx, s)
	case errors.Is(err, errBusy):
		x.outcome = "busy"
		return connect.Errorf(connect.Unavailable, "This step is being worked on.").Because(err)
	case err != nil:
		return fmt.Errorf("claim setup %s: %w", t.Setup, err)
	}

	run := newRun(&r.Parts, c, s, holder, d.Last, log)
	started := time.Now()
	result := run.conclude(ctx, stepOf(s), run.execute(ctx), d)
	if errors.As(result, new(stop)) {
		run.closeBooks(ctx)
	}
	log = log.With("duration", time.Since(started))
	next, err := r.commit(ctx, run, result)
	x.executed(run)
	switch {
	case errors.Is(err, errLost):
		x.outcome = "dropped"
		// Or the commit took effect and only its answer was lost, and nobody has
		// enqueued what follows: the task's next delivery finds out.
		log.WarnContext(ctx, "step's result was dropped: its lease or generation has passed")
		return connect.Errorf(connect.Unavailable, "This step's time has passed.").Because(errLost)
	case err != nil:
		x.outcome = "retrying"
		log.WarnContext(ctx, "step will be tried again", "error", err)
		return err
	case next == nil:
		return nil
	}
	return r.enqueue(ctx, next)
}

// Enqueue hands the setup's due task to the queue.
func (p *Parts) enqueue(ctx context.Context, s *connect.Setup) error {
	t, err := dueTask(s)
	if err != nil {
		return err
	}
	if err := p.Queue.Enqueue(ctx, t); err != nil {
		return fmt.Errorf("enqueue %s of setup %s: %w", s.Step, s.ID, err)
	}
	return nil
}

// claim takes the lease of the setup for this execution, if the task is the
// one that is due. With errBehind it returns the setup as it is.
func (r *Runner) claim(ctx context.Context, t Task, holder string) (*connect.Connection, *connect.Setup, error) {
	var seen *connect.Setup
	c, s, err := r.Store.UpdateSetup(ctx, t.Setup, func(c *connect.Connection, s *connect.Setup) error {
		now := time.Now()
		seen = s.Clone()
		switch {
		case s.State.Ended(), s.Generation != t.Generation, c.Generation != s.Generation, !serves(c, s), StepNumber(Chain(s.Kind), t.Step) == 0:
			return errGone
		case s.Step != t.Step || s.Attempt != t.Attempt:
			return errBehind
		case s.Lease.Live(now):
			return errBusy
		}
		s.State = connect.StateRunning
		s.Lease = connect.Lease{Holder: holder, ExpiresAt: now.Add(r.Settings.Lease)}
		s.Progress = max(s.Progress, stepOf(s).Progress)
		begin(s, now)
		s.Move(now)
		return nil
	})
	if connect.CodeOf(err) == connect.NotFound {
		return nil, nil, errGone
	}
	if errors.Is(err, errBehind) {
		return nil, seen, err
	}
	return c, s, err
}

// serves reports whether c is in the state that a setup is for.
func serves(c *connect.Connection, s *connect.Setup) bool {
	if s.Kind == connect.KindRemoval {
		return c.Leaving()
	}
	return c.Connected
}

// begin notes in the setup's records that its step is executed (once more).
func begin(s *connect.Setup, now time.Time) {
	if n := len(s.Steps); n == 0 || s.Steps[n-1].Name != s.Step {
		s.Steps = append(s.Steps, connect.StepRecord{Name: s.Step, StartedAt: now})
	}
	s.Steps[len(s.Steps)-1].Attempts++
	s.Interrupted = s.Interrupted || s.Executions > 0
	s.Executions++
}

// commit writes what the execution came to, if the lease is still its own. It
// returns the setup if a task is due for it, and an error if the queue must
// deliver the task again.
func (r *Runner) commit(ctx context.Context, run *Run, result error) (*connect.Setup, error) {
	step := stepOf(run.Setup)
	// The result is recorded even when the task's own time is up: the work at
	// Google is done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()

	var again later
	var ending stop
	s, err := run.write(ctx, func(c *connect.Connection, s *connect.Setup, now time.Time) {
		s.Lease = connect.Lease{}
		for _, f := range run.onCommit {
			f(c)
		}
		record := &s.Steps[len(s.Steps)-1]
		switch {
		case errors.As(result, &again):
			s.Attempt++
			s.Executions = 0
			s.DueAt = now.Add(again.after)
			record.Outcome = "waiting"
		case errors.As(result, &ending):
			end(c, s, ending, now)
		case result != nil:
			record.Outcome = "retrying"
		default:
			record.FinishedAt, record.Outcome = now, "done"
			s.Progress = max(s.Progress, step.Done)
			if chain := Chain(s.Kind); StepNumber(chain, s.Step) == len(chain) {
				end(c, s, stop{state: connect.StateSucceeded}, now)
			} else {
				s.Step, s.Attempt, s.Executions, s.DueAt = chain[StepNumber(chain, s.Step)].Name, 0, 0, time.Time{}
			}
		}
		run.recorded = record.Outcome
	})
	switch {
	case err != nil:
		return nil, err
	case result != nil && !errors.As(result, &again) && !errors.As(result, &ending):
		return nil, result
	case s.State.Ended():
		run.log.InfoContext(ctx, "setup ended", "state", s.State, "code", s.Code)
		r.Measures.ended(ctx, s)
		return nil, nil
	}
	return s, nil
}

// end ends a setup, and says of its connection what follows from that.
func end(c *connect.Connection, s *connect.Setup, ending stop, now time.Time) {
	if n := len(s.Steps); n > 0 && s.Steps[n-1].FinishedAt.IsZero() {
		s.Steps[n-1].FinishedAt, s.Steps[n-1].Outcome = now, string(ending.state)
	}
	s.End(ending.state, ending.code, ending.message, now)
	if ending.state == connect.StateNeedsReauth {
		c.NeedsReauth = true
	}
	if s.Kind == connect.KindRemoval {
		c.Discard(now) // however it ended: the sweep gives up what the step could not
		c.Email, c.Subject = "", ""
	}
}

// conclude decides what an execution's error means: one that the same call
// may overcome stays as it is; any other ends the setup.
func (r *Run) conclude(ctx context.Context, step *Step, err error, d Delivery) error {
	if err == nil || errors.As(err, new(later)) || errors.As(err, new(stop)) || errors.Is(err, errLost) {
		return err
	}
	if away := paced(err); away > 0 && time.Since(r.Setup.CreatedAt) < turnPatience {
		r.log.InfoContext(ctx, "step waits for its turn at Google", "after", away)
		return Later(away)
	}
	code := connect.CodeOf(err)
	switch {
	case code == connect.NeedsReauth:
		r.log.WarnContext(ctx, "the user must consent again", "error", err)
		return stop{connect.StateNeedsReauth, string(code), connect.MessageOf(err)}
	case !retryable(err):
		r.log.WarnContext(ctx, "step cannot go on", "error", err)
		return Stop(string(code), step.Failure+": "+connect.MessageOf(err))
	case d.Last:
		r.log.ErrorContext(ctx, "step failed on its last delivery", "error", err)
		return Stop(CodeBroken, step.Failure+": "+connect.MessageOf(err)+" Retry the setup in some minutes: it goes on from what is done.")
	}
	return err
}

// turnPatience is how old a setup may be and still wait for its turn at Google
// without an end: what keeps it from its turn for longer counts as a failure.
const turnPatience = 12 * time.Hour

// retryable reports whether the same call may work later. A defect (a panic,
// an error of no class) counts as such until the last delivery: the next one
// may be handled by a mended release.
func retryable(err error) bool {
	switch connect.CodeOf(err) {
	case connect.Unavailable, connect.Conflict, connect.Unauthenticated, connect.Internal:
		return true
	}
	return false
}

// execute runs the step under its deadline. A panic is an error like another.
func (r *Run) execute(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Settings.Deadline)
	defer cancel()
	step := stepOf(r.Setup)
	if step.writes && r.Setup.Kind == connect.KindSetup {
		if err := r.ledger.open(ctx, r.Setup.CreatedAt, r.Setup.Executions > 1 || r.Setup.Attempt > 0); err != nil {
			return err
		}
	}
	return safely(func() error { return step.run(ctx, r) })
}

var _ slog.LogValuer = Task{}

// LogValue names the task in logs.
func (t Task) LogValue() slog.Value {
	return slog.GroupValue(slog.String("setup", t.Setup), slog.Int64("generation", t.Generation), slog.String("step", t.Step), slog.Int("attempt", t.Attempt))
}
