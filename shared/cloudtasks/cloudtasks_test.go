package cloudtasks_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gcpconnect/shared/cloudtasks"
	"gcpconnect/shared/connect"
)

const queueName = "projects/aurora/locations/europe-west1/queues/setups"

// recorder answers CreateTask with what answer says and keeps the requests.
// What Cloud Tasks does with a task is tested against the emulators.
type recorder struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	answer func(n int) error

	mu       sync.Mutex
	requests []*cloudtaskspb.CreateTaskRequest
}

func (r *recorder) CreateTask(_ context.Context, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	r.mu.Lock()
	r.requests = append(r.requests, req)
	n := len(r.requests)
	r.mu.Unlock()
	if err := r.answer(n); err != nil {
		return nil, err
	}
	return req.GetTask(), nil
}

// open serves r and returns a queue that enqueues there.
func open(t *testing.T, r *recorder, change func(*cloudtasks.Options)) *cloudtasks.Queue {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	cloudtaskspb.RegisterCloudTasksServer(g, r)
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	o := cloudtasks.Options{
		Queue: queueName, URL: func(f string) string { return "https://functions.example.com/" + f },
		ServiceAccount: "queue@aurora.iam.gserviceaccount.com", Audience: "https://functions.example.com",
		DispatchDeadline: 110 * time.Second, Emulator: listener.Addr().String(),
	}
	if change != nil {
		change(&o)
	}
	q, err := cloudtasks.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func TestWholeRequest(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: func(int) error { return nil }}
	q := open(t, r, nil)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 0xf9, 15: 0x36}, SpanID: trace.SpanID{0x00, 0xf0, 7: 0xb7}, TraceFlags: trace.FlagsSampled,
	})
	soon := connect.Task{Function: "enable-apis", Name: "3f2a", Body: []byte(`{"setup":"s"}`), At: time.Now().Add(time.Hour)}
	if err := q.Enqueue(trace.ContextWithSpanContext(t.Context(), span), soon); err != nil {
		t.Fatal(err)
	}
	want := []*cloudtaskspb.CreateTaskRequest{{
		Parent: queueName,
		Task: &cloudtaskspb.Task{
			Name: queueName + "/tasks/3f2a",
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url: "https://functions.example.com/enable-apis", HttpMethod: cloudtaskspb.HttpMethod_POST,
				Headers: map[string]string{
					"Content-Type": "application/json",
					"traceparent":  "00-4bf90000000000000000000000000036-00f00000000000b7-01",
				},
				Body: []byte(`{"setup":"s"}`),
				AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
					ServiceAccountEmail: "queue@aurora.iam.gserviceaccount.com", Audience: "https://functions.example.com",
				}},
			}},
			ScheduleTime: timestamppb.New(soon.At), DispatchDeadline: durationpb.New(110 * time.Second),
		},
	}}
	if diff := cmp.Diff(want, r.requests, protocmp.Transform()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestAFunctionMayHaveAQueueOfItsOwn(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: func(int) error { return nil }}
	other := strings.Replace(queueName, "/queues/", "/queues/other-", 1)
	q := open(t, r, func(o *cloudtasks.Options) { o.Others = map[string]string{"g": other, "h": ""} })
	for function, want := range map[string]string{"f": queueName, "g": other, "h": queueName} {
		if err := q.Enqueue(t.Context(), connect.Task{Function: function, Name: "n"}); err != nil {
			t.Fatal(err)
		}
		last := r.requests[len(r.requests)-1]
		if last.GetParent() != want || last.GetTask().GetName() != want+"/tasks/n" {
			t.Errorf("a task of %s goes to %s as %s, want %s", function, last.GetParent(), last.GetTask().GetName(), want)
		}
	}
}

