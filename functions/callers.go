package functions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/identity"
)

// Users finds out which user a request is of.
type Users interface {
	// User returns the user in whose name the request is made:
	// Unauthenticated for nobody, Forbidden for one that it is not.
	User(r *http.Request) (string, error)
}

// Services finds out whether a request is of a service that may make it.
type Services interface {
	// Service returns the service's name, and fails with Unauthenticated for
	// nobody and Forbidden for another.
	Service(r *http.Request) (string, error)
}

// Tokens verifies bearer tokens, as identity.Verifier does.
type Tokens interface {
	Verify(ctx context.Context, token connect.Secret) (*identity.Identity, error)
}

// userHeader names the user in requests of Aurora's backend.
const userHeader = "X-User-ID"

// maxUserID is longer than the IDs of identity providers are.
const maxUserID = 256

// Local believes the headers. It is for one machine: configuration refuses it
// anywhere but on loopback.
type Local struct{}

// User implements Users.
func (Local) User(r *http.Request) (string, error) { return named(r) }

// Mark is a service that is known by a header which it sets: on one machine,
// where AUTH=local believes headers.
type Mark string

// The headers of the platform's services
// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler,
// https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#httptarget).
const (
	QueueMark     Mark = "X-CloudTasks-TaskName"
	SchedulerMark Mark = "X-CloudScheduler"
	InternalMark  Mark = "X-Internal-Service" // our own
)

// Of is the service for every function.
func (m Mark) Of(string) Services { return m }

// Service implements Services.
func (m Mark) Service(r *http.Request) (string, error) {
	name := r.Header.Get(string(m))
	if name == "" {
		return "", connect.Errorf(connect.Unauthenticated, "Only a service of the platform may call this.")
	}
	return name, nil
}

// Accounts accepts the Google-signed ID tokens of some service accounts.
type Accounts struct {
	tokens Tokens
	emails []string
}

// NewAccounts returns Accounts of these emails; with none, it accepts no token. It
// refuses an empty email, which would accept a token that names no account.
func NewAccounts(tokens Tokens, emails ...string) (Accounts, error) {
	if slices.Contains(emails, "") {
		return Accounts{}, errors.New("the email of a service account is empty")
	}
	return Accounts{tokens, slices.Clone(emails)}, nil
}

// Service implements Services.
func (a Accounts) Service(r *http.Request) (string, error) {
	who, err := bearer(r, a.tokens)
	if err != nil {
		return "", err
	}
	if !who.Verified || !slices.Contains(a.emails, who.Email) {
		return "", connect.Errorf(connect.Forbidden, "This service account may not call this.").Because(fmt.Errorf("it is %q", clip(who.Email)))
	}
	return who.Email, nil
}

// Backend believes what Aurora's backend says of the user, and only it.
type Backend struct{ Services Services }

// User implements Users.
func (b Backend) User(r *http.Request) (string, error) {
	if _, err := b.Services.Service(r); err != nil {
		return "", err
	}
	return named(r)
}

// Subjects are users who show a token of their own: the user is its subject.
type Subjects struct{ Tokens Tokens }

// User implements Users.
func (s Subjects) User(r *http.Request) (string, error) {
	who, err := bearer(r, s.Tokens)
	if err != nil {
		return "", err
	}
	if r.Header.Get(userHeader) != "" && r.Header.Get(userHeader) != who.Subject {
		return "", connect.Errorf(connect.Forbidden, "%s is not the user of the token.", userHeader)
	}
	return checkUserID(who.Subject)
}

// bearer returns the caller that the request's token identifies.
func bearer(r *http.Request, tokens Tokens) (*identity.Identity, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, connect.Errorf(connect.Unauthenticated, "Who calls? Send a token in the header Authorization.")
	}
	if r.Header.Get("X-Serverless-Authorization") != "" && strings.HasSuffix(token, "."+identity.SignatureRemoved) {
		// Cloud Run checks that header and not the other, where both come: what
		// looks like its work is the caller's.
		return nil, connect.Errorf(connect.Unauthenticated, "Send the token in the header Authorization alone.")
	}
	return tokens.Verify(r.Context(), connect.Secret(token))
}

// named returns the user that the header names.
func named(r *http.Request) (string, error) {
	id := r.Header.Get(userHeader)
	if id == "" {
		return "", connect.Errorf(connect.Unauthenticated, "Who asks? Send the user's ID in the header %s.", userHeader)
	}
	return checkUserID(id)
}

// checkUserID refuses an ID that others could read as that of another user.
func checkUserID(id string) (string, error) {
	if len(id) > maxUserID || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) || strings.TrimSpace(id) != id {
		return "", connect.Errorf(connect.Invalid, "The user's ID must be UTF-8 of at most %d bytes, without control characters and without spaces around it.", maxUserID)
	}
	return id, nil
}
