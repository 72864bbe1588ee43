package tasks

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// reopen starts a server over a copy of the file of one that is still there:
// what a kill -9 at this instant would leave. tear is added to the copy.
func reopen(t *testing.T, file, tear string, answer func(int, *http.Request) (int, error)) *harness {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(t.TempDir(), "tasks")
	if err := os.WriteFile(left, append(content, tear...), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &harness{in: &target{answer: answer, began: time.Now()}, t: t, began: time.Now()}
	if h.Server, err = NewServer(Options{Client: &http.Client{Transport: h.in}, File: left}); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAnAbruptEndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, tear := range map[string]string{"between two lines": "", "in a line": `{"task":{"name":"projects/p/loc`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "tasks")
				slow := func(_ int, r *http.Request) (int, error) {
					switch r.Header.Get("X-Cloudtasks-Taskname") {
					case "done":
						return 200, nil
					case "failed":
						return 404, nil
					}
					time.Sleep(time.Minute)
					return 200, nil
				}
				h := &harness{in: &target{answer: slow, began: time.Now()}, t: t, began: time.Now()}
				var err error
				if h.Server, err = NewServer(Options{Client: &http.Client{Transport: h.in}, File: file}); err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				for _, queue := range []string{setups, location + "/queues/gone", location + "/queues/paused"} {
					_, err = h.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
						Name: queue, RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: seconds(30)},
					}})
					h.must(err)
				}
				_, err = h.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: location + "/queues/paused"})
				h.must(err)
				_, err = h.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: location + "/queues/gone"})
				h.must(err)
				late := named("late")
				late.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour))
				for _, task := range []*cloudtaskspb.Task{named("done"), named("failed"), named("underway"), late, named("deleted")} {
					h.must(h.create(task))
				}
				_, err = h.DeleteTask(ctx, &cloudtaskspb.DeleteTaskRequest{Name: named("deleted").GetName()})
				h.must(err)
				synctest.Wait()

				again := reopen(t, file, tear, nil)
				if again.Counts().Dispatches != 1 { // the one that was under way, at once
					t.Errorf("counts after the restart = %+v", again.Counts())
				}
				again.idle()
				came := map[string]string{}
				for _, a := range again.in.came {
					came[a.id] += a.after.String() + " retry " + a.header.Get("X-CloudTasks-TaskRetryCount")
				}
				if came["underway"] != "0s retry 0" || came["failed"] != "30s retry 1" || came["late"] != "1h0m0s retry 0" || len(came) != 3 {
					t.Errorf("after the restart came %v", came)
				}
				for _, id := range []string{"done", "failed", "deleted"} {
					again.code("a name from before the restart", again.create(named(id)), codes.AlreadyExists)
				}
				_, err = again.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: location + "/queues/gone"})
				again.code("a queue that was deleted", err, codes.NotFound)
				paused, err := again.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: location + "/queues/paused"})
				if err != nil || paused.GetState() != cloudtaskspb.Queue_PAUSED {
					t.Errorf("the paused queue is %v, %v", paused, err)
				}
				again.must(again.Close(ctx))
				_, err = h.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: setups})
				h.must(err)
				h.must(h.Close(ctx))
			})
		})
	}
}

func TestAFileThatIsNoneOfOursIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tasks")
	if err := os.WriteFile(file, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(Options{File: file}); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("NewServer: %v, want an error that names the file and the line", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious\n" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

func TestWhatCannotBeKeptIsRefusedAndTakesNoName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tasks")
		h := &harness{in: &target{began: time.Now()}, t: t, began: time.Now()}
		var err error
		if h.Server, err = NewServer(Options{Client: &http.Client{Transport: h.in}, File: file}); err != nil {
			t.Fatal(err)
		}
		_, err = h.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: setups}})
		h.must(err)
		h.must(h.create(named("kept")))
		h.idle()

		writable := h.journal.file
		if h.journal.file, err = os.Open(file); err != nil { // for reading alone: as with a disk that is full
			t.Fatal(err)
		}
		h.code("a task that cannot be kept", h.create(named("a")), codes.Unavailable)
		_, err = h.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: setups})
		h.code("a pause that cannot be kept", err, codes.Unavailable)
		h.must(h.journal.file.Close())
		h.journal.file = writable
		_, err = h.ResumeQueue(t.Context(), &cloudtaskspb.ResumeQueueRequest{Name: setups})
		h.must(err)
		h.must(h.create(named("a")))
		h.idle()

		again := reopen(t, file, "", nil)
		if n := len(again.in.came); n != 0 {
			t.Errorf("%d tasks came again", n)
		}
		for _, id := range []string{"kept", "a"} {
			again.code("a name from before the restart", again.create(named(id)), codes.AlreadyExists)
		}
		again.must(again.Close(t.Context()))
		h.must(h.Close(t.Context()))
	})
}

func TestAFileIsReadWhereverItIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tasks")
		h := &harness{in: &target{answer: fails, began: time.Now()}, t: t, began: time.Now()}
		var err error
		if h.Server, err = NewServer(Options{Client: &http.Client{Transport: h.in}, File: file}); err != nil {
			t.Fatal(err)
		}
		_, err = h.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
			Name: setups, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2},
		}})
		h.must(err)
		h.must(h.create(named("a")))
		h.idle()
		h.must(h.create(named("b")))
		_, err = h.PurgeQueue(t.Context(), &cloudtaskspb.PurgeQueueRequest{Name: setups})
		h.must(err)
		h.must(h.Close(t.Context()))
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(content); n += 23 {
			left := filepath.Join(t.TempDir(), "tasks")
			if err := os.WriteFile(left, content[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			cut, err := NewServer(Options{Client: &http.Client{Transport: &target{began: time.Now()}}, File: left})
			if err != nil {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
			h.must(cut.Idle(t.Context()))
			h.must(cut.Close(t.Context()))
		}
	})
}
