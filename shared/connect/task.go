package connect

import (
	"regexp"
	"time"
)

// Limits of Cloud Tasks (https://cloud.google.com/tasks/docs/quotas).
const (
	maxTaskBody  = 1 << 20
	maxTaskAhead = 30 * 24 * time.Hour
)

var taskName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,500}$`)

// Task is one HTTP request to come.
type Task struct {
	Function string    // which function is to handle it
	Name     string    // deterministic, [A-Za-z0-9_-], at most 500 characters; the queue takes a name once
	Body     []byte    // JSON, at most 1 MiB; never a secret
	At       time.Time // not before; at most 30 days ahead; zero: at once
}

// Validate refuses with Invalid what Cloud Tasks would refuse.
func (t Task) Validate(now time.Time) error {
	switch {
	case !taskName.MatchString(t.Name):
		return Errorf(Invalid, "A task's name must be 1 to 500 letters, digits, hyphens or underscores.")
	case len(t.Body) > maxTaskBody:
		return Errorf(Invalid, "A task's body must not exceed 1 MiB.")
	case t.At.After(now.Add(maxTaskAhead)):
		return Errorf(Invalid, "A task's time must be within 30 days.")
	}
	return nil
}
