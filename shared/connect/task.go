package connect

import (
	"strings"
	"time"
)

// Limits of Cloud Tasks (https://cloud.google.com/tasks/docs/quotas).
const (
	maxTaskName  = 500
	maxTaskBody  = 1 << 20
	maxTaskAhead = 30 * 24 * time.Hour
)

// Task is one HTTP request to come.
type Task struct {
	Function string    // which function is to handle it
	Name     string    // deterministic, [A-Za-z0-9_-], at most 500 characters; the queue takes a name once
	Body     []byte    // JSON, at most 1 MiB; never a secret
	At       time.Time // not before; at most 30 days ahead; zero: at once
}

// taskLetters are what a task's name may consist of. A regular expression that
// counts to 500 would take every function a millisecond of its start.
const taskLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// Validate refuses with Invalid what Cloud Tasks would refuse.
func (t Task) Validate(now time.Time) error {
	switch {
	case t.Name == "" || len(t.Name) > maxTaskName || strings.Trim(t.Name, taskLetters) != "":
		return Errorf(Invalid, "A task's name must be 1 to 500 letters, digits, hyphens or underscores.")
	case len(t.Body) > maxTaskBody:
		return Errorf(Invalid, "A task's body must not exceed 1 MiB.")
	case t.At.After(now.Add(maxTaskAhead)):
		return Errorf(Invalid, "A task's time must be within 30 days.")
	}
	return nil
}
