package functions

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"gcpconnect/shared/connect"
)

// Callers finds out who asks.
type Callers interface {
	// User returns the user in whose name the request is made, or
	// Unauthenticated.
	User(r *http.Request) (string, error)
	// Queue fails unless the request is the task queue's.
	Queue(r *http.Request) error
}

// userHeader names the user in requests of Aurora's backend.
const userHeader = "X-User-ID"

// maxUserID is longer than the IDs of identity providers are.
const maxUserID = 256

// LocalCallers believes the headers. It is for one machine: configuration
// refuses it anywhere but on loopback.
type LocalCallers struct{}

var _ Callers = LocalCallers{}

// User implements Callers.
func (LocalCallers) User(r *http.Request) (string, error) {
	return checkUserID(r.Header.Get(userHeader))
}

// Queue implements Callers.
func (LocalCallers) Queue(r *http.Request) error {
	if r.Header.Get("X-CloudTasks-TaskName") == "" {
		return connect.Errorf(connect.Unauthenticated, "Only the task queue may call this.")
	}
	return nil
}

func checkUserID(id string) (string, error) {
	switch {
	case id == "":
		return "", connect.Errorf(connect.Unauthenticated, "Who asks? Send the user's ID in the header %s.", userHeader)
	case len(id) > maxUserID || !utf8.ValidString(id) || strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", connect.Errorf(connect.Invalid, "The user's ID must be UTF-8 of at most %d bytes without control characters.", maxUserID)
	}
	return id, nil
}
