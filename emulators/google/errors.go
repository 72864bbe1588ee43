package google

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// An apiError is a refusal as Google's APIs word it. Callers classify on the
// HTTP code, the status and the ErrorInfo reason, so those three are exact;
// messages are exact where a recording of them is known.
type apiError struct {
	code       int
	status     string // google.rpc.Code name, e.g. PERMISSION_DENIED
	message    string
	reason     string // of errors[0], where the API emits errors[]; "" derives it
	domain     string // of errors[0]; "" is global
	details    []any
	retryAfter time.Duration
	challenge  string // WWW-Authenticate
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.code, e.status, e.message) }

func errorf(code int, status, format string, args ...any) *apiError {
	return &apiError{code: code, status: status, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *apiError {
	return errorf(http.StatusBadRequest, "INVALID_ARGUMENT", format, args...)
}

func precondition(format string, args ...any) *apiError {
	return errorf(http.StatusBadRequest, "FAILED_PRECONDITION", format, args...)
}

func (e *apiError) with(details ...any) *apiError {
	e.details = append(e.details, details...)
	return e
}

const typeURL = "type.googleapis.com/google.rpc."

func errorInfo(reason, domain string, metadata map[string]string) any {
	info := map[string]any{"@type": typeURL + "ErrorInfo", "reason": reason, "domain": domain}
	if len(metadata) > 0 {
		info["metadata"] = metadata
	}
	return info
}

func preconditionFailure(kind, subject, description string) any {
	violation := map[string]string{"type": kind, "subject": subject}
	if description != "" {
		violation["description"] = description
	}
	return map[string]any{"@type": typeURL + "PreconditionFailure", "violations": []any{violation}}
}

func fieldViolation(field, description string) any {
	return map[string]any{
		"@type":           typeURL + "BadRequest",
		"fieldViolations": []any{map[string]string{"field": field, "description": description}},
	}
}

func resourceInfo(kind, name string) any {
	return map[string]any{"@type": typeURL + "ResourceInfo", "resourceType": kind, "resourceName": name}
}

func help(description, url string) any {
	return map[string]any{
		"@type": typeURL + "Help",
		"links": []any{map[string]string{"description": description, "url": url}},
	}
}

// statusOf gives the google.rpc.Code name usual for an HTTP code.
func statusOf(code int) string {
	switch code {
	case 400:
		return "INVALID_ARGUMENT"
	case 401:
		return "UNAUTHENTICATED"
	case 403:
		return "PERMISSION_DENIED"
	case 404:
		return "NOT_FOUND"
	case 409:
		return "ABORTED"
	case 412:
		return "FAILED_PRECONDITION"
	case 429:
		return "RESOURCE_EXHAUSTED"
	case 499:
		return "CANCELLED"
	case 501:
		return "UNIMPLEMENTED"
	case 503:
		return "UNAVAILABLE"
	case 504:
		return "DEADLINE_EXCEEDED"
	}
	return "INTERNAL"
}

// legacyReason gives errors[0].reason, the old style of classification.
func legacyReason(e *apiError) string {
	switch {
	case e.reason != "":
		return e.reason
	case e.status == "ALREADY_EXISTS":
		return "alreadyExists"
	case e.status == "ABORTED":
		return "aborted"
	case e.status == "FAILED_PRECONDITION":
		return "failedPrecondition"
	}
	switch e.code {
	case 400:
		return "badRequest"
	case 401:
		return "authError"
	case 403:
		return "forbidden"
	case 404:
		return "notFound"
	case 429:
		return "rateLimitExceeded"
	}
	return "backendError"
}

// body renders e. The list errors[] is emitted by some services only, and a
// client must live with either.
func (e *apiError) body(withErrors bool) any {
	out := map[string]any{"code": e.code, "message": e.message, "status": e.status}
	if withErrors {
		domain := e.domain
		if domain == "" {
			domain = "global"
		}
		out["errors"] = []any{map[string]string{"message": e.message, "domain": domain, "reason": legacyReason(e)}}
	}
	if len(e.details) > 0 {
		out["details"] = e.details
	}
	return map[string]any{"error": out}
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	encoded, err := render(body, nil, false)
	if err != nil {
		code = err.code
		encoded, _ = render(err.body(false), nil, false)
	}
	writeEncoded(w, code, encoded)
}

// writeEncoded answers with the headers that Google's front ends send.
func writeEncoded(w http.ResponseWriter, code int, encoded []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=UTF-8")
	h.Set("Vary", "Origin, X-Origin, Referer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Cache-Control", "private")
	w.WriteHeader(code)
	w.Write(append(encoded, '\n')) //nolint:gosec // JSON that browsers are told not to sniff; a client that has gone needs no answer
}

func writeError(w http.ResponseWriter, e *apiError, withErrors bool) {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.retryAfter+time.Second-1)/time.Second)))
	}
	if e.challenge != "" {
		w.Header().Set("WWW-Authenticate", e.challenge)
	}
	writeJSON(w, e.code, e.body(withErrors))
}
