package memory_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/memory"
)

// handler is a network and a server in one: real sockets do not work in a
// synctest bubble.
type handler func(*http.Request) (status int, err error)

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) {
	status, err := h(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Location": {"http://queue.test/elsewhere"}}, Body: http.NoBody, Request: r}, nil
}

// start returns a queue that delivers to h and is closed with the test.
func start(t *testing.T, opts memory.Options, h handler) *memory.Queue {
	t.Helper()
	opts.URL = func(function string) string {
		if function == "unknown" {
			return ""
		}
		return "http://queue.test/" + function
	}
	opts.Client = &http.Client{Transport: h}
	q := memory.NewQueue(opts)
	t.Cleanup(func() { _ = q.Close(context.Background()) })
	return q
}

// enqueue hands over tasks of these names.
func enqueue(t *testing.T, q *memory.Queue, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := q.Enqueue(t.Context(), connect.Task{Function: "work", Name: name, Body: []byte(`"secret body"`)}); err != nil {
			t.Fatalf("Enqueue(%q): %v", name, err)
		}
	}
}

func idle(t *testing.T, q *memory.Queue) {
	t.Helper()
	if err := q.Idle(t.Context()); err != nil {
		t.Fatalf("Idle: %v", err)
	}
}

// diary notes when things happen, since the test's start.
type diary struct {
	mu    sync.Mutex
	start time.Time
	times []string
}

func newDiary() *diary { return &diary{start: time.Now()} }

func (d *diary) note() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.times = append(d.times, time.Since(d.start).String())
}

func (d *diary) want(t *testing.T, times ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if diff := cmp.Diff(times, d.times); diff != "" {
		t.Errorf("times of the attempts (-want +got):\n%s", diff)
	}
}

func TestPauseDoublesFromTheEndOfAnAttemptUpToTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		q := start(t, memory.Options{MinBackoff: time.Second, MaxBackoff: 10 * time.Second, MaxAttempts: 7}, func(*http.Request) (int, error) {
			d.note()
			time.Sleep(500 * time.Millisecond)
			return 503, nil
		})
		enqueue(t, q, "task")
		idle(t, q)
		d.want(t, "0s", "1.5s", "4s", "8.5s", "17s", "27.5s", "38s")
	})
}

func TestDefaultsAreThoseOfCloudTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts, last := 0, time.Now()
		q := start(t, memory.Options{}, func(*http.Request) (int, error) {
			pause := time.Since(last)
			want := min(100*time.Millisecond<<max(0, attempts-1), time.Hour)
			if attempts == 0 {
				want = 0
			} else if attempts > 20 {
				want = time.Hour
			}
			if pause != want {
				t.Errorf("attempt %d came after a pause of %v, want %v", attempts, pause, want)
			}
			attempts++
			last = time.Now()
			return 500, nil
		})
		enqueue(t, q, "task")
		idle(t, q)
		if attempts != 100 {
			t.Errorf("%d attempts, want 100", attempts)
		}
	})
}

func TestTaskIsGivenUpAfterMaxAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := newDiary()
		q := start(t, memory.Options{MaxAttempts: 3, MinBackoff: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			func(*http.Request) (int, error) {
				d.note()
				return 500, nil
			})
		enqueue(t, q, "task")
		idle(t, q)
		time.Sleep(23 * time.Hour)
		enqueue(t, q, "task") // the name is still taken
		time.Sleep(2 * time.Hour)
		d.want(t, "0s", "1s", "3s")
		if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "attempt=3 status=500") || strings.Contains(text, "secret") {
			t.Errorf("the log is:\n%s", text)
		}
	})
}

func TestTaskIsNeverGivenUpWithoutALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		q := start(t, memory.Options{MaxAttempts: -1}, func(*http.Request) (int, error) {
			if n++; n > 500 {
				return 200, nil
			}
			return 0, errors.New("no network")
		})
		enqueue(t, q, "task")
		idle(t, q)
		if n != 501 {
			t.Errorf("%d attempts, want 501", n)
		}
	})
}

func TestNameIsFreeADayAfterItsTaskEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		q := start(t, memory.Options{}, func(*http.Request) (int, error) {
			d.note()
			time.Sleep(time.Minute)
			return 200, nil
		})
		enqueue(t, q, "task", "task")
		time.Sleep(24 * time.Hour) // the task ended at 1m
		enqueue(t, q, "task")
		time.Sleep(time.Minute)
		enqueue(t, q, "task", "task")
		idle(t, q)
		d.want(t, "0s", "24h1m0s")
	})
}

func TestTaskComesExactlyAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		q := start(t, memory.Options{}, func(*http.Request) (int, error) {
			d.note()
			return 200, nil
		})
		for name, after := range map[string]time.Duration{"c": 30 * 24 * time.Hour, "a": 0, "b": 30 * time.Second} {
			if err := q.Enqueue(t.Context(), connect.Task{Function: "work", Name: name, At: time.Now().Add(after)}); err != nil {
				t.Fatal(err)
			}
		}
		idle(t, q)
		d.want(t, "0s", "30s", "720h0m0s")
	})
}

func TestNoMoreThanMaxConcurrentRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		var mu sync.Mutex
		running, most := 0, 0
		q := start(t, memory.Options{MaxConcurrent: 3}, func(*http.Request) (int, error) {
			d.note()
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return 200, nil
		})
		for _, name := range strings.Split("abcdefgh", "") {
			enqueue(t, q, name)
		}
		idle(t, q)
		d.want(t, "0s", "0s", "0s", "1s", "1s", "1s", "2s", "2s")
		if most != 3 {
			t.Errorf("%d ran at once, want 3", most)
		}
	})
}

func TestTasksThatAreDueComeInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var came []string
		q := start(t, memory.Options{MaxConcurrent: 1}, func(r *http.Request) (int, error) {
			came = append(came, r.Header.Get("X-CloudTasks-TaskName"))
			time.Sleep(time.Second)
			return 200, nil
		})
		names := []string{"e", "b", "d", "a", "c"}
		enqueue(t, q, names...)
		idle(t, q)
		if diff := cmp.Diff(names, came); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestAttemptIsCutOffAtTheDispatchDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		var last http.Header
		q := start(t, memory.Options{MaxAttempts: 2, MinBackoff: time.Minute}, func(r *http.Request) (int, error) {
			d.note()
			last = r.Header
			<-r.Context().Done()
			return 0, r.Context().Err()
		})
		enqueue(t, q, "task")
		idle(t, q)
		d.want(t, "0s", "11m0s")
		if last.Get("X-CloudTasks-TaskRetryReason") == "" || last.Values("X-CloudTasks-TaskPreviousResponse") != nil {
			t.Errorf("the headers after an attempt without an answer are %v", last)
		}
	})
}

func TestHeadersTellTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		statuses := []int{503, 404, 0, 302, 200}
		var headers []http.Header
		q := start(t, memory.Options{Name: "setups", MinBackoff: 1500 * time.Millisecond, MaxBackoff: 1500 * time.Millisecond},
			func(r *http.Request) (int, error) {
				if r.Method != http.MethodPost || r.URL.String() != "http://queue.test/work" {
					t.Errorf("the request is %s %s", r.Method, r.URL)
				}
				if body, err := io.ReadAll(r.Body); err != nil || string(body) != `"secret body"` {
					t.Errorf("the body is %q, %v", body, err)
				}
				headers = append(headers, r.Header)
				status := statuses[len(headers)-1]
				if status == 0 {
					return 0, errors.New("no network")
				}
				return status, nil
			})
		enqueue(t, q, "task")
		idle(t, q)

		// A bubble's time begins at midnight UTC, 1 January 2000.
		attempt := func(eta, retries, executions string, more ...string) http.Header {
			h := http.Header{
				"Content-Type": {"application/json"}, "User-Agent": {"Google-Cloud-Tasks"},
				"X-Cloudtasks-Queuename": {"setups"}, "X-Cloudtasks-Taskname": {"task"}, "X-Cloudtasks-Tasketa": {eta},
				"X-Cloudtasks-Taskretrycount": {retries}, "X-Cloudtasks-Taskexecutioncount": {executions},
			}
			for pair := range slices.Chunk(more, 2) {
				h.Set(pair[0], pair[1])
			}
			return h
		}
		const previous, reason = "X-CloudTasks-TaskPreviousResponse", "X-CloudTasks-TaskRetryReason"
		want := []http.Header{
			attempt("946684800.000000", "0", "0"),
			attempt("946684801.500000", "1", "0", previous, "503", reason, "response 503"),
			attempt("946684803.000000", "2", "1", previous, "404", reason, "response 404"),
			attempt("946684804.500000", "3", "1", reason, "no response"),
			attempt("946684806.000000", "4", "2", previous, "302", reason, "response 302"),
		}
		if diff := cmp.Diff(want, headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
}

