// Package cloudtasks hands tasks to Google Cloud Tasks, which posts them to
// the functions.
//
// The name of a task decides whether it is new: Cloud Tasks takes a name once,
// for about a day after its task has ended. So an enqueue whose answer was lost
// is repeated under the same name, and "already exists" is success.
package cloudtasks

import (
	"cmp"
	"context"
	_ "embed" // queues.json
	"errors"
	"fmt"
	"net/url"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/googleapis/gax-go/v2"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gcpconnect/shared/connect"
)

// Settings are, of each class of work's queue, how fast it delivers and how it
// retries, as the REST API writes a queue. Deployments apply them, with
// TASK_MAX_ATTEMPTS as maxAttempts.
//
// Setups and their removals have one queue. 50 dispatches a second are more than
// Google's quotas let setups use: 240 searches of projects a minute begin 4
// setups a second, of about 10 tasks each. More would only find the quotas used
// up and come back.
//
// 100 at once is what those 50 come to when each takes two seconds, which steps
// of a few projects do. It bounds what a burst of connects asks of the database
// and of the instances (each execution works on up to 32 projects at once), and
// what 100 large setups, of up to 80 s an execution, leave for others.
//
// Discoveries have another, so that a setup of 1,000 projects, which ends in as
// many of them, keeps nobody's steps waiting. Their quota is each customer's own.
//
//go:embed queues.json
var Settings []byte

const (
	// defaultTimeout is Options.Timeout unless it is set.
	defaultTimeout = 10 * time.Second
	// attempts are how many lost ones an Enqueue has time for. A task is created
	// in some tens of milliseconds.
	attempts = 3
)

// Options say which queues, and how they reach the functions.
type Options struct {
	// Queue is its full name, projects/P/locations/L/queues/Q.
	Queue string
	// Others are the queues of functions that have another, by function.
	Others map[string]string
	// URL is where a function is served, or "" for one that is not known.
	URL func(function string) string
	// ServiceAccount is the email of the account for whose ID token Cloud
	// Tasks asks Google, to show to the function. The caller of Enqueue needs
	// iam.serviceAccounts.actAs on it. Required but with an Emulator, whose tasks
	// then carry no token.
	ServiceAccount string
	// Audience is the audience of that token; empty: the task's URL.
	Audience string
	// DispatchDeadline is how long a function may take to answer: 15 s to
	// 30 min.
	DispatchDeadline time.Duration
	// Emulator is the address, host:port, of an emulator; empty: Google.
	Emulator string
	// Timeout is how long an Enqueue may take, its attempts included; 0: 10 s.
	Timeout time.Duration
}

// Queue is a connect.Queue in Cloud Tasks.
type Queue struct {
	client *cloudtasks.Client
	opts   Options
}

var _ connect.Queue = (*Queue)(nil)

// New returns a Queue. It makes no call. Close it. It refuses a missing queue, URL
// or service account.
func New(ctx context.Context, o Options) (*Queue, error) {
	if o.Queue == "" || o.URL == nil || o.ServiceAccount == "" && o.Emulator == "" {
		return nil, errors.New("cloud tasks: queue, URL and service account are required")
	}
	var options []option.ClientOption
	if o.Emulator != "" {
		options = []option.ClientOption{
			option.WithEndpoint(o.Emulator), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}
	}
	client, err := cloudtasks.NewClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("make Cloud Tasks client: %w", err)
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	return &Queue{client: client, opts: o}, nil
}

// Close closes the connections to Cloud Tasks.
func (q *Queue) Close() error { return q.client.Close() }

// Enqueue hands a task over. It fails with Invalid for what Cloud Tasks would
// not take, and with Unavailable when it is not known whether the task is
// there: the same call may then be made again.
func (q *Queue) Enqueue(ctx context.Context, t connect.Task) error {
	if err := t.Validate(time.Now()); err != nil {
		return err
	}
	request, err := q.request(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, q.opts.Timeout)
	defer cancel()
	err = gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
		ctx, cancel := context.WithTimeout(ctx, q.opts.Timeout/attempts)
		defer cancel()
		_, err := q.client.CreateTask(ctx, request)
		return err
	}, gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Internal, codes.ResourceExhausted},
			gax.Backoff{Initial: 100 * time.Millisecond, Max: 2 * time.Second, Multiplier: 2})
	}))
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return q.classify(t, err)
}

// of is the queue of a task.
func (q *Queue) of(t connect.Task) string { return cmp.Or(q.opts.Others[t.Function], q.opts.Queue) }

// request is the whole request for a task.
func (q *Queue) request(ctx context.Context, t connect.Task) (*cloudtaskspb.CreateTaskRequest, error) {
	target := q.opts.URL(t.Function)
	if u, err := url.Parse(target); err != nil || u.Host == "" {
		return nil, connect.Errorf(connect.Invalid, "There is no function %q to give a task to.", t.Function).Because(err)
	}
	headers := map[string]string{"Content-Type": "application/json"}
	propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(headers))
	post := &cloudtaskspb.HttpRequest{Url: target, HttpMethod: cloudtaskspb.HttpMethod_POST, Headers: headers, Body: t.Body}
	if q.opts.ServiceAccount != "" {
		post.AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
			ServiceAccountEmail: q.opts.ServiceAccount, Audience: q.opts.Audience,
		}}
	}
	task := &cloudtaskspb.Task{
		Name:        q.of(t) + "/tasks/" + t.Name,
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: post},
	}
	if q.opts.DispatchDeadline > 0 {
		task.DispatchDeadline = durationpb.New(q.opts.DispatchDeadline)
	}
	if !t.At.IsZero() {
		task.ScheduleTime = timestamppb.New(t.At)
	}
	return &cloudtaskspb.CreateTaskRequest{Parent: q.of(t), Task: task}, nil
}

// classify decides what an error of Cloud Tasks means.
func (q *Queue) classify(t connect.Task, err error) error {
	if err == nil {
		return nil
	}
	cause := fmt.Errorf("enqueue task %s for %s into %s: %w", t.Name, t.Function, q.of(t), err)
	switch status.Code(err) {
	case codes.InvalidArgument:
		return connect.Errorf(connect.Invalid, "The queue refused a task.").Because(cause)
	case codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition:
		// A deployment that is not finished, or a queue that is disabled:
		// nothing is lost once it is mended.
		return connect.Errorf(connect.Unavailable, "The task queue cannot be used at present. Try again later.").Because(cause)
	}
	return connect.Errorf(connect.Unavailable, "The task queue is not available. Try again in a moment.").Because(cause)
}
