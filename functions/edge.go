package functions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/rs/cors"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/telemetry"
)

// maxBody is how much of a request's body is read. The largest of the
// contract, a selection of 1,000 projects, has some 35 KiB.
const maxBody = 256 << 10

// edge is one function at work: what all of them share.
type edge struct {
	Deps
	function Function
}

// handler serves a function at its paths, and at / when it has only one path,
// which is how a service of its own is called. Whatever else is asked for is
// answered in JSON too.
func handler(d Deps, f Function) http.Handler {
	e := &edge{Deps: d, function: f}
	e.Log = d.Log.With("function", f.Name)
	mux := http.NewServeMux()
	paths := f.paths()
	for _, r := range f.Routes {
		mux.Handle(r.Method+" "+r.Path, e.serve(r.handle))
		if len(paths) == 1 && !strings.Contains(r.Path, "{") {
			mux.Handle(r.Method+" /{$}", e.serve(r.handle))
		}
	}
	for _, path := range paths {
		mux.Handle(path, e.serve(func(e *edge, w http.ResponseWriter, _ *http.Request) error {
			var methods []string
			for _, r := range f.Routes {
				if r.Path == path {
					methods = append(methods, r.Method)
				}
			}
			w.Header().Set("Allow", strings.Join(methods, ", "))
			return &httpError{http.StatusMethodNotAllowed, connect.Errorf(connect.Invalid, "This path takes %s.", strings.Join(methods, " or "))}
		}))
	}
	mux.Handle("/", e.serve(nothing))
	if f.Caller != CallerUser {
		return mux // no page calls it
	}
	// Only the frontend's pages may call with the user's credentials, and read
	// what is answered (https://fetch.spec.whatwg.org/#http-cors-protocol).
	return cors.New(cors.Options{
		AllowedOrigins: d.Origins, AllowCredentials: true,
		AllowedMethods: []string{http.MethodGet, http.MethodPost},
		AllowedHeaders: []string{"Authorization", "Content-Type", userHeader, "X-Org-ID"},
		ExposedHeaders: []string{"Retry-After"}, MaxAge: 600,
		AllowOriginFunc: noOrigin(d.Origins),
	}).Handler(mux)
}

// noOrigin is for a list that is empty, which the library takes for all
// origins; nil for others.
func noOrigin(origins []string) func(string) bool {
	if len(origins) > 0 {
		return nil
	}
	return func(string) bool { return false }
}

// nothing answers what is asked of no function.
func nothing(*edge, http.ResponseWriter, *http.Request) error {
	return connect.Errorf(connect.NotFound, "There is nothing at this path.")
}

// httpError is an error with a status that its class does not imply.
type httpError struct {
	status int
	err    *connect.Error
}

func (e *httpError) Error() string { return e.err.Error() }
func (e *httpError) Unwrap() error { return e.err }

// serve turns a function that returns an error into a handler.
func (e *edge) serve(handle func(*edge, http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		r = r.WithContext(telemetry.Continue(r.Context(), r.Header))
		defer func() {
			if p := recover(); p != nil {
				e.Log.ErrorContext(r.Context(), "function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				e.fail(w, r, fmt.Errorf("panic: %v", p))
			}
		}()
		if err := handle(e, w, r); err != nil {
			e.fail(w, r, err)
		}
	})
}

// statuses are the HTTP statuses of the classes of errors.
var statuses = map[connect.Code]int{
	connect.Invalid:         http.StatusBadRequest,
	connect.Unauthenticated: http.StatusUnauthorized,
	connect.Forbidden:       http.StatusForbidden,
	connect.NeedsReauth:     http.StatusForbidden,
	connect.NotFound:        http.StatusNotFound,
	connect.Conflict:        http.StatusConflict,
	connect.Precondition:    http.StatusConflict,
	connect.Exhausted:       http.StatusTooManyRequests,
	connect.Unavailable:     http.StatusServiceUnavailable,
}

// fail renders an error: words for people in the answer, the cause in the log.
func (e *edge) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := connect.CodeOf(err)
	status, ok := statuses[code]
	if !ok {
		status = http.StatusInternalServerError
	}
	if explicit, ok := errors.AsType[*httpError](err); ok {
		status = explicit.status
	}
	log := e.Log.InfoContext
	if status >= http.StatusInternalServerError {
		log = e.Log.ErrorContext
	}
	log(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "status", status, "error", err)
	message := connect.MessageOf(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
		if e.function.Caller != CallerQueue && !strings.Contains(message, "Try again") {
			message = strings.TrimSuffix(message, ".") + ". Try again in a moment."
		}
	}
	_ = e.json(w, status, struct {
		Error string       `json:"error"`
		Code  connect.Code `json:"code"`
	}{message, code})
}

// retryAfter is how many seconds a client should wait.
func retryAfter(err error) int {
	wait := 5 * time.Second
	if c, ok := errors.AsType[*connect.Error](err); ok && c.RetryAfter > 0 {
		wait = c.RetryAfter
	}
	return int(math.Ceil(wait.Seconds()))
}

// json renders an answer.
func (e *edge) json(w http.ResponseWriter, status int, answer any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // login_url is read by people too
	if err := encoder.Encode(answer); err != nil {
		return fmt.Errorf("render answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body.Bytes())
	return nil
}

// user returns who asks.
func (e *edge) user(r *http.Request) (string, error) { return e.Users.User(r) }

// body reads a request's body; an oversized one is an error that says so.
func body(r *http.Request) ([]byte, error) {
	content, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, connect.Errorf(connect.Invalid, "The body is larger than %d bytes.", tooLarge.Limit)
	}
	if err != nil {
		return nil, connect.Errorf(connect.Invalid, "The body could not be read.").Because(err)
	}
	return content, nil
}

// decode reads a JSON object from the request's body, if there is one, into v.
// Fields that v does not have are ignored: frontends
// written for the original send some.
func decode(r *http.Request, v any) error {
	content, err := body(r)
	if err != nil {
		return err
	}
	_, err = parse(content, v)
	return err
}

// parse is decode for a body in hand. It reports whether there was an object.
func parse(content []byte, v any) (given bool, err error) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return false, nil
	}
	err = json.Unmarshal(content, v)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return false, connect.Errorf(connect.Invalid, "%s must be %s.", wrong.Field, describe(wrong.Type.Kind().String())).Because(err)
	}
	if err != nil || content[0] != '{' {
		return false, connect.Errorf(connect.Invalid, "The body must be a JSON object.").Because(err)
	}
	return true, nil
}

// describe says what a Go kind is called in JSON.
func describe(kind string) string {
	switch kind {
	case "slice":
		return "a list"
	case "bool":
		return "true or false"
	case "struct", "map":
		return "an object"
	}
	return "a " + kind
}

// distinct returns the values without repetitions, in their order.
func distinct(values []string) []string {
	seen := make(map[string]bool, len(values))
	var result []string
	for _, v := range values {
		if !seen[v] {
			seen[v] = true
			result = append(result, v)
		}
	}
	return result
}
