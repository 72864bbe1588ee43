package tasks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	location = "projects/p/locations/l"
	setups   = location + "/queues/setups"
)

// target is where tasks go: a transport without a network, so that tests run
// on the clock of a testing/synctest bubble.
type target struct {
	answer func(n int, r *http.Request) (int, error) // to the nth request; nil: 200
	began  time.Time

	mu   sync.Mutex
	came []arrival
}

// arrival is a request that came, and when, since the target was made.
type arrival struct {
	after  time.Duration
	id     string
	header http.Header
}

// harness is a server with a queue and a target, in a bubble.
type harness struct {
	*Server
	in    *target
	t     *testing.T
	began time.Time
}

func (in *target) RoundTrip(r *http.Request) (*http.Response, error) {
	in.mu.Lock()
	in.came = append(in.came, arrival{time.Since(in.began), r.Header.Get("X-CloudTasks-TaskName"), r.Header})
	n := len(in.came)
	in.mu.Unlock()
	code, err := http.StatusOK, error(nil)
	if in.answer != nil {
		code, err = in.answer(n, r)
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (h *harness) times() (after []time.Duration) {
	h.in.mu.Lock()
	defer h.in.mu.Unlock()
	for _, a := range h.in.came {
		after = append(after, a.after)
	}
	return after
}

// bubble runs body over a server with a queue of this configuration.
func bubble(t *testing.T, config *cloudtaskspb.Queue, answer func(n int, r *http.Request) (int, error), body func(*harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{in: &target{answer: answer, began: time.Now()}, t: t, began: time.Now()}
		var err error
		if h.Server, err = NewServer(Options{Client: &http.Client{Transport: h.in}}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		if config == nil {
			config = &cloudtaskspb.Queue{}
		}
		config.Name = setups
		if _, err := h.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: config}); err != nil {
			t.Fatal(err)
		}
		body(h)
	})
}

func named(id string) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{
		Name:        setups + "/tasks/" + id,
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://target.example/" + id, Body: []byte("{}")}},
	}
}

func (h *harness) create(t *cloudtaskspb.Task) error {
	_, err := h.CreateTask(h.t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: setups, Task: t})
	return err
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) code(what string, err error, want codes.Code) {
	h.t.Helper()
	if status.Code(err) != want {
		h.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (h *harness) idle() {
	h.t.Helper()
	h.must(h.Idle(h.t.Context()))
}

func seconds(n float64) *durationpb.Duration {
	return durationpb.New(time.Duration(n * float64(time.Second)))
}

func fails(int, *http.Request) (int, error) { return http.StatusServiceUnavailable, nil }

func TestPausesDoubleThenGrowByTheSameStepUpToTheLargest(t *testing.T) {
	t.Parallel()
	// The example of the documentation of RetryConfig.max_doublings.
	config := &cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 9, MinBackoff: seconds(10), MaxBackoff: seconds(300), MaxDoublings: 3}}
	bubble(t, config, fails, func(h *harness) {
		h.must(h.create(named("a")))
		h.idle()
		var pauses []time.Duration
		times := h.times()
		for i := range times[1:] {
			pauses = append(pauses, times[i+1]-times[i])
		}
		var want []time.Duration
		for _, s := range []int{10, 20, 40, 80, 160, 240, 300, 300} {
			want = append(want, time.Duration(s)*time.Second)
		}
		if diff := cmp.Diff(want, pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		if c := h.Counts(); c.GivenUp != 1 || c.Dispatches != 9 || c.Completed != 0 {
			t.Errorf("counts = %+v", c)
		}
	})
}

func TestRetriesEndWhenBothLimitsAreMet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attempts int32
		duration *durationpb.Duration
		want     int
	}{
		"attempts alone":                         {3, nil, 3},
		"duration alone":                         {-1, seconds(35), 5}, // at 0, 10, 20, 30 and 40 s
		"attempts are met before the duration":   {2, seconds(35), 5},
		"the duration is met before attempts":    {7, seconds(35), 7},
		"none: until something else ends it":     {-1, nil, 0},
		"a second attempt within no time at all": {1, seconds(1), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := &cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{
				MaxAttempts: c.attempts, MaxRetryDuration: c.duration, MinBackoff: seconds(10), MaxBackoff: seconds(10),
			}}
			bubble(t, config, fails, func(h *harness) {
				h.must(h.create(named("a")))
				if c.want == 0 {
					time.Sleep(24 * time.Hour)
					if n := len(h.times()); n < 8000 {
						t.Errorf("%d attempts in a day", n)
					}
					_, err := h.DeleteTask(h.t.Context(), &cloudtaskspb.DeleteTaskRequest{Name: named("a").GetName()})
					h.must(err)
				}
				h.idle()
				if n := len(h.times()); c.want > 0 && n != c.want {
					t.Errorf("%d attempts, want %d", n, c.want)
				}
			})
		})
	}
}

