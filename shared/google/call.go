package google

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/api/googleapi"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/retry"
	"gcpconnect/shared/setup"
)

// callTimeout bounds one try of a call. Google answers within seconds; what
// takes longer is lost.
const callTimeout = 30 * time.Second

// maxTries bounds the tries of one call, because an instance waits. What they
// cannot overcome, the task queue's longer retries do.
const maxTries = 4

// call is what all generated calls have.
type call[T any] interface {
	Header() http.Header
	Do(opts ...googleapi.CallOption) (T, error)
}

// do makes a call of method m about a project ("": about none) as c's identity,
// retries it while Google is busy, and returns errors of a class. make returns
// the call anew for each try; doing names it in errors and logs.
//
// Every call of this package may be repeated after an answer that was lost:
// reads; enabling, which is idempotent; writes of policies, which carry the
// etag of what they replace; creating an account or a policy. The latter two
// answer Conflict when the lost try had succeeded, which callers expect.
func do[T any](ctx context.Context, c *cloud, m rpc, projectID, doing string, make func(context.Context) call[T]) (T, error) {
	t := tries[T]{cloud: c, rpc: m, project: projectID, make: make}
	if m.charges {
		t.charged = projectID
	}
	if projectID != "" {
		ctx = connect.About(ctx, slog.String("project", projectID))
	}
	policy := retry.Policy{Tries: maxTries, Log: c.log, Except: func(e *connect.Error) bool { return e.Reason == setup.ReasonPaced }}
	var result T
	err := policy.Do(ctx, doing, func(ctx context.Context) (err error) {
		result, err = t.try(ctx)
		return err
	})
	if err == nil {
		return result, nil
	}
	if source, ok := errors.AsType[sourceError](err); ok {
		return result, source.err
	}
	return result, fmt.Errorf("%s: %w", doing, err)
}

// tries are the tries of one call, with what they have learnt.
type tries[T any] struct {
	*cloud
	rpc     rpc
	project string
	make    func(context.Context) call[T]
	charged string // the project to count the call against; "": leave that to Google
	renewed bool   // the token was renewed once
}

// try makes the call when it is its turn. A token that Google refuses is
// renewed, once, and a project that cannot be charged is no longer named.
func (t *tries[T]) try(ctx context.Context) (T, error) {
	var none T
	var token connect.Secret
	for {
		consumer := cmp.Or(t.charged, t.consumer)
		if err := t.paces.await(ctx, t.rpc.api, consumer); err != nil {
			return none, err
		}
		if token == "" {
			var err error
			if token, err = t.source.Token(ctx); err != nil {
				return none, sourceError{err}
			}
		}
		result, failure := t.once(ctx, token, consumer)
		if failure == nil {
			return result, nil
		}
		switch {
		case failure.Code == connect.Unauthenticated && !t.renewed:
			t.renewed = true
			var err error
			if token, err = t.source.Renew(ctx, token); err != nil {
				return none, sourceError{err}
			}
		case t.charged != "" && t.rpc.withoutCharge(failure):
			t.charged = ""
		default:
			return none, failure
		}
	}
}

// once sends the call, counted against the consumer, and heeds what Google says
// of its pace.
func (t *tries[T]) once(ctx context.Context, token connect.Secret, consumer string) (T, *connect.Error) {
	ctx, watched := t.watch.Begin(ctx, t.rpc.String(), t.project)
	result, err := t.send(ctx, token)
	if err == nil {
		watched.End(ctx, "")
		return result, nil
	}
	failure := classify(ctx, t.rpc.api, token, err)
	watched.End(ctx, failure.Code)
	if failure.Code == connect.Unavailable {
		t.paces.heard(t.rpc.api, consumer, tooMany(err), failure.RetryAfter)
	}
	return result, failure
}

func (t *tries[T]) send(ctx context.Context, token connect.Secret) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	made := t.make(ctx)
	made.Header().Set("Authorization", "Bearer "+token.Reveal())
	if t.charged != "" {
		made.Header().Set("X-Goog-User-Project", t.charged)
	}
	return made.Do()
}

// sourceError is an error of the TokenSource. It is handed on as it is, and
// never retried here: the source knows better. It does not unwrap, so that
// retry does not take it for one of Google's.
type sourceError struct{ err error }

func (e sourceError) Error() string { return e.err.Error() }
