package tasks

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// find returns a queue; s.mu is held.
func (s *Server) find(name string) (*queue, error) {
	if q := s.queues[name]; q != nil {
		return q, nil
	}
	if !queueName.MatchString(name) {
		return nil, status.Errorf(codes.InvalidArgument, "Queue name %q is not projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID.", name)
	}
	return nil, status.Error(codes.NotFound, "Queue does not exist.")
}

// findTask returns a task and its queue; s.mu is held.
func (s *Server) findTask(name string) (*queue, *task, error) {
	parent, id := splitTask(name)
	if !taskName.MatchString(name) {
		return nil, nil, status.Errorf(codes.InvalidArgument, "Task name %q is not projects/PROJECT_ID/locations/LOCATION_ID/queues/QUEUE_ID/tasks/TASK_ID.", name)
	}
	q, err := s.find(parent)
	if err != nil {
		return nil, nil, err
	}
	t := q.tasks[id]
	if t == nil {
		return nil, nil, status.Error(codes.NotFound, "The task does not exist: it never did, or it is done, deleted or given up.")
	}
	return q, t, nil
}

// view is a task as a response shows it.
func view(t *cloudtaskspb.Task, v cloudtaskspb.Task_View) *cloudtaskspb.Task {
	shown, _ := proto.Clone(t).(*cloudtaskspb.Task)
	shown.View = cloudtaskspb.Task_FULL
	if v != cloudtaskspb.Task_FULL {
		shown.View = cloudtaskspb.Task_BASIC
		shown.GetHttpRequest().Body = nil
	}
	return shown
}

// CreateTask creates a task; ALREADY_EXISTS if its name is taken.
func (s *Server) CreateTask(_ context.Context, r *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	at := now()
	made, err := s.newTask(r, at)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(r.GetParent())
	if err != nil {
		return nil, err
	}
	if s.closed {
		return nil, stopping()
	}
	_, id := splitTask(made.GetName())
	if q.taken(id, at) {
		s.counts.Duplicates++
		return nil, status.Error(codes.AlreadyExists, "The task cannot be created because a task with this name existed too recently, or still does.")
	}
	t := &task{id: id, proto: made}
	s.counts.Created++
	s.tasks++
	q.tasks[id] = t
	q.wait(t, made.GetScheduleTime().AsTime())
	shown := view(made, r.GetResponseView())
	s.dispatch(q)
	return shown, nil
}

func stopping() error { return status.Error(codes.Unavailable, "The server is about to stop.") }

// GetTask returns a task.
func (s *Server) GetTask(_ context.Context, r *cloudtaskspb.GetTaskRequest) (*cloudtaskspb.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, t, err := s.findTask(r.GetName())
	if err != nil {
		return nil, err
	}
	return view(t.proto, r.GetResponseView()), nil
}

