package tasks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// task is a task of a queue. The server's lock guards it; what is sent does not
// change.
type task struct {
	id    string
	proto *cloudtaskspb.Task // as clients see it, body included

	due      time.Time
	position int  // in the schedule
	underway int  // attempts; more than one by RunTask. Then it is not in the schedule
	gone     bool // deleted: what an attempt comes to does not matter any more

	failures int
	answers  int // of these, those answered with another status than 5xx
	previous int // status of the last answer; 0: there was none
}

// dispatch starts what is due, as far as the queue's limits allow, and has
// itself called when the next task may go; s.mu is held. It is called after
// every change to the queue.
func (s *Server) dispatch(q *queue) {
	if s.closed || q.deleted || q.config.GetState() != cloudtaskspb.Queue_RUNNING {
		q.rest()
		return
	}
	at := time.Now()
	for q.running < int(q.config.GetRateLimits().GetMaxConcurrentDispatches()) && len(q.pending) > 0 {
		next := q.pending[0]
		wait := next.due.Sub(at)
		if wait <= 0 {
			turn := q.limiter.ReserveN(at, 1)
			if wait = turn.DelayFrom(at); wait > 0 {
				turn.CancelAt(at)
			}
		}
		if wait > 0 {
			s.wake(q, wait)
			return
		}
		q.take(next)
		s.begin(q, next, time.Time{})
	}
	q.rest() // the end of a delivery calls dispatch again
}

func (s *Server) wake(q *queue, after time.Duration) {
	if q.timer != nil {
		q.timer.Reset(after)
		return
	}
	q.timer = time.AfterFunc(after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dispatch(q)
	})
}

// begin starts an attempt of a task that is in no schedule, one that RunTask
// forced at a time or, if that is zero, one that was due; s.mu is held.
func (s *Server) begin(q *queue, t *task, forced time.Time) {
	t.underway++
	q.running++
	s.running++
	s.counts.Dispatches++
	attempt := &cloudtaskspb.Attempt{ScheduleTime: t.proto.GetScheduleTime(), DispatchTime: timestamppb.New(now())}
	t.proto.DispatchCount++
	t.proto.LastAttempt = attempt
	if t.proto.GetFirstAttempt() == nil {
		t.proto.FirstAttempt = &cloudtaskspb.Attempt{DispatchTime: attempt.GetDispatchTime()}
	}
	header := s.header(t)
	request := t.proto.GetHttpRequest()
	deadline := t.proto.GetDispatchDeadline().AsDuration()
	go func() {
		code, err := s.post(request, header, deadline)
		s.mu.Lock()
		defer s.mu.Unlock()
		q.running--
		s.running--
		if t.underway--; !t.gone {
			s.finish(q, t, attempt, forced, code, err)
		}
		s.settle()
		s.dispatch(q)
	}()
}

// finish decides what follows from an attempt; s.mu is held.
func (s *Server) finish(q *queue, t *task, attempt *cloudtaskspb.Attempt, forced time.Time, code int, err error) {
	at := now()
	if err == nil && code/100 == 2 {
		s.counts.Completed++
		s.end(q, t)
		return
	}
	t.failures++
	t.previous = 0
	if err == nil {
		t.previous = code
		if code/100 != 5 {
			t.answers++
		}
		t.proto.ResponseCount++
		attempt.ResponseTime = timestamppb.New(at)
	}
	attempt.ResponseStatus = outcome(code, err)
	log := s.opts.Logger.With("task", t.proto.GetName(), "attempt", t.failures, "outcome", attempt.GetResponseStatus().GetMessage())
	if t.underway > 0 {
		log.Warn("task failed while it is attempted once more")
		return // what that comes to decides
	}
	retry := q.retry(t)
	pause := backoff(retry, t.failures)
	due := at.Add(pause)
	if !forced.IsZero() {
		due = forced.Add(pause)
	}
	if exhausted(retry, t.failures, t.proto.GetFirstAttempt().GetDispatchTime().AsTime(), at) ||
		due.Sub(t.proto.GetCreateTime().AsTime()) > retention {
		log.Error("task failed for the last time and is given up")
		s.counts.GivenUp++
		s.end(q, t)
		return
	}
	log.Warn("task failed and will be retried", "pause", pause)
	t.proto.ScheduleTime = timestamppb.New(due)
	q.wait(t, due)
}

// end removes tasks of a queue, wherever they are, and keeps their names taken;
// s.mu is held.
func (s *Server) end(q *queue, tasks ...*task) {
	until := now().Add(remembered)
	for _, t := range tasks {
		t.gone = true
		delete(q.tasks, t.id)
		s.tasks--
		q.remember(t.id, until)
	}
	s.settle()
}

// outcome is what an attempt shows in the task.
func outcome(code int, err error) *status.Status {
	if err != nil {
		reason := codes.Unavailable
		if errors.Is(err, context.DeadlineExceeded) {
			reason = codes.DeadlineExceeded
		}
		return &status.Status{Code: int32(reason), Message: fmt.Sprintf("%s: %v", reason, err)}
	}
	return &status.Status{Code: int32(codes.Unknown), Message: fmt.Sprintf("HTTP status code %d", code)}
}

// header is what a delivery carries besides what the task says; s.mu is held.
func (s *Server) header(t *task) http.Header {
	h := http.Header{}
	for name, value := range t.proto.GetHttpRequest().GetHeaders() {
		if !reserved(name) {
			h.Set(name, value)
		}
	}
	queue, id := splitTask(t.proto.GetName())
	_, short := splitQueue(queue)
	h.Set("User-Agent", "Google-Cloud-Tasks")
	h.Set("X-CloudTasks-QueueName", short)
	h.Set("X-CloudTasks-TaskName", id)
	h.Set("X-CloudTasks-TaskRetryCount", strconv.Itoa(t.failures))
	h.Set("X-CloudTasks-TaskExecutionCount", strconv.Itoa(t.answers))
	due := t.proto.GetScheduleTime().AsTime()
	h.Set("X-CloudTasks-TaskETA", fmt.Sprintf("%d.%06d", due.Unix(), due.Nanosecond()/1000))
	if t.failures > 0 {
		reason := "no response"
		if t.previous != 0 {
			h.Set("X-CloudTasks-TaskPreviousResponse", strconv.Itoa(t.previous))
			reason = "response " + strconv.Itoa(t.previous)
		}
		h.Set("X-CloudTasks-TaskRetryReason", reason)
	}
	return h
}

// post makes one attempt and returns the status of the answer.
func (s *Server) post(task *cloudtaskspb.HttpRequest, header http.Header, deadline time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(s.ctx, deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, methods[task.GetHttpMethod()], task.GetUrl(), bytes.NewReader(task.GetBody()))
	if err != nil {
		return 0, err
	}
	req.Header = header
	if oidc := task.GetOidcToken(); oidc != nil {
		audience := oidc.GetAudience()
		if audience == "" {
			audience = task.GetUrl()
		}
		token, err := s.opts.Token(oidc.GetServiceAccountEmail(), audience)
		if err != nil {
			return 0, fmt.Errorf("no ID token: %w", err)
		}
		header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if ctx.Err() != nil && s.ctx.Err() == nil {
		return 0, context.DeadlineExceeded
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	// Reading the answer lets the connection be used again. The status counts
	// even when the rest does not arrive.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}
