package tasks

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits (https://cloud.google.com/tasks/docs/quotas, and the comments of the
// service definition).
const (
	maxTask     = 1 << 20
	maxAhead    = 30 * 24 * time.Hour
	maxURL      = 2083
	maxHeaders  = 80 << 10
	minDeadline = 15 * time.Second
	maxDeadline = 30 * time.Minute

	mostPerSecond  = 500
	mostConcurrent = 5000
)

var (
	locationName = regexp.MustCompile(`^projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+$`)
	queueName    = regexp.MustCompile(`^projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+/queues/[A-Za-z0-9-]{1,100}$`)
	taskName     = regexp.MustCompile(`^projects/[A-Za-z0-9.:-]+/locations/[A-Za-z0-9-]+/queues/[A-Za-z0-9-]{1,100}/tasks/[A-Za-z0-9_-]{1,500}$`)

	// What a header may be made of (RFC 9110, 5.5 and 5.6.2).
	headerName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	headerValue = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)
)

// splitQueue returns the location and the ID of a queue.
func splitQueue(name string) (location, id string) {
	location, id, _ = strings.Cut(name, "/queues/")
	return location, id
}

// splitTask returns the queue and the ID of a task.
func splitTask(name string) (queue, id string) {
	queue, id, _ = strings.Cut(name, "/tasks/")
	return queue, id
}

// methods are the HTTP methods of tasks.
var methods = map[cloudtaskspb.HttpMethod]string{
	cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED: http.MethodPost,
	cloudtaskspb.HttpMethod_POST:                    http.MethodPost,
	cloudtaskspb.HttpMethod_GET:                     http.MethodGet,
	cloudtaskspb.HttpMethod_HEAD:                    http.MethodHead,
	cloudtaskspb.HttpMethod_PUT:                     http.MethodPut,
	cloudtaskspb.HttpMethod_DELETE:                  http.MethodDelete,
	cloudtaskspb.HttpMethod_PATCH:                   http.MethodPatch,
	cloudtaskspb.HttpMethod_OPTIONS:                 http.MethodOptions,
}

// reserved reports whether a task's header is ignored: Cloud Tasks sets it.
func reserved(header string) bool {
	h := strings.ToLower(header)
	return h == "host" || h == "content-length" || h == "user-agent" || strings.HasPrefix(h, "x-google-") ||
		strings.HasPrefix(h, "x-appengine-") || strings.HasPrefix(h, "x-cloudtasks-")
}

