package functions

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// MaxTimeout is how long any function may work on a request: as long as a
// step's own deadline, with time to claim it before and to commit it after. A
// server must wait longer before it cuts an answer off, and the queue longer
// than that before it delivers a task again.
const MaxTimeout = setup.MaxDeadline + 15*time.Second

// Limits are what a function takes of a request, and how long it may work on
// it. What is beyond them is refused before anything is done.
type Limits struct {
	Body    int64         // bytes
	URL     int           // bytes of path and query
	Timeout time.Duration // of all that is done for the request
	Media   string        // the media type that a body must have
}

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// usual are the limits by who calls.
var usual = map[Caller]Limits{
	CallerUser:      {Body: 4 << 10, URL: 4 << 10, Timeout: time.Minute, Media: mediaJSON},
	CallerBrowser:   {Body: 8 << 10, URL: 8 << 10, Timeout: time.Minute, Media: mediaForm}, // a code has up to 4 KiB
	CallerQueue:     {Body: 4 << 10, URL: 4 << 10, Timeout: MaxTimeout, Media: mediaJSON},
	CallerService:   {Body: 4 << 10, URL: 4 << 10, Timeout: time.Minute, Media: mediaJSON},
	CallerScheduler: {Body: 4 << 10, URL: 4 << 10, Timeout: MaxTimeout, Media: mediaJSON},
}

// special are the limits of the functions that need more than is usual: lists
// of up to 1,000 projects, each of which Google is asked about.
var special = map[string]Limits{
	"select-projects": {Body: 256 << 10, URL: 4 << 10, Timeout: 90 * time.Second, Media: mediaJSON},
	"project-access":  {Body: 256 << 10, URL: 4 << 10, Timeout: 90 * time.Second, Media: mediaJSON},
	"plan":            {Body: 256 << 10, URL: 4 << 10, Timeout: 90 * time.Second, Media: mediaJSON},
	"projects":        {Body: 4 << 10, URL: 4 << 10, Timeout: 90 * time.Second, Media: mediaJSON},
}

// Limits are the function's.
func (f Function) Limits() Limits {
	if l, ok := special[f.Name]; ok {
		return l
	}
	return usual[f.Caller]
}

// singular are the headers that decide something, with how long their values
// may be. One that comes twice says two things: a proxy before us may have
// believed the other.
var singular = map[string]int{
	"Authorization":               len("Bearer ") + 16<<10, // of an ID token
	"Content-Type":                256,
	"X-Cloudscheduler":            20,
	"X-Cloudtasks-Taskname":       500,
	"X-Cloudtasks-Taskretrycount": 20,
	"X-Internal-Service":          256,
	"X-Org-Id":                    maxUserID,
	userHeader:                    maxUserID,
}

// limited is handle for requests that keep the function's limits and can be
// understood in one way only.
func limited(handle func(*edge, http.ResponseWriter, *http.Request) error) func(*edge, http.ResponseWriter, *http.Request) error {
	return func(e *edge, w http.ResponseWriter, r *http.Request) error {
		limits := e.function.Limits()
		if size := len(r.URL.RequestURI()); size > limits.URL {
			return &httpError{http.StatusRequestURITooLong, connect.Errorf(connect.Invalid, "The address is larger than %d bytes.", limits.URL)}
		}
		if err := checkHeaders(r.Header); err != nil {
			return err
		}
		if err := checkQuery(r.URL.RawQuery); err != nil {
			return err
		}
		if err := checkBody(w, r, limits); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), limits.Timeout)
		defer cancel()
		return handle(e, w, r.WithContext(ctx))
	}
}

func checkHeaders(h http.Header) error {
	for name, longest := range singular {
		values := h.Values(name)
		switch {
		case len(values) > 1:
			return connect.Errorf(connect.Invalid, "The header %s was sent more than once.", name)
		case len(values) == 1 && len(values[0]) > longest:
			return connect.Errorf(connect.Invalid, "The header %s is longer than %d bytes.", name, longest)
		}
	}
	return nil
}

// checkQuery refuses a query that cannot be read, of which net/url would read
// a part, and one that names a parameter twice.
func checkQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return connect.Errorf(connect.Invalid, "The query cannot be read.").Because(err)
	}
	for name, values := range query {
		if len(values) > 1 {
			return connect.Errorf(connect.Invalid, "The parameter %q was sent more than once.", name)
		}
	}
	return nil
}

// checkBody refuses a body that is too large or says that it is something
// else than the function takes: a page of another origin can send any form
// without asking first, but no JSON
// (https://fetch.spec.whatwg.org/#cors-safelisted-request-header). What turns
// out to be too large when it is read is refused then.
func checkBody(w http.ResponseWriter, r *http.Request, limits Limits) error {
	if r.ContentLength > limits.Body {
		return tooLarge(&http.MaxBytesError{Limit: limits.Body})
	}
	r.Body = http.MaxBytesReader(w, r.Body, limits.Body)
	if r.ContentLength == 0 || r.ContentLength < 0 && empty(r) {
		return nil
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != limits.Media {
		return &httpError{http.StatusUnsupportedMediaType, connect.Errorf(connect.Invalid, "The body must be sent with Content-Type: %s.", limits.Media)}
	}
	return nil
}

// empty reports whether a body whose length was not announced is empty.
func empty(r *http.Request) bool {
	ahead := bufio.NewReader(r.Body)
	_, err := ahead.Peek(1)
	r.Body = struct {
		io.Reader
		io.Closer
	}{ahead, r.Body}
	return errors.Is(err, io.EOF)
}

// tooLarge says that a body is. Its status follows from its cause.
func tooLarge(err *http.MaxBytesError) error {
	return connect.Errorf(connect.Invalid, "The body is larger than %d bytes.", err.Limit).Because(err)
}
