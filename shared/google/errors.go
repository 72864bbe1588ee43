package google

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/googleapi"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// answer is an error as Google's APIs word it
// (https://google.aip.dev/193). Services leave out errors or details as they
// like, and what stands before the APIs may answer no JSON at all.
type answer struct {
	code    int
	Message string `json:"message"`
	Status  string `json:"status"`
	Errors  []struct {
		Reason string `json:"reason"`
	} `json:"errors"`
	Details []struct {
		Reason     string `json:"reason"`     // of ErrorInfo
		RetryDelay string `json:"retryDelay"` // of RetryInfo
		Violations []struct {
			Type string `json:"type"`
		} `json:"violations"` // of PreconditionFailure
	} `json:"details"`
}

// redact leaves the token out of a text that repeats it, as what stands on the
// way may do with the request's headers.
func redact(text string, token connect.Secret) string {
	if token == "" {
		return text
	}
	return strings.ReplaceAll(text, token.Reveal(), "[redacted]")
}

// read takes an error of the clients apart.
func read(e *googleapi.Error, token connect.Secret) *answer {
	var body struct {
		Error answer `json:"error"`
	}
	text := []byte(redact(e.Body, token))
	if len(text) > 0 && text[0] == '[' { // some answer a list of one
		var list []json.RawMessage
		if json.Unmarshal(text, &list) == nil && len(list) > 0 {
			text = list[0]
		}
	}
	if json.Unmarshal(text, &body) != nil {
		body.Error = answer{}
	}
	a := &body.Error
	a.code = e.Code
	if a.Message == "" {
		a.Message = redact(e.Message, token)
	}
	return a
}