func TestIdleWaitsForScheduledTasksAndThoseThatRunningOnesEnqueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, steps := time.Now(), 0
		var q *memory.Queue
		q = start(t, memory.Options{}, func(*http.Request) (int, error) {
			time.Sleep(time.Second)
			if steps++; steps < 3 {
				if err := q.Enqueue(t.Context(), connect.Task{Function: "work", Name: connect.NewID(), At: time.Now().Add(time.Hour)}); err != nil {
					t.Error(err)
				}
			}
			return 200, nil
		})
		idle(t, q) // nothing has been enqueued
		enqueue(t, q, "first")
		idle(t, q)
		if took := time.Since(began); steps != 3 || took != 2*time.Hour+3*time.Second {
			t.Errorf("idle after %d steps and %v", steps, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		steps = 0
		enqueue(t, q, "later")
		if err := q.Idle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Idle returned %v before the queue was idle", err)
		}
		idle(t, q)
	})
}

func TestCloseWaitsForRunningTasksAndDropsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary()
		q := start(t, memory.Options{MaxConcurrent: 2}, func(*http.Request) (int, error) {
			time.Sleep(time.Minute)
			d.note()
			return 503, nil
		})
		enqueue(t, q, "running", "running-too", "waiting")
		if err := q.Enqueue(t.Context(), connect.Task{Function: "work", Name: "later", At: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := q.Close(t.Context()); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := q.Enqueue(t.Context(), connect.Task{Function: "work", Name: "new"}); connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("Enqueue after Close returned %v", err)
		}
		both.Wait()
		time.Sleep(24 * time.Hour)
		d.want(t, "1m0s", "1m0s")
	})
}

func TestCloseCutsOffWhatItCannotWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := newDiary()
		q := start(t, memory.Options{}, func(r *http.Request) (int, error) {
			<-r.Context().Done()
			ended.note()
			return 0, r.Context().Err()
		})
		enqueue(t, q, "endless")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := q.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returned %v", err)
		}
		idle(t, q)
		ended.want(t, "3s")
	})
}

func TestTaskForAFunctionThatIsNotThereIsInvalid(t *testing.T) {
	q := start(t, memory.Options{}, func(*http.Request) (int, error) { return 200, nil })
	err := q.Enqueue(t.Context(), connect.Task{Function: "unknown", Name: "task"})
	if connect.CodeOf(err) != connect.Invalid {
		t.Errorf("Enqueue returned %v, want Invalid", err)
	}
}

func TestRedirectIsAFailureAndIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		paths := []string{}
		q := start(t, memory.Options{MaxAttempts: 2}, func(r *http.Request) (int, error) {
			paths = append(paths, r.URL.Path)
			return 307, nil
		})
		enqueue(t, q, "task")
		idle(t, q)
		if diff := cmp.Diff([]string{"/work", "/work"}, paths); diff != "" {
			t.Errorf("paths (-want +got):\n%s", diff)
		}
	})
}
