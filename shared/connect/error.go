package connect

import (
	"errors"
	"fmt"
	"time"
)

// Code is the class of an error, decided once by the adapter that met it.
type Code string

// The classes of errors. Each is stable: clients see it as "code".
const (
	Invalid         Code = "invalid_argument"    // the input is wrong
	Unauthenticated Code = "unauthenticated"     // nobody, or a token that Google does not take
	NeedsReauth     Code = "needs_reauth"        // the refresh token is dead: only a new consent helps
	Forbidden       Code = "forbidden"           // known, and not allowed
	NotFound        Code = "not_found"           // not there, or not yours
	Conflict        Code = "conflict"            // something else stands or runs there
	Precondition    Code = "failed_precondition" // the cloud is not in a state that allows it
	Exhausted       Code = "too_many_requests"   // the caller asks too often, or for too much
	Unavailable     Code = "unavailable"         // a dependency is down or busy: the same call may work later
	Internal        Code = "internal"            // a defect
)

// NoRefreshToken are the words, known to users of the original, for a
// connection whose tokens are dead.
const NoRefreshToken = "No refresh token available. Please re-authenticate."

// Error is an error with a class and with words for people. What caused it is
// for the log only.
type Error struct {
	Code    Code
	Message string // for people; never internals, never secrets
	// Reason tells errors of one code apart where code must, e.g. Google's
	// ErrorInfo.reason SERVICE_DISABLED.
	Reason string
	// RetryAfter is how long the dependency asked to be left alone; 0: unsaid.
	RetryAfter time.Duration
	Err        error // the cause, for the log
}

// Errorf returns an error of the code with a message for people.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns a copy of e that carries its cause.
func (e *Error) Because(err error) *Error {
	clone := *e
	clone.Err = err
	return &clone
}

// For returns a copy of e with a reason and with when to try again.
func (e *Error) For(reason string, retryAfter time.Duration) *Error {
	clone := *e
	clone.Reason, clone.RetryAfter = reason, retryAfter
	return &clone
}

// Error is for the log: the message and the cause.
func (e *Error) Error() string {
	text := string(e.Code) + ": " + e.Message
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the class of err: Internal for an error that has none, and
// the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// ReasonOf returns the reason within err's class, or "".
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// MessageOf returns the words for people in err. An error that has none
// shows nothing of itself.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Message != "" {
		return e.Message
	}
	return "Internal error."
}
