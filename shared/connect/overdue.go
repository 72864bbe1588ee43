package connect

import (
	"context"
	"net/http"
	"time"
)

// Overdue returns context.DeadlineExceeded if the deadline of ctx has passed by
// the clock, whether or not ctx says so yet. A process that was stopped goes on
// where it was, and its timers tell of a deadline only after that: what it does
// first would count, long after another process has taken its work over. What
// changes something outside therefore asks right before.
//
// It looks at both of the machine's clocks. The one that timers go by may have
// stood while the machine was suspended; leases go by the one on the wall.
func Overdue(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if now := time.Now(); ok && (now.After(deadline) || now.Round(0).After(deadline.Round(0))) {
		return context.DeadlineExceeded
	}
	return nil
}

// Punctual sends no request whose time is up by the clock: one of a process that
// has slept. See Overdue.
type Punctual struct{ Next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p Punctual) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := Overdue(r.Context()); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return p.Next.RoundTrip(r)
}
