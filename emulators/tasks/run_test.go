package tasks

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (h *harness) run(id string) {
	h.t.Helper()
	_, err := h.RunTask(h.t.Context(), &cloudtaskspb.RunTaskRequest{Name: named(id).GetName()})
	h.must(err)
}

func TestRunningATaskNow(t *testing.T) {
	t.Parallel()
	// The nth attempt is answered so, a minute after it began.
	answers := func(codes ...int) func(int, *http.Request) (int, error) {
		return func(n int, _ *http.Request) (int, error) {
			time.Sleep(time.Minute)
			return codes[n-1], nil
		}
	}
	config := func() *cloudtaskspb.Queue {
		return &cloudtaskspb.Queue{
			RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: seconds(90), MaxBackoff: seconds(90)},
			RateLimits:  &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 1},
		}
	}
	t.Run("counts the retry's pause from the call and not from the end of the attempt", func(t *testing.T) {
		t.Parallel()
		bubble(t, config(), answers(500, 200), func(h *harness) {
			task := named("a")
			task.ScheduleTime = timestamppb.New(h.began.Add(24 * time.Hour))
			h.must(h.create(task))
			time.Sleep(time.Second)
			h.run("a")
			h.idle()
			if diff := cmp.Diff([]time.Duration{time.Second, 91 * time.Second}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("attempts once more what is under way, over the limit of the queue, and one success is enough", func(t *testing.T) {
		t.Parallel()
		bubble(t, config(), answers(500, 200), func(h *harness) {
			h.must(h.create(named("a")))
			time.Sleep(time.Second)
			h.run("a")
			h.idle()
			if diff := cmp.Diff([]time.Duration{0, time.Second}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
			if c := h.Counts(); c.Completed != 1 || c.Dispatches != 2 {
				t.Errorf("counts = %+v", c)
			}
		})
	})
	t.Run("is done when the first attempt succeeds, whatever the other comes to", func(t *testing.T) {
		t.Parallel()
		bubble(t, config(), answers(200, 500), func(h *harness) {
			h.must(h.create(named("a")))
			time.Sleep(time.Second)
			h.run("a")
			h.idle()
			time.Sleep(time.Hour)
			if c := h.Counts(); len(h.times()) != 2 || c.Completed != 1 || c.GivenUp != 0 {
				t.Errorf("after %v counts = %+v", h.times(), c)
			}
		})
	})
	t.Run("retries once when both attempts fail", func(t *testing.T) {
		t.Parallel()
		bubble(t, config(), answers(500, 404, 200), func(h *harness) {
			h.must(h.create(named("a")))
			time.Sleep(time.Second)
			h.run("a")
			time.Sleep(time.Minute + time.Second)
			got, err := h.GetTask(h.t.Context(), &cloudtaskspb.GetTaskRequest{Name: named("a").GetName()})
			h.must(err)
			if got.GetDispatchCount() != 2 || got.GetResponseCount() != 2 || got.GetLastAttempt().GetResponseStatus().GetMessage() != "HTTP status code 404" ||
				!got.GetFirstAttempt().GetDispatchTime().AsTime().Equal(h.began) || !got.GetScheduleTime().AsTime().Equal(h.began.Add(91*time.Second)) {
				t.Errorf("the task is %v", got)
			}
			h.idle()
			if diff := cmp.Diff([]time.Duration{0, time.Second, 91 * time.Second}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("can be deleted while it runs twice", func(t *testing.T) {
		t.Parallel()
		bubble(t, config(), answers(500, 500), func(h *harness) {
			h.must(h.create(named("a")))
			synctest.Wait()
			h.run("a")
			_, err := h.DeleteTask(h.t.Context(), &cloudtaskspb.DeleteTaskRequest{Name: named("a").GetName()})
			h.must(err)
			h.idle()
			time.Sleep(time.Hour)
			if n := len(h.times()); n != 2 {
				t.Errorf("%d attempts", n)
			}
		})
	})
}

func TestATasksOwnWayToRetryGoesBeforeItsQueues(t *testing.T) {
	t.Parallel()
	config := &cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 9, MinBackoff: seconds(1), MaxBackoff: seconds(1)}}
	bubble(t, config, fails, func(h *harness) {
		task := named("a")
		task.RetryConfig = &cloudtaskspb.RetryConfig{MaxAttempts: 3, MinBackoff: seconds(60), MaxBackoff: seconds(90)}
		h.must(h.create(task))
		h.idle()
		if diff := cmp.Diff([]time.Duration{0, time.Minute, 150 * time.Second}, h.times()); diff != "" {
			t.Errorf("times (-want +got):\n%s", diff)
		}
	})
}

func TestATaskIsGivenUpBeforeItIsMoreThan31DaysOld(t *testing.T) {
	t.Parallel()
	config := &cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: seconds(24 * 3600), MaxBackoff: seconds(24 * 3600)}}
	bubble(t, config, fails, func(h *harness) {
		h.must(h.create(named("a")))
		h.idle()
		if n, c := len(h.times()), h.Counts(); n != 32 || c.GivenUp != 1 { // on day 0 to 31
			t.Errorf("%d attempts, counts = %+v", n, c)
		}
	})
}

func TestFieldsThatAreNoValues(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		for what, change := range map[string]func(*cloudtaskspb.Task){
			"text that is no UTF-8":           func(t *cloudtaskspb.Task) { t.GetHttpRequest().Url += "\xff" },
			"a time out of range":             func(t *cloudtaskspb.Task) { t.ScheduleTime = &timestamppb.Timestamp{Seconds: -1 << 40} },
			"a deadline whose signs differ":   func(t *cloudtaskspb.Task) { t.DispatchDeadline = &durationpb.Duration{Seconds: 60, Nanos: -1} },
			"a header's name with a space":    func(t *cloudtaskspb.Task) { t.GetHttpRequest().Headers = map[string]string{"a b": "c"} },
			"a header with a line break":      func(t *cloudtaskspb.Task) { t.GetHttpRequest().Headers = map[string]string{"a": "b\r\nc: d"} },
			"a URL too long when encoded":     func(t *cloudtaskspb.Task) { t.GetHttpRequest().Url += strings.Repeat("ä", 900) },
			"its own retries, fewer than all": func(t *cloudtaskspb.Task) { t.RetryConfig = &cloudtaskspb.RetryConfig{MaxAttempts: -2} },
		} {
			task := named("a")
			change(task)
			h.code(what, h.create(task), codes.InvalidArgument)
		}
		_, err := h.UpdateQueue(h.t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
			Name: setups, RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: &durationpb.Duration{Seconds: 1, Nanos: -1}},
		}})
		h.code("a backoff whose signs differ", err, codes.InvalidArgument)
		_, err = h.ListQueues(h.t.Context(), &cloudtaskspb.ListQueuesRequest{Parent: "projects/p"})
		h.code("queues of no location", err, codes.InvalidArgument)
	})
}

func TestAServerThatIsClosedTakesNoTask(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		h.must(h.Close(h.t.Context()))
		h.code("a task", h.create(named("a")), codes.Unavailable)
	})
}
