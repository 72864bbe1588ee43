package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"gcpconnect/shared/connect"
)

// Task is what the queue carries for a step: which setup, made for which
// generation of the connection, is due for which step, in which attempt.
type Task struct {
	Setup      string `json:"setup"`
	Generation int64  `json:"generation"`
	Step       string `json:"step"`
	Attempt    int    `json:"attempt"`
}

// ParseTask reads a task's body.
func ParseTask(body []byte) (Task, error) {
	var t Task
	if err := decodeTask(body, &t); err != nil {
		return Task{}, err
	}
	switch {
	case t.Setup == "":
		return Task{}, connect.Errorf(connect.Invalid, "The task's setup is missing.")
	case t.Generation < 1:
		return Task{}, connect.Errorf(connect.Invalid, "The task's generation must be at least 1.")
	case StepNumber(Steps, t.Step) == 0 && StepNumber(Removal, t.Step) == 0:
		return Task{}, connect.Errorf(connect.Invalid, "The task's step is not one of the chain.")
	case t.Attempt < 0:
		return Task{}, connect.Errorf(connect.Invalid, "The task's attempt must not be negative.")
	}
	return t, nil
}

// decodeTask reads one JSON object into t and refuses what it does not know.
func decodeTask(body []byte, t any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return connect.Errorf(connect.Invalid, "The task's body is not a task.").Because(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return connect.Errorf(connect.Invalid, "The task's body holds more than a task.")
	}
	return nil
}

// dueTask is the task that is due for s. Its name is a hash of what tells
// tasks apart: two enqueues of the same step of a setup are one task.
func dueTask(s *connect.Setup) (connect.Task, error) {
	t := Task{Setup: s.ID, Generation: s.Generation, Step: s.Step, Attempt: s.Attempt}
	return queueTask(s.Step, t, s.DueAt, t.Setup, strconv.FormatInt(t.Generation, 10), t.Step, strconv.Itoa(t.Attempt))
}

// queueTask makes a task for the function, named by the hash of key. Names
// are hashed because prefixes that they share slow the queue
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks#resource:-task).
func queueTask(function string, body any, at time.Time, key ...string) (connect.Task, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return connect.Task{}, err
	}
	name := function
	for _, k := range key {
		name += "\x00" + k
	}
	return connect.Task{Function: function, Name: connect.Hash(name), Body: encoded, At: at}, nil
}
