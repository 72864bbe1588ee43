package google

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"

	"gcpconnect/shared/connect"
)

// Retries of one call: short, because the instance waits. What they cannot
// overcome, the task queue's longer ones do.
const (
	maxTries      = 4
	maxRetryAfter = 3 * time.Second
)

var pauses = gax.Backoff{Initial: 250 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2}

// call is what all generated calls have.
type call[T any] interface {
	Header() http.Header
	Do(opts ...googleapi.CallOption) (T, error)
}

// do makes a call as c's identity: it authorizes it, counts it against
// quotaProject ("" is the project of the token's OAuth client or account), and
// classifies its error. make returns the call for each try. A token that
// Google refuses is renewed once.
//
// Which project pays: Service Usage is counted against the customer's project,
// where its quota is and where it is always enabled; so is whatever a service
// account does (see calls with quotaProject). The other APIs may not be
// enabled in a customer's project before the setup has enabled them; calls of
// the user to them are counted against the project of the OAuth client, which
// has them enabled.
func do[T any](ctx context.Context, c *cloud, quotaProject string, doing string, make func(context.Context) call[T]) (T, error) {
	var result T
	renewed := false
	pause := pauses
	for try := 1; ; try++ {
		token, err := c.source.Token(ctx)
		if err != nil {
			return result, err
		}
		result, err = once(ctx, token, quotaProject, make)
		if err == nil {
			return result, nil
		}
		failure := classify(ctx, err)
		switch {
		case failure.Code == connect.Unauthenticated && !renewed:
			renewed = true
			if _, err := c.source.Renew(ctx, token); err != nil {
				return result, err
			}
			continue
		case quotaProject != "" && consumerRefused(failure):
			// Its own project cannot be charged: nothing is lost but the quota.
			quotaProject = ""
			continue
		case failure.Code != connect.Unavailable || try == maxTries || failure.RetryAfter > maxRetryAfter || ctx.Err() != nil:
			return result, fmt.Errorf("%s: %w", doing, failure)
		}
		wait := max(pause.Pause(), failure.RetryAfter)
		c.log.DebugContext(ctx, "call to Google is repeated", "call", doing, "try", try, "wait", wait, "error", failure)
		if err := gax.Sleep(ctx, wait); err != nil {
			return result, fmt.Errorf("%s: %w", doing, failure)
		}
	}
}

// once makes one try of a call.
func once[T any](ctx context.Context, token connect.Secret, quotaProject string, make func(context.Context) call[T]) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	made := make(ctx)
	made.Header().Set("Authorization", "Bearer "+token.Reveal())
	if quotaProject != "" {
		made.Header().Set("X-Goog-User-Project", quotaProject)
	}
	return made.Do()
}

// consumerRefused reports whether a call failed because of the project that it
// should have been counted against.
func consumerRefused(e *connect.Error) bool {
	return e.Reason == reasonUserProjectDenied
}

// reasonUserProjectDenied: the caller may not use the project named in
// X-Goog-User-Project.
const reasonUserProjectDenied = "USER_PROJECT_DENIED"

// asGoogle returns Google's error within err.
func asGoogle(err error) (*googleapi.Error, bool) { return errors.AsType[*googleapi.Error](err) }
