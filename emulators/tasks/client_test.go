package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gcpconnect/emulators/tasks"
)

const (
	shop   = "projects/p/locations/l"
	orders = shop + "/queues/orders"
)

// shopfront is a server with a queue and the published client of it, which
// speak over a connection.
type shopfront struct {
	*tasks.Server
	client *cloudtasks.Client
	t      *testing.T
}

// serve serves a queue whose retries come fast.
func serve(t *testing.T) *shopfront {
	t.Helper()
	server, err := tasks.NewServer(tasks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	client, err := cloudtasks.NewClient(t.Context(), option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(client.Close(), server.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	_, err = client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: shop, Queue: &cloudtaskspb.Queue{
		Name:        orders,
		RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(5 * time.Millisecond), MaxBackoff: durationpb.New(20 * time.Millisecond)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &shopfront{server, client, t}
}

func (s *shopfront) order(id, url string) error {
	_, err := s.client.CreateTask(s.t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: orders, Task: &cloudtaskspb.Task{
		Name:        orders + "/tasks/" + id,
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url, Body: []byte("{}")}},
	}})
	return err
}

func (s *shopfront) idle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.Idle(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func TestATaskOfTheRealClientComesWithTheseHeadersAndNoOthers(t *testing.T) {
	t.Parallel()
	s := serve(t)
	type request struct {
		Method, Path, Body, Host string
		Header                   http.Header
	}
	came := make(chan request, 10)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		came <- request{r.Method, r.URL.String(), string(body), r.Host, r.Header}
	}))
	defer target.Close()
	task, err := s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: orders, Task: &cloudtaskspb.Task{
		Name: orders + "/tasks/one", ScheduleTime: timestamppb.New(time.Now().Add(20 * time.Millisecond)),
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url: target.URL + "/work?now=1", HttpMethod: cloudtaskspb.HttpMethod_PUT, Body: []byte("body"),
			Headers: map[string]string{"Content-Type": "text/plain", "Mine": "mine", "Host": "mine.example", "X-CloudTasks-TaskName": "mine"},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := task.GetScheduleTime().AsTime() // now, if the call took longer than that
	want := request{http.MethodPut, "/work?now=1", "body", strings.TrimPrefix(target.URL, "http://"), http.Header{
		"Accept-Encoding":                 {"gzip"}, // of Go's client
		"Content-Length":                  {"4"},
		"Content-Type":                    {"text/plain"},
		"Mine":                            {"mine"},
		"User-Agent":                      {"Google-Cloud-Tasks"},
		"X-Cloudtasks-Queuename":          {"orders"},
		"X-Cloudtasks-Taskname":           {"one"},
		"X-Cloudtasks-Taskretrycount":     {"0"},
		"X-Cloudtasks-Taskexecutioncount": {"0"},
		"X-Cloudtasks-Tasketa":            {fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1000)},
	}}
	if diff := cmp.Diff(want, <-came); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if time.Now().Before(at) {
		t.Error("it came before its time")
	}
	s.idle()
	if c := s.Counts(); c != (tasks.Counts{Created: 1, Dispatches: 1, Completed: 1}) {
		t.Errorf("counts = %+v", c)
	}
}

func TestATaskWithoutANameGetsOne(t *testing.T) {
	t.Parallel()
	s := serve(t)
	target := httptest.NewServer(http.NotFoundHandler())
	target.Close()
	seen := map[string]bool{}
	for range 10 {
		task, err := s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: orders, Task: &cloudtaskspb.Task{
			ScheduleTime: timestamppb.New(time.Now().Add(time.Hour)),
			MessageType:  &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: target.URL}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if seen[task.GetName()] || !regexp.MustCompile(`^`+orders+`/tasks/\w{20,}$`).MatchString(task.GetName()) {
			t.Errorf("a task is named %q", task.GetName())
		}
		seen[task.GetName()] = true
	}
	listed := 0
	for all := s.client.ListTasks(t.Context(), &cloudtaskspb.ListTasksRequest{Parent: orders, PageSize: 3}); ; listed++ {
		task, err := all.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !seen[task.GetName()] {
			t.Errorf("listed is %q", task.GetName())
		}
		delete(seen, task.GetName())
	}
	if listed != 10 {
		t.Errorf("%d tasks are listed", listed)
	}
	if err := s.client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: orders}); err != nil {
		t.Error(err)
	}
	s.idle()
}

func TestOfFiveThousandTasksOfTheRealClientNoneIsLostAndNoneComesTwice(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const callers, each = 50, 100
	var mu sync.Mutex
	came := map[string]int{}
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came[r.Header.Get("X-CloudTasks-TaskName")]++
	}))
	defer target.Close()
	// In a paused queue all 5,000 wait at once, and its rate is not what is tested.
	if _, err := s.client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: orders}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for n := range each {
				id := strconv.Itoa(caller*each + n)
				err := s.order(id, target.URL)
				if err == nil {
					_, err = s.client.RunTask(t.Context(), &cloudtaskspb.RunTaskRequest{Name: orders + "/tasks/" + id})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s.idle()
	for id, n := range came {
		if n != 1 {
			t.Errorf("task %s came %d times", id, n)
		}
	}
	if len(came) != callers*each {
		t.Errorf("%d tasks came", len(came))
	}
}

func TestANameOfFiftyRealCallersIsTakenOnceAndStaysTaken(t *testing.T) {
	t.Parallel()
	s := serve(t)
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	var mu sync.Mutex
	got := map[codes.Code]int{}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			code := status.Code(s.order("one", target.URL))
			mu.Lock()
			defer mu.Unlock()
			got[code]++
		})
	}
	group.Wait()
	s.idle()
	got[status.Code(s.order("one", target.URL))]++
	if diff := cmp.Diff(map[codes.Code]int{codes.OK: 1, codes.AlreadyExists: 50}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if c := s.Counts(); c != (tasks.Counts{Created: 1, Duplicates: 50, Dispatches: 1, Completed: 1}) {
		t.Errorf("counts = %+v", c)
	}
}

func TestATargetThatIsDownIsTriedUntilItIsUp(t *testing.T) {
	t.Parallel()
	s := serve(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	if err := s.order("one", "http://"+address); err != nil {
		t.Fatal(err)
	}
	for s.Counts().Dispatches < 3 {
		time.Sleep(time.Millisecond) // a socket is no part of a bubble
	}
	if listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address); err != nil {
		t.Skipf("another took the address: %v", err)
	}
	came := make(chan http.Header, 10)
	target := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- r.Header })}
	defer target.Close()
	go target.Serve(listener)
	header := <-came
	if header.Get("X-CloudTasks-TaskExecutionCount") != "0" || header.Get("X-CloudTasks-TaskPreviousResponse") != "" ||
		header.Get("X-CloudTasks-TaskRetryCount") < "2" && len(header.Get("X-CloudTasks-TaskRetryCount")) == 1 {
		t.Errorf("headers = %v", header)
	}
	s.idle()
	if c := s.Counts(); c.Completed != 1 || c.GivenUp != 0 {
		t.Errorf("counts = %+v", c)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var once sync.Once
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Errorf("the redirect to %s was followed", r.URL.Path)
		}
		once.Do(func() { http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect) })
	}))
	defer target.Close()
	if err := s.order("one", target.URL); err != nil {
		t.Fatal(err)
	}
	s.idle()
	if c := s.Counts(); c.Dispatches != 2 || c.Completed != 1 {
		t.Errorf("counts = %+v, want the redirect to be a failure", c)
	}
}