// reasons are what an error says of its cause: in ErrorInfo or, older, in
// errors[].
func (a *answer) reasons() []string {
	var reasons []string
	for _, d := range a.Details {
		if d.Reason != "" {
			reasons = append(reasons, d.Reason)
		}
	}
	for _, e := range a.Errors {
		if e.Reason != "" {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// says reports whether one of the texts is among an error's reasons.
func (a *answer) says(reasons ...string) bool {
	return slices.ContainsFunc(a.reasons(), func(r string) bool { return slices.Contains(reasons, r) })
}

// violates reports whether an error names a precondition or, where details
// are left out, has the words.
func (a *answer) violates(precondition, words string) bool {
	for _, d := range a.Details {
		for _, v := range d.Violations {
			if strings.Contains(v.Type, precondition) {
				return true
			}
		}
	}
	return strings.Contains(a.Message, words)
}

const reasonServiceDisabled = setup.ReasonServiceDisabled

// memberMissing is what setIamPolicy answers about a member that does not
// exist, e.g. "Service account x@p.iam.gserviceaccount.com does not exist."
var memberMissing = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(service account|user|group|domain) \S+ does not exist\b`)
})

// busyWords are what Service Usage answers when the same call works later,
// with statuses that say otherwise.
var busyWords = []string{"Another activation or deactivation is in progress", "Precondition check failed."}

// classify decides, once, what class an error of a call is of. Of what Google
// answered, it keeps the words and the reasons for the log: neither the request
// nor the token that it was made with.
func classify(ctx context.Context, called api, token connect.Secret, err error) *connect.Error {
	failure, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return unreachable(ctx, called, token, err)
	}
	a := read(failure, token)
	e := &connect.Error{
		Code:       class(called, a),
		Message:    words(a.Message, fmt.Sprintf("Google answered %d.", a.code)),
		RetryAfter: retryAfter(failure.Header.Get("Retry-After"), a),
		Err:        fmt.Errorf("%s: HTTP %d %s %v: %s", called.name, a.code, a.Status, a.reasons(), clip(a.Message, maxLogged)),
	}
	if reasons := a.reasons(); len(reasons) > 0 {
		e.Reason = reasons[0]
	}
	switch {
	case a.code == http.StatusForbidden && (a.says("accessNotConfigured") || strings.Contains(a.Message, " has not been used in project ")):
		e.Reason = reasonServiceDisabled
	case a.says(setup.ReasonBillingMissing, "BILLING_DISABLED") || a.violates("/billing-enabled", "Billing must be enabled for activation"):
		e.Code, e.Reason = connect.Precondition, setup.ReasonBillingMissing
	case a.violates("iam.allowedPolicyMemberDomains", "do not belong to a permitted customer") || a.violates("iam.managed.allowedPolicyMembers", "constraints/iam.managed.allowedPolicyMembers"):
		e.Code, e.Reason = connect.Precondition, setup.ReasonDomainRestricted
	case a.code == http.StatusBadRequest && memberMissing().MatchString(a.Message):
		e.Code, e.Reason = connect.Invalid, setup.ReasonMemberMissing
	}
	return e
}

// unreachable is the class of an error without an answer. Of its cause it keeps
// the text alone: what lies within could hold the request.
func unreachable(ctx context.Context, called api, token connect.Secret, err error) *connect.Error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL: its query is nobody's business
	}
	message := "Google could not be reached."
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		message = "Google did not answer in time."
	}
	return connect.Errorf(connect.Unavailable, "%s", message).
		Because(errors.New(called.name + ": " + clip(redact(err.Error(), token), maxLogged)))
}

// class maps the HTTP code, the status and the reasons to a class.
func class(called api, a *answer) connect.Code {
	busy := called.busyPreconditions && slices.ContainsFunc(busyWords, func(words string) bool { return strings.Contains(a.Message, words) })
	switch code := a.code; {
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || a.Status == "CANCELLED":
		return connect.Unavailable
	case code >= http.StatusInternalServerError || code < http.StatusBadRequest:
		return connect.Unavailable
	case code == http.StatusForbidden && a.says("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED"):
		return connect.Unavailable
	case busy && (code == http.StatusBadRequest || code == http.StatusPreconditionFailed):
		return connect.Unavailable
	case code == http.StatusUnauthorized:
		return connect.Unauthenticated
	case code == http.StatusForbidden:
		return connect.Forbidden
	case code == http.StatusNotFound:
		return connect.NotFound
	case code == http.StatusConflict:
		return connect.Conflict
	case code == http.StatusPreconditionFailed || a.Status == "FAILED_PRECONDITION":
		return connect.Precondition
	}
	return connect.Invalid
}

// tooMany reports whether an error is Google's word for a quota that is used up.
func tooMany(err error) bool {
	failure, ok := errors.AsType[*googleapi.Error](err)
	return ok && (failure.Code == http.StatusTooManyRequests || failure.Code == http.StatusForbidden)
}

// retryAfter is how long Google asks to be left alone: in seconds or as a date
// (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after), or in RetryInfo.
func retryAfter(header string, a *answer) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil { // more would overflow
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	for _, d := range a.Details {
		if delay, err := time.ParseDuration(d.RetryDelay); err == nil {
			return max(0, delay)
		}
	}
	return 0
}

// Bounds of Google's words, in bytes.
const (
	maxMessage = 300  // for people
	maxLogged  = 2000 // for the log
)

// words are what Google says, for people: shortened, and otherwise if it says
// nothing. Sentences with links are left out: they lead into the console of
// whatever project the call was counted against, which can be the platform's.
func words(message, otherwise string) string {
	var sentences []string
	for s := range strings.SplitSeq(strings.Join(strings.Fields(message), " "), ". ") {
		if s = strings.TrimRight(s, "."); s != "" && !strings.Contains(s, "://") {
			sentences = append(sentences, s)
		}
	}
	if len(sentences) == 0 {
		return otherwise
	}
	message = strings.Join(sentences, ". ")
	if short := clip(message, maxMessage); short != message {
		return short + "..."
	}
	if strings.HasSuffix(message, "!") || strings.HasSuffix(message, "?") {
		return message
	}
	return message + "."
}

// clip cuts text to at most n bytes, between characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