// ListTasks lists a queue's tasks by name, those under way included.
func (s *Server) ListTasks(_ context.Context, r *cloudtaskspb.ListTasksRequest) (*cloudtaskspb.ListTasksResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(r.GetParent())
	if err != nil {
		return nil, err
	}
	var ids []string
	for id := range q.tasks {
		ids = append(ids, id)
	}
	ids, next, err := page(ids, r.GetPageSize(), 1000, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &cloudtaskspb.ListTasksResponse{NextPageToken: next}
	for _, id := range ids {
		out.Tasks = append(out.Tasks, view(q.tasks[id].proto, r.GetResponseView()))
	}
	return out, nil
}

// page returns the names of a page, in order, and the token of the next.
func page(names []string, size int32, largest int, token string) (_ []string, next string, err error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || size < 0 {
		return nil, "", status.Error(codes.InvalidArgument, "The page token or the page size is invalid.")
	}
	if size == 0 || int(size) > largest {
		size = int32(largest) //nolint:gosec // at most 9,800
	}
	slices.Sort(names)
	from, found := slices.BinarySearch(names, string(after))
	if found {
		from++
	}
	names = names[from:]
	if len(names) > int(size) {
		names = names[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(names[size-1]))
	}
	return names, next, nil
}

// DeleteTask deletes a task. One that is under way is not stopped, but what it
// comes to does not matter any more.
func (s *Server) DeleteTask(_ context.Context, r *cloudtaskspb.DeleteTaskRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, t, err := s.findTask(r.GetName())
	if err != nil {
		return nil, err
	}
	if t.underway == 0 {
		q.take(t)
	}
	s.end(q, t)
	s.dispatch(q)
	return &emptypb.Empty{}, nil
}

// RunTask dispatches a task now, whatever the queue's limits and state are and
// even if it is under way. If that fails, its time is now and the retry's pause.
func (s *Server) RunTask(_ context.Context, r *cloudtaskspb.RunTaskRequest) (*cloudtaskspb.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, t, err := s.findTask(r.GetName())
	if err != nil {
		return nil, err
	}
	if s.closed {
		return nil, stopping()
	}
	if t.underway == 0 {
		q.take(t)
	}
	at := now()
	t.proto.ScheduleTime = timestamppb.New(at)
	s.begin(q, t, at)
	return view(t.proto, r.GetResponseView()), nil
}

// CreateQueue creates a queue.
func (s *Server) CreateQueue(_ context.Context, r *cloudtaskspb.CreateQueueRequest) (*cloudtaskspb.Queue, error) {
	config := r.GetQueue()
	if location, _ := splitQueue(config.GetName()); location != r.GetParent() {
		return nil, status.Errorf(codes.InvalidArgument, "Queue name %q is not in %q.", config.GetName(), r.GetParent())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues[config.GetName()] != nil {
		return nil, status.Error(codes.AlreadyExists, "Queue already exists.")
	}
	return s.configure(config, nil)
}

// UpdateQueue changes a queue, or creates it.
func (s *Server) UpdateQueue(_ context.Context, r *cloudtaskspb.UpdateQueueRequest) (*cloudtaskspb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configure(r.GetQueue(), r.GetUpdateMask())
}

// GetQueue returns a queue.
func (s *Server) GetQueue(_ context.Context, r *cloudtaskspb.GetQueueRequest) (*cloudtaskspb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return clone(q.config), nil
}

func clone(q *cloudtaskspb.Queue) *cloudtaskspb.Queue {
	c, _ := proto.Clone(q).(*cloudtaskspb.Queue)
	return c
}

// ListQueues lists the queues of a location by name. Filters are not served.
func (s *Server) ListQueues(_ context.Context, r *cloudtaskspb.ListQueuesRequest) (*cloudtaskspb.ListQueuesResponse, error) {
	if r.GetFilter() != "" {
		return nil, status.Error(codes.Unimplemented, "This emulator does not filter queues.")
	}
	if !locationName.MatchString(r.GetParent()) {
		return nil, invalid("Parent %q is not projects/PROJECT_ID/locations/LOCATION_ID.", r.GetParent())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.queues {
		if strings.HasPrefix(name, r.GetParent()+"/queues/") {
			names = append(names, name)
		}
	}
	names, next, err := page(names, r.GetPageSize(), 9800, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &cloudtaskspb.ListQueuesResponse{NextPageToken: next}
	for _, name := range names {
		out.Queues = append(out.Queues, clone(s.queues[name].config))
	}
	return out, nil
}

// change changes a queue and returns it.
func (s *Server) change(name string, f func(q *queue)) (*cloudtaskspb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(name)
	if err != nil {
		return nil, err
	}
	f(q)
	s.dispatch(q)
	return clone(q.config), nil
}

// DeleteQueue deletes a queue with its tasks.
func (s *Server) DeleteQueue(_ context.Context, r *cloudtaskspb.DeleteQueueRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	s.clear(q)
	q.deleted = true
	q.rest()
	delete(s.queues, r.GetName())
	return &emptypb.Empty{}, nil
}

// clear drops all tasks of a queue; s.mu is held.
func (s *Server) clear(q *queue) {
	q.pending = nil
	s.end(q, slices.Collect(maps.Values(q.tasks))...)
}

// PurgeQueue drops all tasks of a queue. Their names stay taken.
func (s *Server) PurgeQueue(_ context.Context, r *cloudtaskspb.PurgeQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.change(r.GetName(), func(q *queue) {
		q.config.PurgeTime = timestamppb.New(now())
		s.clear(q)
	})
}

// PauseQueue has a queue dispatch nothing more. What is under way goes on.
func (s *Server) PauseQueue(_ context.Context, r *cloudtaskspb.PauseQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.change(r.GetName(), func(q *queue) {
		q.config.State = cloudtaskspb.Queue_PAUSED
	})
}

// ResumeQueue ends a pause.
func (s *Server) ResumeQueue(_ context.Context, r *cloudtaskspb.ResumeQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.change(r.GetName(), func(q *queue) {
		q.config.State = cloudtaskspb.Queue_RUNNING
	})
}