func TestHeadersTellOfTheAttemptsBefore(t *testing.T) {
	t.Parallel()
	answers := []func() (int, error){
		func() (int, error) { return 500, nil }, func() (int, error) { return 404, nil },
		func() (int, error) { return 0, errors.New("refused") }, func() (int, error) { return 200, nil },
	}
	bubble(t, nil, func(n int, _ *http.Request) (int, error) { return answers[n-1]() }, func(h *harness) {
		task := named("a")
		task.GetHttpRequest().Headers = map[string]string{
			"Content-Type": "application/json", "User-Agent": "mine", "X-CloudTasks-QueueName": "mine", "X-Google-Mine": "mine", "Mine": "mine",
		}
		h.must(h.create(task))
		h.idle()
		var got []string
		for _, a := range h.in.came {
			var parts []string
			for _, name := range []string{"RetryCount", "ExecutionCount", "PreviousResponse", "RetryReason"} {
				parts = append(parts, a.header.Get("X-CloudTasks-Task"+name))
			}
			got = append(got, strings.Join(parts, "|"))
			if a.header.Get("User-Agent") != "Google-Cloud-Tasks" || a.header.Get("X-CloudTasks-QueueName") != "setups" ||
				a.header.Get("X-Google-Mine") != "" || a.header.Get("Mine") != "mine" || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("headers = %v", a.header)
			}
		}
		if diff := cmp.Diff([]string{"0|0||", "1|0|500|response 500", "2|1|404|response 404", "3|1||no response"}, got); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		for i, want := range []string{"946684800.000000", "946684800.100000", "946684800.300000", "946684800.700000"} {
			if eta := h.in.came[i].header.Get("X-CloudTasks-TaskETA"); eta != want {
				t.Errorf("attempt %d has the ETA %s, want %s", i, eta, want)
			}
		}
	})
}

func TestATaskWaitsForItsTimeItsRateAndItsPlace(t *testing.T) {
	t.Parallel()
	t.Run("rate below one a second", func(t *testing.T) {
		t.Parallel()
		config := &cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 0.1}}
		bubble(t, config, nil, func(h *harness) {
			for i := range 4 {
				h.must(h.create(named(fmt.Sprint(i))))
			}
			h.idle()
			if diff := cmp.Diff([]time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("concurrency", func(t *testing.T) {
		t.Parallel()
		config := &cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 2}}
		slow := func(int, *http.Request) (int, error) { time.Sleep(time.Minute); return 200, nil }
		bubble(t, config, slow, func(h *harness) {
			for i := range 5 {
				h.must(h.create(named(fmt.Sprint(i))))
			}
			h.idle()
			if diff := cmp.Diff([]time.Duration{0, 0, time.Minute, time.Minute, 2 * time.Minute}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("schedule", func(t *testing.T) {
		t.Parallel()
		bubble(t, nil, nil, func(h *harness) {
			late, early := named("late"), named("early")
			late.ScheduleTime, early.ScheduleTime = timestamppb.New(h.began.Add(time.Hour)), timestamppb.New(h.began.Add(time.Minute))
			h.must(h.create(late))
			h.must(h.create(early))
			h.idle()
			if diff := cmp.Diff([]time.Duration{time.Minute, time.Hour}, h.times()); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	})
}

func TestDispatchDeadlineCutsTheRequestOff(t *testing.T) {
	t.Parallel()
	hangs := func(n int, r *http.Request) (int, error) {
		if n > 1 {
			return 200, nil
		}
		<-r.Context().Done()
		return 0, r.Context().Err()
	}
	bubble(t, nil, hangs, func(h *harness) {
		task := named("a")
		task.DispatchDeadline = seconds(15)
		h.must(h.create(task))
		time.Sleep(15*time.Second + 50*time.Millisecond)
		got, err := h.GetTask(h.t.Context(), &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
		h.must(err)
		if last := got.GetLastAttempt(); codes.Code(last.GetResponseStatus().GetCode()) != codes.DeadlineExceeded || got.GetResponseCount() != 0 || got.GetDispatchCount() != 1 {
			t.Errorf("after the deadline the task is %v", got)
		}
		h.idle()
		if diff := cmp.Diff([]time.Duration{0, 15*time.Second + 100*time.Millisecond}, h.times()); diff != "" {
			t.Errorf("times (-want +got):\n%s", diff)
		}
	})
}

func TestPauseResumePurgeDeleteAndRunWorkTogether(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		ctx := h.t.Context()
		paused, err := h.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: setups})
		h.must(err)
		if paused.GetState() != cloudtaskspb.Queue_PAUSED {
			t.Errorf("the queue is %v", paused.GetState())
		}
		for _, id := range []string{"a", "b", "c"} {
			h.must(h.create(named(id)))
		}
		time.Sleep(time.Hour)
		if n := len(h.times()); n != 0 {
			t.Errorf("a paused queue dispatched %d tasks", n)
		}
		_, err = h.RunTask(ctx, &cloudtaskspb.RunTaskRequest{Name: named("a").GetName()})
		h.must(err)
		synctest.Wait()
		if n := len(h.times()); n != 1 {
			t.Errorf("%d tasks were dispatched, want the one that was to run", n)
		}
		_, err = h.RunTask(ctx, &cloudtaskspb.RunTaskRequest{Name: named("a").GetName()})
		h.code("running a task that is done", err, codes.NotFound)
		_, err = h.DeleteTask(ctx, &cloudtaskspb.DeleteTaskRequest{Name: named("b").GetName()})
		h.must(err)
		h.code("a name that was deleted", h.create(named("b")), codes.AlreadyExists)
		_, err = h.ResumeQueue(ctx, &cloudtaskspb.ResumeQueueRequest{Name: setups})
		h.must(err)
		h.idle()
		if diff := cmp.Diff([]string{"a", "c"}, []string{h.in.came[0].id, h.in.came[1].id}); diff != "" || len(h.in.came) != 2 {
			t.Errorf("tasks that came (-want +got):\n%s", diff)
		}
		late := named("late")
		late.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour))
		h.must(h.create(late))
		purged, err := h.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: setups})
		h.must(err)
		if !purged.GetPurgeTime().AsTime().Equal(now()) {
			t.Errorf("purged at %v", purged.GetPurgeTime().AsTime())
		}
		h.idle()
		h.code("a name that was purged", h.create(named("late")), codes.AlreadyExists)
		h.must(h.create(named("after")))
		h.idle()
		_, err = h.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: location + "/queues/none"})
		h.code("purging a queue that is not there", err, codes.NotFound)
	})
}

