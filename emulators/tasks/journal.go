package tasks

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/encoding/protojson"
)

// journal is a file with one record a line. Each is on the disk before the
// call returns that made it.
type journal struct{ file *os.File }

// record is a line: a queue or a task as it is now, or the end of one.
type record struct {
	Queue    json.RawMessage `json:"queue,omitempty"` // protobuf JSON
	Deleted  string          `json:"deleted,omitempty"`
	Task     json.RawMessage `json:"task,omitempty"` // protobuf JSON
	Failures int             `json:"failures,omitempty"`
	Answers  int             `json:"answers,omitempty"`
	Previous int             `json:"previous,omitempty"`
	Ended    string          `json:"ended,omitempty"`
	Until    time.Time       `json:"until,omitzero"` // the name is taken until then
}

func queueRecord(q *queue) record {
	encoded, _ := protojson.Marshal(q.config) // valid UTF-8, as it came over gRPC
	return record{Queue: encoded}
}

func taskRecord(t *task) record {
	encoded, _ := protojson.Marshal(t.proto) // likewise
	return record{Task: encoded, Failures: t.failures, Answers: t.answers, Previous: t.previous}
}

// keep writes a record, if there is a journal; s.mu is held.
func (s *Server) keep(r record) error {
	if s.journal == nil {
		return nil
	}
	err := s.journal.write(r)
	if err != nil {
		s.opts.Logger.Error("the journal cannot be written", "error", err)
	}
	return err
}

func (j *journal) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) close() error { return j.file.Close() }

// restore reads the journal at a path into s and begins a new one there, with
// what is left.
func (s *Server) restore(path string) (*journal, error) {
	old, err := os.Open(path)
	switch {
	case err == nil:
		err = s.replay(bufio.NewReader(old))
		if err = errors.Join(err, old.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".tasks-*")
	if err != nil {
		return nil, fmt.Errorf("keep tasks: %w", err)
	}
	w := bufio.NewWriter(file)
	err = s.dump(json.NewEncoder(w))
	if err = errors.Join(err, w.Flush(), file.Sync()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep tasks in %s: %w", path, err), file.Close(), os.Remove(file.Name()))
	}
	return &journal{file}, nil
}

// replay applies records. A last line that is cut was never answered for.
func (s *Server) replay(lines *bufio.Reader) error {
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := s.apply(r); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func (s *Server) apply(r record) error {
	switch {
	case r.Queue != nil:
		config := new(cloudtaskspb.Queue)
		if err := protojson.Unmarshal(r.Queue, config); err != nil {
			return err
		}
		if q := s.queues[config.GetName()]; q != nil {
			q.configure(config)
			return nil
		}
		s.queues[config.GetName()] = newQueue(config)
	case r.Deleted != "":
		if q := s.queues[r.Deleted]; q != nil {
			s.tasks -= len(q.tasks)
			delete(s.queues, r.Deleted)
		}
	case r.Task != nil:
		t := &task{proto: new(cloudtaskspb.Task), failures: r.Failures, answers: r.Answers, previous: r.Previous}
		if err := protojson.Unmarshal(r.Task, t.proto); err != nil {
			return err
		}
		parent, id := splitTask(t.proto.GetName())
		q := s.queues[parent]
		if q == nil {
			return fmt.Errorf("task %s is of no queue", t.proto.GetName())
		}
		s.discard(q, id)
		t.id = id
		q.tasks[id] = t
		q.wait(t, t.proto.GetScheduleTime().AsTime())
		s.tasks++
	case r.Ended != "":
		parent, id := splitTask(r.Ended)
		if q := s.queues[parent]; q != nil {
			s.discard(q, id)
			q.remember(id, r.Until)
		}
	}
	return nil
}

// discard forgets what was replayed of a task.
func (s *Server) discard(q *queue, id string) {
	if t := q.tasks[id]; t != nil {
		q.take(t)
		delete(q.tasks, id)
		s.tasks--
	}
}

// dump writes everything that is.
func (s *Server) dump(out *json.Encoder) error {
	for name, q := range s.queues {
		if err := out.Encode(queueRecord(q)); err != nil {
			return err
		}
		for id, until := range q.ended {
			if err := out.Encode(record{Ended: name + "/tasks/" + id, Until: until}); err != nil {
				return err
			}
		}
		for _, t := range q.tasks {
			if err := out.Encode(taskRecord(t)); err != nil {
				return err
			}
		}
	}
	return nil
}
