package setup

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gcpconnect/shared/connect"
)

// Measures count and time what becomes of setups and steps. Their attributes
// have few values: no user, project or setup is among them. Nil measures
// nothing.
type Measures struct {
	setups      metric.Int64Counter
	took        metric.Float64Histogram
	attempts    metric.Int64Histogram
	propagation metric.Float64Histogram
}

// NewMeasures returns measures that go to a provider.
func NewMeasures(to metric.MeterProvider) (*Measures, error) {
	meter := to.Meter("gcpconnect/shared/setup")
	m := new(Measures)
	var faults [4]error
	m.setups, faults[0] = meter.Int64Counter("gcpconnect.setups",
		metric.WithDescription("Setups and removals that ended, by how."))
	m.took, faults[1] = meter.Float64Histogram("gcpconnect.step.duration", metric.WithUnit("s"),
		metric.WithDescription("Executions of a step by outcome, from the task's arrival to the next one's handing over."),
		metric.WithExplicitBucketBoundaries(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 80, 100))
	m.attempts, faults[2] = meter.Int64Histogram("gcpconnect.step.attempts",
		metric.WithDescription("How many executions a step took until it was over."),
		metric.WithExplicitBucketBoundaries(1, 2, 3, 5, 10, 20, 50, 100))
	m.propagation, faults[3] = meter.Float64Histogram("gcpconnect.propagation.time", metric.WithUnit("s"),
		metric.WithDescription("Time from granting access in a project to the check that found it in force."),
		metric.WithExplicitBucketBoundaries(5, 15, 30, 60, 90, 120, 180, 240, 300, 420, 600))
	return m, errors.Join(faults[:]...)
}

// ended counts a setup that has ended; nil: none has. Of a process that dies at
// this point it stays uncounted.
func (m *Measures) ended(ctx context.Context, s *connect.Setup) {
	if m == nil || s == nil {
		return
	}
	kind, code := "setup", s.Code
	if s.Kind == connect.KindRemoval {
		kind = string(s.Kind)
	} else if s.State == connect.StateSucceeded && s.Verified() < len(s.Projects) {
		code = "partial"
	}
	m.setups.Add(ctx, 1, metric.WithAttributes(
		attribute.String("kind", kind), attribute.String("outcome", string(s.State)), attribute.String("code", code)))
}

// propagated times a project whose access was found in force. Where it stood
// before, nothing had to spread.
func (m *Measures) propagated(ctx context.Context, s *connect.Setup, p *connect.Project) {
	if m == nil || p.Access != connect.OutcomeChanged {
		return
	}
	for i := range s.Steps {
		if granted := &s.Steps[i]; granted.Name == stepGrant && !granted.FinishedAt.IsZero() {
			m.propagation.Record(ctx, time.Since(granted.FinishedAt).Seconds())
		}
	}
}

// execution is one execution of a step while it is measured.
type execution struct {
	measures *Measures
	step     string
	began    time.Time
	run      *Run // nil: the step was not run
	outcome  string
}

// begin begins an execution of a step. The span that ctx is in, which is that of
// the task's delivery, is told what the work is about.
func (m *Measures) begin(ctx context.Context, step string) (context.Context, *execution) {
	trace.SpanFromContext(ctx).SetAttributes(spanAttributes(connect.Subject(ctx))...)
	return ctx, &execution{measures: m, step: step, began: time.Now(), outcome: "unclaimed"}
}

// executed notes what was run, and what the commit recorded of it.
func (x *execution) executed(r *Run) { x.run, x.outcome = r, r.recorded }

// end ends it, with the outcome that it has by then: what the setup's record of
// the step says (done, waiting, retrying, or the setup's own ending), or dropped
// where another execution's counts, or, of tasks that were not run, unclaimed,
// busy, behind or out_of_date. It returns err as one of this work.
func (x *execution) end(ctx context.Context, err error) error {
	x.measure(ctx)
	return connect.Within(ctx, err)
}

func (x *execution) measure(ctx context.Context) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("outcome", x.outcome))
	if x.measures == nil {
		return
	}
	step := attribute.String("step", x.step)
	x.measures.took.Record(ctx, time.Since(x.began).Seconds(), metric.WithAttributes(step, attribute.String("outcome", x.outcome)))
	if x.run == nil {
		return
	}
	switch x.outcome {
	case "", "waiting", "retrying", "dropped":
	default:
		x.measures.attempts.Record(ctx, int64(x.run.Setup.Steps[len(x.run.Setup.Steps)-1].Attempts), metric.WithAttributes(step))
	}
}

// spanAttributes are log attributes as those of a span.
func spanAttributes(things []slog.Attr) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, len(things))
	for _, a := range things {
		if a.Value.Kind() == slog.KindInt64 {
			attributes = append(attributes, attribute.Int64(a.Key, a.Value.Int64()))
			continue
		}
		attributes = append(attributes, attribute.String(a.Key, a.Value.String()))
	}
	return attributes
}