func TestATaskThatIsRunWhilePausedAndFailsWaitsForItsRetry(t *testing.T) {
	t.Parallel()
	once := func(n int, _ *http.Request) (int, error) { return map[bool]int{true: 500, false: 200}[n == 1], nil }
	bubble(t, nil, once, func(h *harness) {
		task := named("a")
		task.ScheduleTime = timestamppb.New(h.began.Add(24 * time.Hour))
		h.must(h.create(task))
		_, err := h.RunTask(h.t.Context(), &cloudtaskspb.RunTaskRequest{Name: task.GetName()})
		h.must(err)
		h.idle()
		if diff := cmp.Diff([]time.Duration{0, 100 * time.Millisecond}, h.times()); diff != "" {
			t.Errorf("times (-want +got):\n%s", diff)
		}
	})
}

func TestDeletingWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	slow := func(int, *http.Request) (int, error) { time.Sleep(time.Minute); return 500, nil }
	bubble(t, nil, slow, func(h *harness) {
		ctx := h.t.Context()
		h.must(h.create(named("a")))
		h.must(h.create(named("b")))
		time.Sleep(time.Second)
		_, err := h.DeleteTask(ctx, &cloudtaskspb.DeleteTaskRequest{Name: named("a").GetName()})
		h.must(err)
		_, err = h.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: setups})
		h.must(err)
		h.idle()
		time.Sleep(time.Hour)
		if n := len(h.times()); n != 2 {
			t.Errorf("%d attempts, want no retry of what was deleted", n)
		}
		h.code("a task for a queue that was deleted", h.create(named("c")), codes.NotFound)
	})
}

func TestANameIsFreeAgainAfterADay(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		h.must(h.create(named("a")))
		h.idle()
		time.Sleep(24*time.Hour - time.Second)
		h.code("a name of a task that is done", h.create(named("a")), codes.AlreadyExists)
		time.Sleep(2 * time.Second)
		h.must(h.create(named("a")))
		h.idle()
		if c := h.Counts(); c.Completed != 2 || c.Duplicates != 1 {
			t.Errorf("counts = %+v", c)
		}
	})
}

