// Package retry repeats calls to Google while Google is Unavailable. Its retries are
// few and short, because a browser or an instance waits. The task queue's are long.
package retry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/googleapis/gax-go/v2"

	"gcpconnect/shared/connect"
)

const (
	// maxRetryAfter is the longest pause that Google may ask for and get.
	maxRetryAfter = 3 * time.Second
	// maxRetrying bounds all tries of a call together: none begins after it.
	maxRetrying = 8 * time.Second
)

// Policy says how calls are repeated.
type Policy struct {
	// Tries is how often a call is made at most.
	Tries int
	// Except reports whether an Unavailable error is returned at once; nil: none is.
	Except func(*connect.Error) bool
	Log    *slog.Logger
}

// Do makes a call until it succeeds, and returns the error of the last try. It repeats
// the call only after a connect.Error that is Unavailable, and only if ctx leaves time
// for the pause. A pause is random, up to a bound that doubles from 250 ms to 1 s, and
// at least the error's RetryAfter. name identifies the call in the log.
func (p Policy) Do(ctx context.Context, name string, call func(context.Context) error) error {
	r := &retryer{
		Policy: p, ctx: ctx, name: name, began: time.Now(),
		pause: gax.Backoff{Initial: 250 * time.Millisecond, Max: time.Second, Multiplier: 2},
	}
	var last error
	// Invoke's own error is not returned: it is the context's if a pause was cut short.
	_ = gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
		last = call(ctx)
		return last
	}, gax.WithRetry(func() gax.Retryer { return r }))
	return last
}

// retryer implements gax.Retryer for one call.
type retryer struct {
	Policy
	ctx   context.Context //nolint:containedctx // lives as long as the call; gax.Retryer's method takes none
	name  string
	began time.Time
	pause gax.Backoff // with full jitter
	tried int
}

// Retry implements gax.Retryer.
func (r *retryer) Retry(err error) (time.Duration, bool) {
	r.tried++
	failure, ok := errors.AsType[*connect.Error](err)
	if !ok || failure.Code != connect.Unavailable || r.Except != nil && r.Except(failure) ||
		r.tried == r.Tries || failure.RetryAfter > maxRetryAfter || r.ctx.Err() != nil {
		return 0, false
	}
	wait := max(r.pause.Pause(), failure.RetryAfter)
	if time.Since(r.began)+wait > maxRetrying {
		return 0, false
	}
	if deadline, ok := r.ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, false // there is no time left for another try
	}
	r.Log.DebugContext(r.ctx, "call to Google is repeated", "call", r.name, "try", r.tried, "wait", wait, "error", failure)
	return wait, true
}
