package tasks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// journal is a file with one record a line. Each is on the disk before the
// call returns that made it.
type journal struct {
	file *os.File
	size int64 // of whole records
}

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

func queueRecord(config *cloudtaskspb.Queue) record {
	encoded, _ := protojson.Marshal(config) // encodable checked it
	return record{Queue: encoded}
}

func taskRecord(t *task) record {
	encoded, _ := protojson.Marshal(t.proto) // likewise
	return record{Task: encoded, Failures: t.failures, Answers: t.answers, Previous: t.previous}
}

// encodable refuses what could not be read back: text that is no UTF-8, and
// times and durations out of range.
func encodable(m proto.Message) error {
	if _, err := protojson.Marshal(m); err != nil {
		return invalid("A field has no valid value: %v.", err)
	}
	return nil
}

// keepQueue writes a queue's configuration, if there is a journal; s.mu is held.
func (s *Server) keepQueue(config *cloudtaskspb.Queue) error {
	if s.journal == nil {
		return nil
	}
	return s.keep(queueRecord(config))
}

// keepTask writes a task, if there is a journal; s.mu is held.
func (s *Server) keepTask(t *task) error {
	if s.journal == nil {
		return nil
	}
	return s.keep(taskRecord(t))
}

// keep writes records, if there is a journal. It fails with UNAVAILABLE; s.mu
// is held.
func (s *Server) keep(records ...record) error {
	if s.journal == nil || len(records) == 0 {
		return nil
	}
	if err := s.journal.write(records); err != nil {
		s.opts.Logger.Error("the journal cannot be written", "error", err)
		return status.Errorf(codes.Unavailable, "This could not be kept: %v.", err)
	}
	return nil
}

func (j *journal) write(records []record) error {
	var lines bytes.Buffer
	out := json.NewEncoder(&lines)
	for _, r := range records {
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	_, err := j.file.WriteAt(lines.Bytes(), j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// The next record must not follow half a line.
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(lines.Len())
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// restore reads the journal at a path into s and begins a new one there, with
// what is left.
func (s *Server) restore(path string) (*journal, error) {
	old, err := os.Open(path) //nolint:gosec // named by whoever starts the server
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
	err = errors.Join(s.dump(json.NewEncoder(w)), w.Flush(), file.Sync())
	size, seekErr := file.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, seekErr); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep tasks in %s: %w", path, err), file.Close(), os.Remove(file.Name()))
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("keep tasks in %s: %w", path, err), file.Close())
	}
	return &journal{file, size}, nil
}

// syncFolder puts on the disk which files a folder has.
func syncFolder(path string) error {
	folder, err := os.Open(path) //nolint:gosec // likewise
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
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
		if err := out.Encode(queueRecord(q.config)); err != nil {
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
