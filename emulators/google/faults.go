package google

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Fault makes calls fail, slow or silent. The first that strikes a call
// counts. Empty selectors match everything; * in them stands for any
// characters. A fault answers (Code, OAuthError), resets or hangs, and each of
// these may come after a delay; Truncate goes with Code or alone.
type Fault struct {
	Method  string `json:"method,omitempty"`  // e.g. "serviceusage.services.*"
	Project string `json:"project,omitempty"` // project ID
	Caller  string `json:"caller,omitempty"`  // email
	// Text must occur in the path or body, such as a service's name.
	Text string `json:"text,omitempty"`

	Skip        int     `json:"skip,omitempty"`        // matching calls to let through first
	Count       int     `json:"count,omitempty"`       // calls to strike after that; 0: all
	Probability float64 `json:"probability,omitempty"` // of striking a matching call; 0: 1

	// Code is the HTTP code of an answer in place of the real one.
	Code    int    `json:"code,omitempty"`
	Status  string `json:"status,omitempty"`  // default: the usual one for Code
	Reason  string `json:"reason,omitempty"`  // of ErrorInfo; "": no details
	Domain  string `json:"domain,omitempty"`  // of ErrorInfo; default: the service's
	Message string `json:"message,omitempty"` // default: Google's usual words
	// OAuthError and OAuthSubtype are for oauth.* methods: {"error": ...}.
	OAuthError   string `json:"oauthError,omitempty"`
	OAuthSubtype string `json:"oauthSubtype,omitempty"`

	RetryAfter Duration `json:"retryAfter,omitempty"` // header Retry-After
	Delay      Duration `json:"delay,omitempty"`      // on top of the latency
	Reset      bool     `json:"reset,omitempty"`      // the connection breaks without an answer
	Hang       bool     `json:"hang,omitempty"`       // nothing comes until the caller leaves
	// Truncate cuts the answer in its middle: the headers promise all of it,
	// half of it comes, and the connection closes. What was asked for is done,
	// unless Code says that it was refused.
	Truncate bool `json:"truncate,omitempty"`
	// AfterEffect does what was asked for and then loses the answer to Code,
	// Reset or Hang; without it these leave everything as it was.
	AfterEffect bool `json:"afterEffect,omitempty"`
}

// A fault is a Fault and how often it has matched and struck.
type fault struct {
	Fault
	matched, struck int
}

func (f *findings) fault(path string, fault *Fault) {
	if fault.Method != "" && !slices.ContainsFunc(MethodNames(), func(name string) bool { return wildcard(fault.Method, name) }) {
		f.add(path+".method", "%q matches no method", fault.Method)
	}
	if fault.Skip < 0 || fault.Count < 0 {
		f.add(path, "skip and count must not be negative")
	}
	if fault.Probability < 0 || fault.Probability > 1 {
		f.add(path+".probability", "must be 0 to 1")
	}
	if fault.Code != 0 && (fault.Code < 400 || fault.Code > 599) {
		f.add(path+".code", "%d is not an error", fault.Code)
	}
	if fault.Delay == Never || fault.RetryAfter == Never {
		f.add(path, "delay and retryAfter must end")
	}
	ways := 0
	for _, way := range []bool{fault.Code != 0 || fault.OAuthError != "", fault.Reset, fault.Hang} {
		if way {
			ways++
		}
	}
	switch {
	case ways == 0 && !fault.Truncate && fault.Delay == 0:
		f.add(path, "does nothing: give it a code, oauthError, reset, hang, truncate or delay")
	case ways > 1 || fault.Truncate && (fault.Reset || fault.Hang):
		f.add(path, "contradicts itself: a call is answered, reset or hangs, and only an answer can be cut")
	case fault.AfterEffect && ways == 0:
		f.add(path+".afterEffect", "loses no answer: give it a code, oauthError, reset or hang")
	}
}

