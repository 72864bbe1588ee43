package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// delivery is one task on its way.
type delivery struct {
	function, name string
	url            string
	body           []byte
	header         http.Header // beside what a queue sets
	due            time.Time   // of the coming attempt

	attempts int // that failed
	answers  int // of these, those that the handler answered with another status than 5xx
	previous int // status of the last answer; 0: there was none
}

// deliver makes one attempt and decides what follows from it.
func (q *Queue) deliver(d *delivery) {
	status, err := q.post(d)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if err == nil && status/100 == 2 {
		q.end(d)
	} else {
		q.fail(d, status, err)
	}
	q.dispatch()
}

// fail schedules the next attempt, or gives the task up; q.mu is held.
func (q *Queue) fail(d *delivery, status int, err error) {
	d.attempts++
	d.previous = status
	if err == nil && status/100 != 5 {
		d.answers++
	}
	log := q.opts.Logger.With("queue", q.opts.Name, "function", d.function, "task", d.name, "attempt", d.attempts)
	if err != nil {
		log = log.With("err", err)
	} else {
		log = log.With("status", status)
	}
	switch {
	case q.closed:
		log.Warn("task failed and is dropped: the queue is closed")
	case q.opts.MaxAttempts > 0 && d.attempts >= q.opts.MaxAttempts:
		log.Error("task failed for the last time and is given up")
		q.end(d)
	default:
		pause := q.backoff(d.attempts)
		log.Warn("task failed and will be retried", "pause", pause)
		d.due = time.Now().Add(pause)
		q.schedule(d)
	}
}

// end remembers the name of a task that is done or given up; q.mu is held.
func (q *Queue) end(d *delivery) {
	q.ended = append(q.ended, ending{name: d.name, forget: time.Now().Add(remembered)})
}

// backoff is the pause after so many failures of a task, counted from the end
// of the last one.
func (q *Queue) backoff(failures int) time.Duration {
	pause := q.opts.MinBackoff
	for range failures - 1 {
		if pause >= q.opts.MaxBackoff {
			break
		}
		pause *= 2
	}
	return min(pause, q.opts.MaxBackoff)
}

// post sends d as Cloud Tasks does
// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler)
// and returns the status of the answer.
func (q *Queue) post(d *delivery) (int, error) {
	ctx, cancel := context.WithTimeout(q.ctx, q.opts.DispatchDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(d.body))
	if err != nil {
		return 0, err
	}
	req.Header = d.header.Clone()
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Google-Cloud-Tasks")
	h.Set("X-CloudTasks-QueueName", q.opts.Name)
	h.Set("X-CloudTasks-TaskName", d.name)
	h.Set("X-CloudTasks-TaskRetryCount", strconv.Itoa(d.attempts))
	h.Set("X-CloudTasks-TaskExecutionCount", strconv.Itoa(d.answers))
	h.Set("X-CloudTasks-TaskETA", fmt.Sprintf("%d.%06d", d.due.Unix(), d.due.Nanosecond()/1000))
	if d.attempts > 0 {
		// Which reasons Cloud Tasks gives is not published: nobody may decide
		// by this one.
		reason := "no response"
		if d.previous != 0 {
			h.Set("X-CloudTasks-TaskPreviousResponse", strconv.Itoa(d.previous))
			reason = "response " + strconv.Itoa(d.previous)
		}
		h.Set("X-CloudTasks-TaskRetryReason", reason)
	}
	resp, err := q.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	// Reading the answer lets the connection be used again. The status counts
	// even when the rest does not arrive.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}
