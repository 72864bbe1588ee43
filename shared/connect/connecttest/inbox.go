package connecttest

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// soon is how far ahead these tests schedule: long against what a delivery
// takes, short against a person's patience.
const soon = 250 * time.Millisecond

// request is a task as the handler saw it.
type request struct {
	at     time.Time
	method string
	path   string
	header http.Header
	body   string
}

func (r request) name() string { return r.header.Get("X-CloudTasks-TaskName") }

// inbox is a handler that keeps what it gets and answers with what answer says.
type inbox struct {
	requests chan request
	answer   func(request) int // nil: 200
}

func newInbox(answer func(request) int) *inbox {
	return &inbox{requests: make(chan request, 4096), answer: answer}
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	got := request{at: at, method: r.Method, path: r.URL.Path, header: r.Header, body: string(body)}
	i.requests <- got
	status := http.StatusOK
	if i.answer != nil {
		status = i.answer(got)
	}
	w.WriteHeader(status)
}

// next waits for a request.
func (i *inbox) next(t *testing.T) request {
	t.Helper()
	select {
	case r := <-i.requests:
		return r
	case <-time.After(patience):
		t.Fatalf("nothing was delivered within %v", patience)
		return request{}
	}
}

// wantNext waits for these tasks and checks that they and no others came,
// once each, until one that is scheduled for some time after them.
func (i *inbox) wantNext(t *testing.T, q connect.Queue, names ...string) {
	t.Helper()
	came := map[string]int{}
	for range names {
		came[i.next(t).name()]++
	}
	last := newTask()
	last.At = time.Now().Add(soon)
	ok(t, q.Enqueue(t.Context(), last))
	for r := i.next(t); r.name() != last.Name; r = i.next(t) {
		came[r.name()]++
	}
	for _, name := range names {
		if n := came[name]; n != 1 {
			t.Errorf("task %s came %d times, want once", name, n)
		}
		delete(came, name)
	}
	for name, n := range came {
		t.Errorf("task %s came %d times, want never", name, n)
	}
}

// newTask returns a task that nobody has enqueued.
func newTask() connect.Task {
	name := connect.NewID()
	return connect.Task{Function: "work", Name: name, Body: []byte(`{"task":"` + name + `"}`)}
}

// answers returns a function that gives the statuses one after the other, and
// 200 from then on. It is for one task: attempts of it do not overlap.
func answers(statuses ...int) func(request) int {
	return func(r request) int {
		n, err := strconv.Atoi(r.header.Get("X-CloudTasks-TaskRetryCount"))
		if err != nil || n >= len(statuses) {
			return http.StatusOK
		}
		return statuses[n]
	}
}
