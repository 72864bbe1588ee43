package google

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/api/googleapi"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// answer is the body of an error
// (https://cloud.google.com/apis/design/errors#http_mapping). Services leave
// out errors or details as they like.
type answer struct {
	Error struct {
		Message string `json:"message"`
		Status  string `json:"status"`
		Errors  []struct {
			Reason string `json:"reason"`
		} `json:"errors"`
		Details []struct {
			Type       string `json:"@type"`
			Reason     string `json:"reason"`
			Violations []struct {
				Type string `json:"type"`
			} `json:"violations"`
		} `json:"details"`
	} `json:"error"`
}

// reasons are what an error says of its cause, in ErrorInfo or, older, in
// errors[].
func (a *answer) reasons() []string {
	var reasons []string
	for _, d := range a.Error.Details {
		if d.Reason != "" {
			reasons = append(reasons, d.Reason)
		}
	}
	for _, e := range a.Error.Errors {
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

func (a *answer) violates(kind string) bool {
	for _, d := range a.Error.Details {
		for _, v := range d.Violations {
			if strings.Contains(v.Type, kind) {
				return true
			}
		}
	}
	return false
}

// memberMissing is what setIamPolicy answers about a member that does not
// exist.
var memberMissing = regexp.MustCompile(`(?i)\b(service account|user|group) \S+ does not exist`)

// busyWords are what Service Usage answers when the same call works later,
// with statuses that say otherwise.
var busyWords = []string{"Another activation or deactivation is in progress", "Precondition check failed."}

// classify decides, once, what class an error of a call is of.
func classify(ctx context.Context, err error) *connect.Error {
	failure, ok := asGoogle(err)
	if !ok {
		message := "Google could not be reached."
		if ctx.Err() != nil {
			message = "Google did not answer in time."
		}
		return connect.Errorf(connect.Unavailable, "%s", message).Because(err)
	}
	var a answer
	if json.Unmarshal([]byte(failure.Body), &a) != nil || a.Error.Message == "" {
		a.Error.Message = failure.Message
	}
	result := &connect.Error{
		Code: class(failure, &a), Message: forPeople(failure, &a),
		Err: fmt.Errorf("HTTP %d %s %v: %s", failure.Code, a.Error.Status, a.reasons(), a.Error.Message),
	}
	if reasons := a.reasons(); len(reasons) > 0 {
		result.Reason = reasons[0]
	}
	if seconds, err := strconv.Atoi(failure.Header.Get("Retry-After")); err == nil {
		result.RetryAfter = time.Duration(seconds) * time.Second
	}
	switch message := a.Error.Message; {
	case result.Code == connect.Invalid && memberMissing.MatchString(message):
		result.Reason = setup.ReasonMemberMissing
	case a.violates("iam.allowedPolicyMemberDomains") || strings.Contains(message, "do not belong to a permitted customer"):
		result.Code, result.Reason = connect.Precondition, setup.ReasonDomainRestricted
	}
	return result
}

// class maps the HTTP code, the status and the reasons to a class.
func class(failure *googleapi.Error, a *answer) connect.Code {
	limited := func(reason string) bool {
		switch reason {
		case "rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "quotaExceeded":
			return true
		}
		return false
	}
	busy := slices.ContainsFunc(busyWords, func(words string) bool { return strings.Contains(a.Error.Message, words) })
	switch code := failure.Code; {
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return connect.Unavailable
	case code == http.StatusForbidden && slices.ContainsFunc(a.reasons(), limited):
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
	case code == http.StatusPreconditionFailed || a.Error.Status == "FAILED_PRECONDITION":
		return connect.Precondition
	}
	return connect.Invalid
}

// maxMessage bounds Google's words in what people read.
const maxMessage = 300

// forPeople are Google's own words, shortened.
func forPeople(failure *googleapi.Error, a *answer) string {
	message := strings.TrimSpace(a.Error.Message)
	if message == "" {
		message = fmt.Sprintf("Google answered %d.", failure.Code)
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
	}
	if !strings.HasSuffix(message, ".") {
		message += "."
	}
	return message
}
