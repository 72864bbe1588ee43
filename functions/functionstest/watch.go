package functionstest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"sync"
)

// Watch checks exchanges, reports what in them is not as described, and
// remembers which answers it saw.
type Watch struct {
	contract Contract
	report   func(format string, args ...any)

	mu   sync.Mutex
	seen map[Answer]bool
}

func (c *contract) Watch(report func(format string, args ...any)) *Watch {
	return &Watch{contract: c, report: report, seen: map[Answer]bool{}}
}

// Seen are the answers that came so far.
func (w *Watch) Seen() map[Answer]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.seen)
}

func (w *Watch) check(x Exchange) {
	operation, err := w.contract.Check(x)
	if err != nil {
		w.report("%s %s with %.1000q was answered %d %.1000q, which is not as described:\n%v", x.Request.Method, x.Request.URL.Path, x.Sent, x.Status, x.Body, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[Answer{operation, x.Status}] = true
}

// Handler watches what a handler is asked.
func (w *Watch) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		asked, sent := r.Clone(r.Context()), new(bytes.Buffer) // the handler may change it
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, sent), r.Body}
		answer := &recorder{ResponseWriter: writer, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		w.check(Exchange{asked, sent.Bytes(), answer.status, writer.Header(), answer.body.Bytes()})
	})
}

// recorder keeps what is answered.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// Transport watches what is sent to functions at an address, e.g.
// http://127.0.0.1:8080, and no other.
func (w *Watch) Transport(next http.RoundTripper, address string) http.RoundTripper {
	return transport{w, next, address}
}

type transport struct {
	watch   *Watch
	next    http.RoundTripper
	address string
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host != t.address {
		return t.next.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	t.watch.check(Exchange{r, sent, answer.StatusCode, answer.Header, body})
	return answer, nil
}
