package connecttest

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"gcpconnect/shared/connect"
)

// TestQueue checks that a queue keeps the promises of connect.Queue and sends
// what Cloud Tasks sends
// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler).
//
// newQueue makes a queue that delivers a task of function F to h, at a path
// that ends in "/F"; it is called for every test, by several at once. The
// queue must repeat a failed task within seconds, and often enough (5 times).
// What newQueue made must end with its t.
//
// A queue may deliver a task more than once. These tests fail then, because
// on one machine without a fault it has no reason to.
func TestQueue(t *testing.T, newQueue func(t *testing.T, h http.Handler) connect.Queue) {
	t.Helper()
	run(t, newQueue, queueCases)
}

// queueMaker makes a queue that delivers to h.
type queueMaker = func(t *testing.T, h http.Handler) connect.Queue

var queueCases = []testCase[queueMaker]{
	{"a task is posted once, to its function, with its body and the headers of a first attempt", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.Function = "verify-permissions"
		ok(t, q.Enqueue(t.Context(), task))
		r := in.next(t)
		if r.method != http.MethodPost || !strings.HasSuffix(r.path, "/verify-permissions") || r.body != string(task.Body) {
			t.Errorf("the request is %s %s with body %q", r.method, r.path, r.body)
		}
		for name, want := range map[string]string{
			"Content-Type":                      "application/json",
			"User-Agent":                        "Google-Cloud-Tasks",
			"X-CloudTasks-TaskName":             task.Name,
			"X-CloudTasks-TaskRetryCount":       "0",
			"X-CloudTasks-TaskExecutionCount":   "0",
			"X-CloudTasks-TaskPreviousResponse": "",
			"X-CloudTasks-TaskRetryReason":      "",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("the header %s is %q, want %q", name, got, want)
			}
		}
		if queue := r.header.Get("X-CloudTasks-QueueName"); queue == "" || strings.Contains(queue, "/") {
			t.Errorf("the queue's name is %q, want its short name", queue)
		}
		in.wantNext(t, q)
	}},
	{"the trace of the one who enqueues goes on with the task", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": header})
		ok(t, q.Enqueue(ctx, task))
		if got := in.next(t).header.Get("Traceparent"); got != header {
			t.Errorf("the header traceparent is %q, want %q", got, header)
		}
	}},
	{"a task may have no body", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.Body = nil
		ok(t, q.Enqueue(t.Context(), task))
		if r := in.next(t); r.body != "" {
			t.Errorf("the body is %q", r.body)
		}
	}},
	{"a task is not delivered before its time, which a header tells", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.At = time.Now().Add(soon).Truncate(time.Millisecond)
		ok(t, q.Enqueue(t.Context(), task))
		r := in.next(t)
		if r.at.Before(task.At) {
			t.Errorf("the task came %v early", task.At.Sub(r.at))
		}
		eta, err := strconv.ParseFloat(r.header.Get("X-CloudTasks-TaskETA"), 64)
		ok(t, err)
		if diff := eta - float64(task.At.UnixMilli())/1000; diff < -0.001 || diff > 0.001 {
			t.Errorf("the header X-CloudTasks-TaskETA is %s, %.6f s from the task's time", r.header.Get("X-CloudTasks-TaskETA"), diff)
		}
	}},
	{"a task whose time has passed is delivered at once", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.At = time.Now().Add(-time.Hour)
		ok(t, q.Enqueue(t.Context(), task))
		in.wantNext(t, q, task.Name)
	}},
	{"tasks come in the order of their times and not of being enqueued", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, late, early := newQueue(t, in), newTask(), newTask()
		late.At = time.Now().Add(soon)
		ok(t, q.Enqueue(t.Context(), late))
		ok(t, q.Enqueue(t.Context(), early))
		if r := in.next(t); r.name() != early.Name {
			t.Error("the later task came first")
		}
		if r := in.next(t); r.name() != late.Name {
			t.Error("the later task did not come second")
		}
	}},
	{"a task that is answered with 503 is retried until it is answered with 2xx, and told how often", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(answers(503, 503, 503))
		q, task := newQueue(t, in), newTask()
		ok(t, q.Enqueue(t.Context(), task))
		for retry := range 4 {
			r := in.next(t)
			if r.name() != task.Name || r.body != string(task.Body) {
				t.Errorf("retry %d is of task %s with body %q", retry, r.name(), r.body)
			}
			if got := r.header.Get("X-CloudTasks-TaskRetryCount"); got != strconv.Itoa(retry) {
				t.Errorf("retry %d is said to be %s", retry, got)
			}
			if got := r.header.Get("X-CloudTasks-TaskExecutionCount"); got != "0" {
				t.Errorf("retry %d has an execution count of %s: it must leave out 5xx", retry, got)
			}
			// This header is documented as one that requests might have.
			if got := r.header.Get("X-CloudTasks-TaskPreviousResponse"); retry > 0 && got != "" && got != "503" {
				t.Errorf("retry %d says that the response before was %s", retry, got)
			}
		}
		in.wantNext(t, q)
	}},
	{"every status but 2xx makes a retry, and those below 500 count as executions", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(answers(404, 500, 429, 302))
		q, task := newQueue(t, in), newTask()
		ok(t, q.Enqueue(t.Context(), task))
		for retry, executions := range []string{"0", "1", "1", "2", "3"} {
			r := in.next(t)
			if got := r.header.Get("X-CloudTasks-TaskExecutionCount"); got != executions {
				t.Errorf("retry %d has an execution count of %s, want %s", retry, got, executions)
			}
		}
		in.wantNext(t, q)
	}},
	{"every 2xx status ends a task", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(answers(204))
		q, task := newQueue(t, in), newTask()
		ok(t, q.Enqueue(t.Context(), task))
		in.wantNext(t, q, task.Name)
	}},
	{"a task that fails holds up no other", func(t *testing.T, newQueue queueMaker) {
		bad := newTask()
		in := newInbox(func(r request) int {
			if r.name() == bad.Name {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		})
		q, good := newQueue(t, in), newTask()
		ok(t, q.Enqueue(t.Context(), bad))
		ok(t, q.Enqueue(t.Context(), good))
		for in.next(t).name() != good.Name {
		}
	}},
	{"a name that was enqueued already is no error, and its task comes once, as it was first", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.At = time.Now().Add(soon / 5)
		ok(t, q.Enqueue(t.Context(), task))
		again := task
		again.At, again.Body, again.Function = time.Time{}, []byte(`"again"`), "other"
		ok(t, q.Enqueue(t.Context(), again))
		r := in.next(t)
		if r.body != string(task.Body) || !strings.HasSuffix(r.path, "/work") || r.at.Before(task.At.Truncate(time.Microsecond)) {
			t.Errorf("the task came as the second one: %s %q, %v after its time", r.path, r.body, r.at.Sub(task.At))
		}
		in.wantNext(t, q)
	}},
	{"a name that is enqueued many times at the same time comes once", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q := newQueue(t, in)
		var names []string
		for range 10 {
			task := newTask()
			names = append(names, task.Name)
			together(20, func(int) {
				if err := q.Enqueue(t.Context(), task); err != nil {
					t.Errorf("Enqueue: %v", err)
				}
			})
		}
		in.wantNext(t, q, names...)
	}},
	{"a name stays taken while its task runs and after it is done", func(t *testing.T, newQueue queueMaker) {
		running, finish := make(chan struct{}), make(chan struct{})
		task := newTask()
		in := newInbox(func(r request) int {
			if r.name() == task.Name {
				close(running)
				<-finish
			}
			return http.StatusOK
		})
		q := newQueue(t, in)
		ok(t, q.Enqueue(t.Context(), task))
		<-running
		ok(t, q.Enqueue(t.Context(), task))
		close(finish)
		in.wantNext(t, q, task.Name)
		ok(t, q.Enqueue(t.Context(), task))
		in.wantNext(t, q)
	}},
	{"a handler may enqueue the next task", func(t *testing.T, newQueue queueMaker) {
		second := newTask()
		var q connect.Queue
		made := make(chan struct{})
		in := newInbox(func(r request) int {
			<-made
			if r.name() == second.Name {
				return http.StatusOK
			}
			if err := q.Enqueue(t.Context(), second); err != nil {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		})
		q = newQueue(t, in)
		close(made)
		first := newTask()
		ok(t, q.Enqueue(t.Context(), first))
		for _, want := range []string{first.Name, second.Name} {
			if got := in.next(t).name(); got != want {
				t.Errorf("task %s came, want %s", got, want)
			}
		}
	}},
	{"many tasks that are enqueued at the same time all come", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q := newQueue(t, in)
		tasks := make([][20]connect.Task, 10)
		missing := map[string]bool{}
		for i := range tasks {
			for j := range tasks[i] {
				tasks[i][j] = newTask()
				missing[tasks[i][j].Name] = true
			}
		}
		together(len(tasks), func(i int) {
			for _, task := range tasks[i] {
				if err := q.Enqueue(t.Context(), task); err != nil {
					t.Errorf("Enqueue: %v", err)
				}
			}
		})
		for len(missing) > 0 {
			r := in.next(t)
			if !missing[r.name()] {
				t.Fatalf("task %s came twice", r.name())
			}
			delete(missing, r.name())
		}
	}},
	{"a name may have 500 letters, digits, hyphens and underscores; any other is Invalid", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.Name = "aZ09-_" + strings.Repeat("x", 500-6-len(task.Name)) + task.Name
		ok(t, q.Enqueue(t.Context(), task))
		for _, name := range []string{"", task.Name + "x", "a b", "a/b", "a.b", "a:b", "ä", "a\n", "a\x00"} {
			bad := newTask()
			bad.Name = name
			wantCode(t, "enqueueing task "+strconv.Quote(name), q.Enqueue(t.Context(), bad), connect.Invalid)
		}
		in.wantNext(t, q, task.Name)
	}},
	{"a body may be nearly 1 MiB; a larger one is Invalid", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		// Cloud Tasks counts the whole task: the rest of it needs room too.
		task.Body = []byte(`"` + strings.Repeat("x", 1000<<10) + `"`)
		ok(t, q.Enqueue(t.Context(), task))
		if r := in.next(t); r.body != string(task.Body) {
			t.Errorf("the body has %d bytes, want %d", len(r.body), len(task.Body))
		}
		large := newTask()
		large.Body = make([]byte, 1<<20+1)
		wantCode(t, "enqueueing too large a body", q.Enqueue(t.Context(), large), connect.Invalid)
		in.wantNext(t, q)
	}},
	{"a time more than 30 days ahead is Invalid", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		task.At = time.Now().Add(31 * 24 * time.Hour)
		wantCode(t, "enqueueing for next month", q.Enqueue(t.Context(), task), connect.Invalid)
		task.At = time.Now().Add(29 * 24 * time.Hour)
		ok(t, q.Enqueue(t.Context(), task))
		in.wantNext(t, q)
	}},
	{"a task that was refused has not taken its name", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		large := task
		large.Body = make([]byte, 1<<20+1)
		wantCode(t, "enqueueing too large a body", q.Enqueue(t.Context(), large), connect.Invalid)
		ok(t, q.Enqueue(t.Context(), task))
		in.wantNext(t, q, task.Name)
	}},
	{"a caller may change the body that it enqueued", func(t *testing.T, newQueue queueMaker) {
		in := newInbox(nil)
		q, task := newQueue(t, in), newTask()
		want := string(task.Body)
		task.At = time.Now().Add(soon / 5)
		ok(t, q.Enqueue(t.Context(), task))
		clear(task.Body)
		if r := in.next(t); r.body != want {
			t.Errorf("the body is %q, want %q", r.body, want)
		}
	}},
}