// encodable refuses text that is no UTF-8, and times and durations out of range.
func encodable(m proto.Message) error {
	if _, err := protojson.Marshal(m); err != nil {
		return invalid("A field has no valid value: %v.", err)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// newTask returns the task that a request asks for, complete.
func (s *Server) newTask(r *cloudtaskspb.CreateTaskRequest, at time.Time) (*cloudtaskspb.Task, error) {
	if !queueName.MatchString(r.GetParent()) {
		return nil, invalid("Parent %q is not projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID.", r.GetParent())
	}
	if r.GetTask() == nil {
		return nil, invalid("CreateTaskRequest.task is required.")
	}
	if r.GetTask().GetAppEngineHttpRequest() != nil {
		return nil, status.Error(codes.Unimplemented, "This emulator does not serve App Engine tasks.")
	}
	if size := proto.Size(r.GetTask()); size > maxTask {
		return nil, invalid("The task has %d bytes; the limit is %d.", size, maxTask)
	}
	if err := encodable(r.GetTask()); err != nil {
		return nil, err
	}
	t, _ := proto.Clone(r.GetTask()).(*cloudtaskspb.Task)
	if t.GetName() == "" {
		t.Name = r.GetParent() + "/tasks/" + rand.Text()
	}
	if queue, _ := splitTask(t.GetName()); !taskName.MatchString(t.GetName()) || queue != r.GetParent() {
		return nil, invalid("Task.name %q is not %s/tasks/TASK_ID.", t.GetName(), r.GetParent())
	}
	if err := s.checkRequest(t.GetHttpRequest()); err != nil {
		return nil, err
	}
	if t.GetHttpRequest().GetHttpMethod() == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		t.GetHttpRequest().HttpMethod = cloudtaskspb.HttpMethod_POST
	}
	if t.GetRetryConfig() != nil {
		if err := completeRetry(t.GetRetryConfig()); err != nil {
			return nil, err
		}
	}
	switch d := t.GetDispatchDeadline().AsDuration(); {
	case t.GetDispatchDeadline() == nil:
		t.DispatchDeadline = durationpb.New(10 * time.Minute)
	case d < minDeadline || d > maxDeadline:
		return nil, invalid("Task.dispatch_deadline must be 15 s to 30 min, is %v.", d)
	default:
		t.DispatchDeadline = durationpb.New(d.Truncate(time.Millisecond))
	}
	due := t.GetScheduleTime().AsTime().Truncate(time.Microsecond)
	if due.After(at.Add(maxAhead)) {
		return nil, invalid("Task.schedule_time must be within 30 days.")
	}
	if t.GetScheduleTime() == nil || due.Before(at) {
		due = at
	}
	t.ScheduleTime, t.CreateTime = timestamppb.New(due), timestamppb.New(at.Truncate(time.Second))
	// Output only.
	t.DispatchCount, t.ResponseCount, t.FirstAttempt, t.LastAttempt, t.View = 0, 0, nil, nil, 0
	return t, nil
}

func (s *Server) checkRequest(r *cloudtaskspb.HttpRequest) error {
	if r == nil {
		return invalid("Task.http_request is required.")
	}
	u, err := url.Parse(r.GetUrl())
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(u.String()) > maxURL {
		return invalid("HttpRequest.url must begin with http:// or https://, and have %d characters at most.", maxURL)
	}
	method, known := methods[r.GetHttpMethod()]
	if !known {
		return invalid("HttpRequest.http_method is unknown.")
	}
	if len(r.GetBody()) > 0 && method != http.MethodPost && method != http.MethodPut && method != http.MethodPatch {
		return invalid("HTTP body is allowed for POST, PUT and PATCH only, not for %s.", method)
	}
	size := 0
	for name, value := range r.GetHeaders() {
		if !headerName.MatchString(name) || !headerValue.MatchString(value) {
			return invalid("HttpRequest.headers has %q, which is no header.", name)
		}
		size += len(name) + len(value)
	}
	if size >= maxHeaders {
		return invalid("HttpRequest.headers must have less than 80 KB.")
	}
	if r.GetOauthToken() != nil {
		return status.Error(codes.Unimplemented, "This emulator does not send OAuth tokens; OIDC tokens it does.")
	}
	if oidc := r.GetOidcToken(); oidc != nil {
		if !strings.Contains(oidc.GetServiceAccountEmail(), "@") {
			return invalid("OidcToken.service_account_email must be set.")
		}
		if s.opts.Token == nil {
			return status.Error(codes.FailedPrecondition, "This emulator was started without a way to sign OIDC tokens.")
		}
	}
	return nil
}

// configure creates a queue or changes what the mask names of it; s.mu is held.
func (s *Server) configure(asked *cloudtaskspb.Queue, mask *fieldmaskpb.FieldMask) (*cloudtaskspb.Queue, error) {
	if !queueName.MatchString(asked.GetName()) {
		return nil, invalid("Queue.name %q is not projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID.", asked.GetName())
	}
	if asked.GetHttpTarget() != nil || asked.GetAppEngineRoutingOverride() != nil {
		return nil, status.Error(codes.Unimplemented, "This emulator does not serve overrides of a queue's tasks.")
	}
	if err := encodable(asked); err != nil {
		return nil, err
	}
	config := &cloudtaskspb.Queue{Name: asked.GetName(), State: cloudtaskspb.Queue_RUNNING}
	q := s.queues[asked.GetName()]
	if q != nil {
		config = clone(q.config)
	}
	if err := merge(config, asked, mask); err != nil {
		return nil, err
	}
	if err := complete(config); err != nil {
		return nil, err
	}
	if q == nil {
		q = newQueue(config)
		s.queues[config.GetName()] = q
	}
	q.configure(config)
	s.dispatch(q)
	return clone(config), nil
}

// merge takes from asked what the mask names, or everything that can be set.
func merge(config, asked *cloudtaskspb.Queue, mask *fieldmaskpb.FieldMask) error {
	paths := mask.GetPaths()
	if len(paths) == 0 {
		paths = []string{"rate_limits", "retry_config"}
	}
	for _, path := range paths {
		to, from := config.ProtoReflect(), asked.ProtoReflect()
		names := strings.Split(path, ".")
		if names[0] != "rate_limits" && names[0] != "retry_config" {
			return invalid("update_mask names %q, which cannot be changed.", path)
		}
		for i, name := range names {
			field := to.Descriptor().Fields().ByName(protoreflect.Name(name))
			switch {
			case field == nil || i < len(names)-1 && field.Message() == nil:
				return invalid("update_mask names %q, which is no field.", path)
			case i < len(names)-1:
				to, from = to.Mutable(field).Message(), from.Get(field).Message()
			case from.Has(field):
				to.Set(field, from.Get(field))
			default:
				to.Clear(field)
			}
		}
	}
	clone := clone(config) // shares nothing with asked
	config.RateLimits, config.RetryConfig = clone.GetRateLimits(), clone.GetRetryConfig()
	return nil
}

// complete fills in the defaults and checks the limits.
func complete(q *cloudtaskspb.Queue) error {
	if q.GetRateLimits() == nil {
		q.RateLimits = &cloudtaskspb.RateLimits{}
	}
	limits := q.GetRateLimits()
	if limits.GetMaxDispatchesPerSecond() == 0 {
		limits.MaxDispatchesPerSecond = mostPerSecond
	}
	if limits.GetMaxConcurrentDispatches() == 0 {
		limits.MaxConcurrentDispatches = 1000
	}
	if r := limits.GetMaxDispatchesPerSecond(); !(r > 0 && r <= mostPerSecond) { // not a number is neither
		return invalid("RateLimits.max_dispatches_per_second must be more than 0 and at most %d, is %v.", mostPerSecond, r)
	}
	if n := limits.GetMaxConcurrentDispatches(); n < 0 || n > mostConcurrent {
		return invalid("RateLimits.max_concurrent_dispatches must be 1 to %d, is %d.", mostConcurrent, n)
	}
	limits.MaxBurstSize = burst(limits.GetMaxDispatchesPerSecond())
	if q.GetRetryConfig() == nil {
		q.RetryConfig = &cloudtaskspb.RetryConfig{}
	}
	return completeRetry(q.GetRetryConfig())
}

// completeRetry does so with a way to retry.
func completeRetry(retry *cloudtaskspb.RetryConfig) error {
	if retry.GetMaxAttempts() == 0 {
		retry.MaxAttempts = 100
	}
	if retry.GetMinBackoff() == nil {
		retry.MinBackoff = durationpb.New(100 * time.Millisecond)
	}
	if retry.GetMaxBackoff() == nil {
		retry.MaxBackoff = durationpb.New(time.Hour)
	}
	if retry.GetMaxDoublings() == 0 {
		retry.MaxDoublings = 16
	}
	switch shortest, longest := retry.GetMinBackoff().AsDuration(), retry.GetMaxBackoff().AsDuration(); {
	case retry.GetMaxAttempts() < -1:
		return invalid("RetryConfig.max_attempts must be -1 or more, is %d.", retry.GetMaxAttempts())
	case shortest < 0 || shortest > longest:
		return invalid("RetryConfig.min_backoff must be between 0 and max_backoff, is %v of %v.", shortest, longest)
	case retry.GetMaxDoublings() < 0:
		return invalid("RetryConfig.max_doublings must not be negative.")
	case retry.GetMaxRetryDuration().AsDuration() < 0:
		return invalid("RetryConfig.max_retry_duration must not be negative.")
	}
	return nil
}
