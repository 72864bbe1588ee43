package functions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/cors"
	"golang.org/x/sync/singleflight"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/telemetry"
)

// edge is one function at work: what all of them share.
type edge struct {
	Deps
	function Function
	reads    singleflight.Group // of setups, by ID
	watch    *watch
}

func newEdge(d Deps, f Function) *edge {
	if d.Telemetry == nil {
		d.Telemetry = telemetry.None()
	}
	d.Log = d.Log.With("function", f.Name)
	return &edge{Deps: d.only(f), function: f, watch: newWatch(d.Telemetry, f, d.Log)}
}

// handler serves a function at its paths, and at / when it has only one path,
// which is how a service of its own is called. Whatever else is asked for is
// answered in JSON too.
func handler(d Deps, f Function) http.Handler {
	e := newEdge(d, f)
	mux := http.NewServeMux()
	paths := f.paths()
	for _, r := range f.Routes {
		mux.Handle(r.Method+" "+r.Path, e.serve(limited(r.handle)))
		if len(paths) == 1 && !strings.Contains(r.Path, "{") {
			mux.Handle(r.Method+" /{$}", e.serve(limited(r.handle)))
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
		return e.secured(mux) // no page calls it
	}
	// Only the frontend's pages may call with the user's credentials, and read
	// what is answered (https://fetch.spec.whatwg.org/#http-cors-protocol).
	// Origins are compared here: of a list the library would take * for any
	// text, and an empty one for all origins.
	return e.secured(cors.New(cors.Options{
		AllowOriginFunc: func(origin string) bool {
			return slices.ContainsFunc(d.Origins, func(o string) bool { return strings.EqualFold(o, origin) })
		},
		AllowCredentials: true,
		AllowedMethods:   []string{http.MethodGet, http.MethodPost},
		AllowedHeaders:   []string{"Authorization", "Content-Type", userHeader, "X-Org-ID"},
		ExposedHeaders:   []string{"Retry-After"}, MaxAge: 600,
	}).Handler(mux))
}

// secured has every answer, from whichever handler, tell browsers to make nothing of
// it but data: not to keep, frame, run or guess it, nor to say where they come
// from; and to come by HTTPS only, where that is how they come.
func (e *edge) secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if e.SecureCookies {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
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
		ctx, done := e.watch.request(r)
		defer done()
		r = r.WithContext(ctx)
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
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		status = http.StatusRequestEntityTooLarge
	}
	failed(r, status, code)
	log := e.Log.InfoContext
	if status >= http.StatusInternalServerError {
		log = e.Log.ErrorContext
	}
	log(connect.About(r.Context(), connect.SubjectOf(err)...), "request failed", "method", r.Method, "route", r.Pattern, "status", status, "error", err)
	w.Header().Del("Set-Cookie") // set by the work that failed
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

// user returns who asks. Whoever else the request names, in its query or in its
// body, must be the same: a request says one thing.
func (e *edge) user(r *http.Request) (string, error) {
	user, err := e.Users.User(r)
	if err != nil {
		return "", err
	}
	content, err := body(r)
	if err != nil {
		return "", err
	}
	var named struct {
		UserID any `json:"userId"`
	}
	_ = json.Unmarshal(content, &named) // what is wrong with the body, the function says
	names := r.URL.Query()["userId"]
	if id, ok := named.UserID.(string); ok && id != "" {
		names = append(names, id)
	}
	if slices.ContainsFunc(names, func(id string) bool { return id != user }) {
		return "", connect.Errorf(connect.Forbidden, "userId is not the user who asks.")
	}
	return user, nil
}