func TestAnsweredErrors(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		change := func(f func(*cloudtaskspb.Task)) *cloudtaskspb.Task {
			task := named("a")
			f(task)
			return task
		}
		request := func(f func(*cloudtaskspb.HttpRequest)) *cloudtaskspb.Task {
			return change(func(t *cloudtaskspb.Task) { f(t.GetHttpRequest()) })
		}
		for what, task := range map[string]*cloudtaskspb.Task{
			"no task":                      nil,
			"a name of another queue":      change(func(t *cloudtaskspb.Task) { t.Name = location + "/queues/other/tasks/a" }),
			"a name with a dot":            change(func(t *cloudtaskspb.Task) { t.Name += ".b" }),
			"a name that is too long":      named(strings.Repeat("a", 501)),
			"no request":                   change(func(t *cloudtaskspb.Task) { t.MessageType = nil }),
			"a URL that is none":           request(func(r *cloudtaskspb.HttpRequest) { r.Url = "target.example" }),
			"a URL that is too long":       request(func(r *cloudtaskspb.HttpRequest) { r.Url += strings.Repeat("x", 2083) }),
			"a body for GET":               request(func(r *cloudtaskspb.HttpRequest) { r.HttpMethod = cloudtaskspb.HttpMethod_GET }),
			"headers that are too large":   request(func(r *cloudtaskspb.HttpRequest) { r.Headers = map[string]string{"h": strings.Repeat("x", 80<<10)} }),
			"a task that is too large":     request(func(r *cloudtaskspb.HttpRequest) { r.Body = make([]byte, 1<<20) }),
			"a time that is too far":       change(func(t *cloudtaskspb.Task) { t.ScheduleTime = timestamppb.New(time.Now().Add(31 * 24 * time.Hour)) }),
			"a deadline that is too short": change(func(t *cloudtaskspb.Task) { t.DispatchDeadline = seconds(14) }),
			"a deadline that is too long":  change(func(t *cloudtaskspb.Task) { t.DispatchDeadline = seconds(1801) }),
			"a token of nobody": request(func(r *cloudtaskspb.HttpRequest) {
				r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{}}
			}),
		} {
			_, err := h.CreateTask(h.t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: setups, Task: task})
			h.code(what, err, codes.InvalidArgument)
		}
		_, err := h.CreateTask(h.t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: location + "/queues/none", Task: &cloudtaskspb.Task{MessageType: named("a").GetMessageType()}})
		h.code("a queue that is not there", err, codes.NotFound)
		_, err = h.GetTask(h.t.Context(), &cloudtaskspb.GetTaskRequest{Name: "a"})
		h.code("a task's name that is none", err, codes.InvalidArgument)
		for what, q := range map[string]*cloudtaskspb.Queue{
			"a rate that is too high":    {RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 501}},
			"too many at once":           {RateLimits: &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 5001}},
			"backoffs that cross":        {RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: seconds(2), MaxBackoff: seconds(1)}},
			"attempts below none":        {RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -2}},
			"a name with an underscore_": {Name: location + "/queues/a_b"},
		} {
			if q.GetName() == "" {
				q.Name = location + "/queues/new"
			}
			_, err := h.CreateQueue(h.t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: q})
			h.code(what, err, codes.InvalidArgument)
		}
		_, err = h.CreateQueue(h.t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: setups}})
		h.code("a queue that is there", err, codes.AlreadyExists)
		if c := h.Counts(); c.Created != 0 {
			t.Errorf("counts = %+v", c)
		}
	})
}

func TestQueuesAreConfiguredListedAndChanged(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		ctx := h.t.Context()
		want := &cloudtaskspb.Queue{
			Name: setups, State: cloudtaskspb.Queue_RUNNING,
			RateLimits:  &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxBurstSize: 500, MaxConcurrentDispatches: 1000},
			RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 100, MinBackoff: seconds(0.1), MaxBackoff: seconds(3600), MaxDoublings: 16},
		}
		got, err := h.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: setups})
		h.must(err)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("defaults (-want +got):\n%s", diff)
		}
		got, err = h.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{
			Queue: &cloudtaskspb.Queue{
				Name: setups, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 2.5, MaxConcurrentDispatches: 7},
				RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 5},
			},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"rate_limits.max_dispatches_per_second", "retry_config.max_attempts"}},
		})
		h.must(err)
		want.RateLimits.MaxDispatchesPerSecond, want.RateLimits.MaxBurstSize, want.RetryConfig.MaxAttempts = 2.5, 3, 5
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
		for _, path := range []string{"state", "retry_config.nothing", "rate_limits.max_burst_size.x"} {
			_, err = h.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: setups}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{path}}})
			h.code("changing "+path, err, codes.InvalidArgument)
		}
		for _, id := range []string{"c", "a", "b"} {
			_, err := h.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: location + "/queues/" + id}})
			h.must(err)
		}
		var names []string
		for token := ""; ; {
			page, err := h.ListQueues(ctx, &cloudtaskspb.ListQueuesRequest{Parent: location, PageSize: 3, PageToken: token})
			h.must(err)
			for _, q := range page.GetQueues() {
				names = append(names, strings.TrimPrefix(q.GetName(), location+"/queues/"))
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "setups"}, names); diff != "" {
			t.Errorf("queues (-want +got):\n%s", diff)
		}
	})
}

