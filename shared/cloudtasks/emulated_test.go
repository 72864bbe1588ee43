package cloudtasks_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/emulators/tasks"
	"gcpconnect/shared/cloudtasks"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
)

// An emulator that others wrote takes our tasks and delivers them as we meant.
// It is no measure for more: it takes a name twice from two callers at once.
func TestOutsideOpinion(t *testing.T) {
	t.Parallel()
	emulator := partstest.CloudTasks(t, queueName)
	got := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer server.Close()
	q, err := cloudtasks.New(t.Context(), cloudtasks.Options{
		Queue: queueName, URL: func(f string) string { return server.URL + "/tasks/" + f },
		ServiceAccount: "queue@aurora.iam.gserviceaccount.com", DispatchDeadline: 110 * time.Second, Emulator: emulator.Address,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	at := time.Now().Add(time.Second)
	for range 2 { // the second under a name that is taken
		if err := q.Enqueue(t.Context(), connect.Task{Function: "enable-apis", Name: "name", Body: []byte("{}"), At: at}); err != nil {
			t.Fatal(err)
		}
	}
	r := <-got
	if time.Now().Before(at) || r.Method != http.MethodPost || r.URL.Path != "/tasks/enable-apis" ||
		r.Header.Get("X-CloudTasks-TaskName") != "name" || r.Header.Get("Content-Type") != "application/json" ||
		!strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		t.Errorf("at %v came %s %s %v", time.Now(), r.Method, r.URL, r.Header)
	}
	if err := q.Enqueue(t.Context(), connect.Task{Function: "enable-apis", Name: "last", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.Header.Get("X-CloudTasks-TaskName") != "last" {
		t.Errorf("the task came twice: %v", r.Header)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	connecttest.TestQueue(t, func(t *testing.T, h http.Handler) connect.Queue {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		emulator, err := tasks.NewServer(tasks.Options{Client: server.Client()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = emulator.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
			Name: queueName, RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(10 * time.Millisecond), MaxBackoff: durationpb.New(40 * time.Millisecond)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go emulator.Serve(listener)
		q, err := cloudtasks.New(t.Context(), cloudtasks.Options{
			Queue: queueName, URL: func(f string) string { return server.URL + "/" + f }, DispatchDeadline: time.Minute, Emulator: listener.Addr().String(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := errors.Join(q.Close(), emulator.Close(ctx)); err != nil {
				t.Error(err)
			}
		})
		return q
	})
}
