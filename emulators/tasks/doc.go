// Package tasks is Google Cloud Tasks, emulated over gRPC: the service that
// the published client speaks to, with queues, tasks and their delivery by
// HTTP.
//
// # What it is faithful to
//
// Requests, answers and error codes are those of the published service
// definition (google.cloud.tasks.v2). A name is taken once, also by callers at
// the same time, and stays taken for a day after its task has ended. Tasks
// wait for their time, for the queue's rate (a token bucket, also below one a
// second) and for its concurrency. A task that is not answered with 2xx within
// its dispatch deadline is repeated, after a pause that doubles from
// min_backoff, max_doublings times, then grows by the same step, up to
// max_backoff, counted from the end of the attempt, or from RunTask if that
// caused it. Retries end when max_attempts and max_retry_duration are met, both
// where both are set, or when the task would be 31 days old; the task is then
// gone. A task's own retry_config goes before its queue's. Targets that are
// down are retried like any failure. The headers of a delivery are those of
// https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler;
// tasks with an OIDC token carry a signed ID token of the service account. As
// HttpRequest.headers has it, no Content-Type is set unless the task has one.
//
// # What it is not
//
// App Engine tasks, OAuth tokens, task overrides by a queue's http_target,
// filters of queues, batches, access control, encryption keys and locations are
// refused as not implemented; a queue's logging configuration is left out.
// Anybody may do anything. Backoffs are not truncated to whole seconds: the
// default of min_backoff is none either. Tasks that no attempt is made of, as
// in a paused queue, are kept beyond 31 days. A task may have 1 MiB, as the
// quotas say, and not 100 KB, as CreateTask does. A deleted queue can be made
// again at once, where the real one may refuse that for days. A purge takes
// effect at once, and not within a minute. Dispatches are not slowed when many
// are answered with 429 or 503, and Retry-After is not honoured.
//
// These are guesses: the text of X-CloudTasks-TaskRetryReason (whose values are
// not published), that redirects are failures (they "may be followed"),
// max_burst_size, which is the rate, at least one, that what a task's own
// retry_config leaves out is as for a new queue, and that of several attempts
// of a task at the same time the last to end decides, unless one succeeds.
package tasks