// strike finds the fault that befalls a call, if any.
func (s *Server) strike(method, project, caller, path string, body []byte) *fault {
	for _, f := range s.world.faults {
		if !matches(f.Method, method) || !matches(f.Project, project) || !matches(f.Caller, caller) {
			continue
		}
		if f.Text != "" && !strings.Contains(path, f.Text) && !strings.Contains(string(body), f.Text) {
			continue
		}
		if f.matched++; f.matched <= f.Skip || f.Count > 0 && f.struck >= f.Count {
			continue
		}
		if f.Probability > 0 && s.random.Float64() >= f.Probability {
			continue
		}
		f.struck++
		return f
	}
	return nil
}

func matches(pattern, text string) bool { return pattern == "" || wildcard(pattern, text) }

// answers reports whether the fault takes the place of the answer.
func (f *Fault) answers() bool { return f.Code != 0 || f.Reset || f.Hang || f.OAuthError != "" }

// code is what the call is recorded with; 0 when there was no answer.
func (f *Fault) code() int {
	switch {
	case f.Reset:
		return 0
	case f.Hang:
		return statusGone
	case f.Code != 0:
		return f.Code
	}
	return http.StatusBadRequest
}

func (f *Fault) answer(w http.ResponseWriter, r *http.Request, m *method) {
	switch {
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // the connection has ended, or ends now
	case f.Reset:
		breakConnection(w)
		return
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(seconds(f.RetryAfter))))
	}
	if m.oauth != nil {
		name := f.OAuthError
		if name == "" {
			name = "internal_failure"
		}
		body := map[string]string{"error": name, "error_description": f.Message}
		if f.OAuthSubtype != "" {
			body["error_subtype"] = f.OAuthSubtype
		}
		writeJSON(w, f.code(), body)
		return
	}
	status, message := f.Status, f.Message
	if status == "" {
		status = statusOf(f.code())
	}
	if message == "" {
		message = usualWords(f.code())
	}
	e := errorf(f.code(), status, "%s", message)
	if f.Reason != "" {
		domain := f.Domain
		if domain == "" {
			domain = m.api.name
		}
		e = e.with(errorInfo(f.Reason, domain, map[string]string{"service": m.api.name}))
	}
	writeError(w, e, m.api.withErrors)
}

// breakConnection ends a connection as a crashed peer does: by a TCP reset
// where there is TCP, or else by closing it.
func breakConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // where it fails, closing has to do
	}
	_ = conn.Close() // it is broken either way
}

// truncate writes an answer whose headers promise all of it and whose body
// ends half way. It does not return.
func truncate(w http.ResponseWriter, write func(http.ResponseWriter)) {
	whole := &heldAnswer{header: w.Header(), code: http.StatusOK}
	write(whole)
	w.Header().Set("Content-Length", strconv.Itoa(whole.body.Len()))
	w.WriteHeader(whole.code)
	w.Write(whole.body.Bytes()[:whole.body.Len()/2])
	_ = http.NewResponseController(w).Flush() // else net/http might drop all of it
	panic(http.ErrAbortHandler)               // net/http closes the connection
}

// A heldAnswer keeps an answer back until it is known how long it is.
type heldAnswer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header         { return h.header }
func (h *heldAnswer) WriteHeader(code int)        { h.code = code }
func (h *heldAnswer) Write(p []byte) (int, error) { return h.body.Write(p) }

func seconds(d Duration) int64 { return (int64(d) + 999_999_999) / 1_000_000_000 }

func usualWords(code int) string {
	switch code {
	case 403:
		return "The caller does not have permission"
	case 404:
		return "Requested entity was not found."
	case 409:
		return "The operation was aborted."
	case 412:
		return "Precondition check failed."
	case 429:
		return "Resource has been exhausted (e.g. check quota)."
	case 500:
		return "Internal error encountered."
	case 503:
		return "The service is currently unavailable."
	case 504:
		return "Deadline expired before operation could complete."
	}
	return "Request contains an invalid argument."
}

// AddFault adds a fault, to be tried after those there are.
func (s *Server) AddFault(f Fault) error {
	var check findings
	check.fault("fault", &f)
	if err := check.err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.faults = append(s.world.faults, &fault{Fault: f})
	s.world.scenario.Faults = append(s.world.scenario.Faults, f)
	return nil
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.faults, s.world.scenario.Faults = nil, nil
}
