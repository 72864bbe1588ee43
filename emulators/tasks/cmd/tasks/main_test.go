package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// started is a command that runs.
type started struct {
	queues *cloudtasks.Client
	keys   string
	stop   func()
}

// start runs the command until stop, which is also called when the test ends.
func start(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), write, io.Discard)
		write.CloseWithError(io.ErrUnexpectedEOF)
		ended <- err
	}()
	out := bufio.NewReader(read)
	line := func(prefix string) string {
		text, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(text, prefix) {
			t.Fatalf("the command says %q, want %q: %v", text, prefix, err)
		}
		return strings.TrimSpace(strings.TrimPrefix(text, prefix))
	}
	s := &started{}
	address := line("Cloud Tasks")
	s.keys = line("Keys")
	var err error
	s.queues, err = cloudtasks.NewClient(t.Context(), option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	s.stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the command ends with %v", err)
		}
		s.queues.Close()
	}
	t.Cleanup(s.stop)
	return s
}

func TestTheCommandServesItsQueuesAndKeysAndKeepsThemInItsFile(t *testing.T) {
	t.Parallel()
	const one, two = "projects/p/locations/l/queues/one", "projects/p/locations/l/queues/two"
	args := []string{"-file", filepath.Join(t.TempDir(), "tasks"), "-queue", one, "-queue", two}
	first := start(t, args...)
	if _, err := first.queues.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: two}); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get(first.keys)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s", first.keys, answer.Status)
	}
	first.stop()

	second := start(t, args...)
	for name, want := range map[string]cloudtaskspb.Queue_State{one: cloudtaskspb.Queue_RUNNING, two: cloudtaskspb.Queue_PAUSED} {
		q, err := second.queues.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: name})
		if err != nil || q.GetState() != want {
			t.Errorf("the queue is %v, want it %v: %v", q, want, err)
		}
	}
}

func TestTheCommandRefuses(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"a flag it does not have":       {"-nothing"},
		"a queue's name that is none":   {"-queue", "one"},
		"an address it cannot serve at": {"-listen", "nowhere:-1"},
		"a file it cannot write":        {"-file", filepath.Join(t.TempDir(), "none", "tasks")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(t.Context(), append([]string{"-listen", "127.0.0.1:0"}, args...), io.Discard, io.Discard); err == nil {
				t.Error("it serves")
			}
		})
	}
}