func TestSmallestRequest(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: func(int) error { return nil }}
	q := open(t, r, func(o *cloudtasks.Options) { o.ServiceAccount, o.DispatchDeadline = "", 0 })
	if err := q.Enqueue(t.Context(), connect.Task{Function: "f", Name: "n"}); err != nil {
		t.Fatal(err)
	}
	want := []*cloudtaskspb.CreateTaskRequest{{
		Parent: queueName,
		Task: &cloudtaskspb.Task{
			Name: queueName + "/tasks/n",
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url: "https://functions.example.com/f", HttpMethod: cloudtaskspb.HttpMethod_POST,
				Headers: map[string]string{"Content-Type": "application/json"},
			}},
		},
	}}
	if diff := cmp.Diff(want, r.requests, protocmp.Transform()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		answers  []codes.Code // then OK
		want     connect.Code
		requests int
	}{
		{"a name that is taken is success", []codes.Code{codes.AlreadyExists}, "", 1},
		{"an answer that was lost is asked for again under the same name", []codes.Code{codes.DeadlineExceeded, codes.Unavailable}, "", 3},
		{"the first attempt may have arrived: then the name is taken", []codes.Code{codes.DeadlineExceeded, codes.AlreadyExists}, "", 2},
		{"a service that is busy or stumbles is asked again", []codes.Code{codes.Aborted, codes.Internal, codes.ResourceExhausted}, "", 4},
		{"what Cloud Tasks refuses is not repeated", []codes.Code{codes.InvalidArgument}, connect.Invalid, 1},
		{"a missing queue may be made", []codes.Code{codes.NotFound}, connect.Unavailable, 1},
		{"a missing permission may be granted", []codes.Code{codes.PermissionDenied}, connect.Unavailable, 1},
		{"a disabled queue may be enabled", []codes.Code{codes.FailedPrecondition}, connect.Unavailable, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{answer: func(n int) error {
				if n > len(c.answers) {
					return nil
				}
				return status.Error(c.answers[n-1], "as the test wants it")
			}}
			err := open(t, r, nil).Enqueue(t.Context(), connect.Task{Function: "f", Name: "n", Body: []byte("{}")})
			if got := connect.CodeOf(err); got != c.want {
				t.Errorf("Enqueue: %v, want code %q", err, c.want)
			}
			if len(r.requests) != c.requests {
				t.Errorf("%d requests, want %d", len(r.requests), c.requests)
			}
			for _, req := range r.requests {
				if diff := cmp.Diff(r.requests[0], req, protocmp.Transform()); diff != "" {
					t.Errorf("a repeated request differs:\n%s", diff)
				}
			}
		})
	}
}

func TestAnAttemptThatHangsIsRepeated(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	r := &recorder{answer: func(n int) error {
		if n == 1 {
			<-release
		}
		return nil
	}}
	q := open(t, r, func(o *cloudtasks.Options) { o.Timeout = 3 * time.Second })
	if err := q.Enqueue(t.Context(), connect.Task{Function: "f", Name: "n"}); err != nil {
		t.Errorf("Enqueue: %v", err)
	}
}

func TestUnknownFunctionsGetNoTask(t *testing.T) {
	t.Parallel()
	r := &recorder{answer: func(int) error { return nil }}
	q := open(t, r, func(o *cloudtasks.Options) { o.URL = func(string) string { return "" } })
	if err := q.Enqueue(t.Context(), connect.Task{Function: "f", Name: "n"}); connect.CodeOf(err) != connect.Invalid || len(r.requests) != 0 {
		t.Errorf("Enqueue: %v after %d requests, want Invalid after none", err, len(r.requests))
	}
}

func TestQueueThatIsDown(t *testing.T) {
	t.Parallel()
	q := open(t, &recorder{}, func(o *cloudtasks.Options) { o.Emulator, o.Timeout = "127.0.0.1:1", 300*time.Millisecond })
	err := q.Enqueue(t.Context(), connect.Task{Function: "f", Name: "n"})
	if connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("Enqueue: %v, want Unavailable", err)
	}
}

func TestNew_RefusesMissingOptions(t *testing.T) {
	t.Parallel()
	good := cloudtasks.Options{Queue: "projects/p/locations/l/queues/q", URL: func(string) string { return "https://f.example" }, ServiceAccount: "a@p.iam.gserviceaccount.com"}
	for name, spoil := range map[string]func(*cloudtasks.Options){
		"queue": func(o *cloudtasks.Options) { o.Queue = "" }, "URL": func(o *cloudtasks.Options) { o.URL = nil },
		"service account": func(o *cloudtasks.Options) { o.ServiceAccount = "" },
	} {
		o := good
		spoil(&o)
		if q, err := cloudtasks.New(t.Context(), o); err == nil {
			t.Errorf("made a queue without its %s", name)
			_ = q.Close()
		}
	}
}