func TestTasksAreShownWithoutTheirBodyUnlessAskedFor(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		ctx := h.t.Context()
		_, err := h.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: setups})
		h.must(err)
		for _, id := range []string{"c", "a", "b"} {
			h.must(h.create(named(id)))
		}
		basic, err := h.ListTasks(ctx, &cloudtaskspb.ListTasksRequest{Parent: setups, PageSize: 2})
		h.must(err)
		full, err := h.ListTasks(ctx, &cloudtaskspb.ListTasksRequest{Parent: setups, PageToken: basic.GetNextPageToken(), ResponseView: cloudtaskspb.Task_FULL})
		h.must(err)
		if len(basic.GetTasks()) != 2 || len(basic.GetTasks()[0].GetHttpRequest().GetBody()) != 0 || len(full.GetTasks()) != 1 || full.GetNextPageToken() != "" {
			t.Errorf("pages are %v and %v", basic, full)
		}
		want := named("c")
		want.GetHttpRequest().HttpMethod = cloudtaskspb.HttpMethod_POST
		want.CreateTime, want.ScheduleTime, want.DispatchDeadline = timestamppb.New(h.began), timestamppb.New(h.began), seconds(600)
		want.View = cloudtaskspb.Task_FULL
		if diff := cmp.Diff(want, full.GetTasks()[0], protocmp.Transform()); diff != "" {
			t.Errorf("task (-want +got):\n%s", diff)
		}
		_, err = h.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: setups})
		h.must(err)
	})
}

func TestFiveThousandTasksNoneLostAndNoneDoubled(t *testing.T) {
	t.Parallel()
	const tasks = 5000
	sometimes := func(n int, _ *http.Request) (int, error) {
		switch n % 10 {
		case 0:
			return 503, nil
		case 1:
			return 0, errors.New("connection refused") // the target is down
		}
		return 200, nil
	}
	bubble(t, nil, sometimes, func(h *harness) {
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				for j := range tasks / 25 { // each name by two
					err := h.create(named(fmt.Sprint(i/2*tasks/25 + j)))
					if c := status.Code(err); c != codes.OK && c != codes.AlreadyExists {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		h.idle()
		first := map[string]int{}
		for _, a := range h.in.came {
			if a.header.Get("X-CloudTasks-TaskRetryCount") == "0" {
				first[a.id]++
			}
		}
		for id, n := range first {
			if n != 1 {
				t.Errorf("task %s came %d times anew", id, n)
			}
		}
		if c := h.Counts(); len(first) != tasks || c.Created != tasks || c.Duplicates != tasks || c.Completed != tasks || c.GivenUp != 0 {
			t.Errorf("%d tasks came: %+v", len(first), c)
		}
	})
}

func TestOfManyCallersWithOneNameOneWins(t *testing.T) {
	t.Parallel()
	bubble(t, nil, nil, func(h *harness) {
		for round := range 20 {
			var group sync.WaitGroup
			var mu sync.Mutex
			var got []codes.Code
			for range 50 {
				group.Go(func() {
					err := h.create(named(fmt.Sprint(round)))
					mu.Lock()
					defer mu.Unlock()
					got = append(got, status.Code(err))
				})
			}
			group.Wait()
			slices.Sort(got)
			if got[0] != codes.OK || got[1] != codes.AlreadyExists {
				t.Fatalf("answers are %v", got)
			}
		}
		h.idle()
		if n := len(h.times()); n != 20 {
			t.Errorf("%d tasks came, want 20", n)
		}
	})
}

func TestCloseWaitsForWhatIsUnderWayAsLongAsItMay(t *testing.T) {
	t.Parallel()
	hangs := func(_ int, r *http.Request) (int, error) {
		<-r.Context().Done()
		return 0, r.Context().Err()
	}
	bubble(t, nil, hangs, func(h *harness) {
		h.must(h.create(named("a")))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Close took %v and returned %v", time.Since(began), err)
		}
	})
}
