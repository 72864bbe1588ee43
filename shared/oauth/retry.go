package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/googleapis/gax-go/v2"

	"gcpconnect/shared/connect"
)

// Retries of one request are few and short: a browser or an instance waits.
const (
	maxTries      = 3
	maxRetryAfter = 3 * time.Second // the longest wait that Google may ask for and get
	maxRetrying   = 8 * time.Second // no try begins after it
)

// watched does one request, under the eyes of c's watch.
func (c *Client) watched(method string, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, call := c.watch.Begin(ctx, method, "")
		err := do(ctx)
		call.End(ctx, connect.CodeOf(err))
		return err
	}
}

// retry does what is named, again while it is Unavailable.
func (c *Client) retry(ctx context.Context, doing string, do func(context.Context) error) error {
	p := &patience{ctx: ctx, log: c.log, doing: doing, began: time.Now(), pause: gax.Backoff{Initial: 250 * time.Millisecond, Max: time.Second, Multiplier: 2}}
	var last error
	if err := gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
		last = do(ctx)
		return last
	}, gax.WithRetry(func() gax.Retryer { return p })); err == nil {
		return nil
	}
	// Not Invoke's own error: that is the context's when a wait was cut short.
	return fmt.Errorf("%s: %w", doing, last)
}

// patience implements gax.Retryer for one request.
type patience struct {
	ctx   context.Context //nolint:containedctx // lives as long as the request; gax.Retryer's method takes none
	log   *slog.Logger
	doing string
	began time.Time
	pause gax.Backoff // with full jitter, doubling
	tried int
}

// Retry implements gax.Retryer.
func (p *patience) Retry(err error) (time.Duration, bool) {
	p.tried++
	failure, ok := errors.AsType[*connect.Error](err)
	if !ok || failure.Code != connect.Unavailable || p.tried == maxTries || failure.RetryAfter > maxRetryAfter || p.ctx.Err() != nil {
		return 0, false
	}
	wait := max(p.pause.Pause(), failure.RetryAfter)
	if time.Since(p.began)+wait > maxRetrying {
		return 0, false
	}
	if deadline, ok := p.ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return 0, false // there is no time left for another try
	}
	p.log.DebugContext(p.ctx, "request to Google's login is repeated", "request", p.doing, "try", p.tried, "wait", wait, "error", failure)
	return wait, true
}
