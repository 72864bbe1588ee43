package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// classify decides what an error of the token endpoint means. Of the answer it
// keeps the standard fields only: the rest of the body, and the address of a
// request that failed, could hold what was sent.
func classify(doing string, err error) *connect.Error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		if unreachable, ok := errors.AsType[*url.Error](err); ok {
			err = unreachable.Err
		}
		return connect.Errorf(connect.Unavailable, "Google could not be reached.").Because(fmt.Errorf("%s: %w", doing, err))
	}
	cause := fmt.Errorf("%s: HTTP %d %s %s: %s", doing, refused.Response.StatusCode, refused.ErrorCode, subtype(refused), refused.ErrorDescription)
	switch status := refused.Response.StatusCode; {
	case refused.ErrorCode == ReasonInvalidGrant && subtype(refused) == ReasonInvalidRapt:
		return &connect.Error{
			Code: connect.NeedsReauth, Reason: ReasonInvalidRapt, Err: cause,
			Message: "Your organization's Google session has ended. Please re-authenticate.",
		}
	case refused.ErrorCode == ReasonInvalidGrant:
		return &connect.Error{Code: connect.NeedsReauth, Reason: ReasonInvalidGrant, Err: cause, Message: textNoToken}
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return connect.Errorf(connect.Unavailable, "Google's login is busy.").Because(cause)
	}
	return connect.Errorf(connect.Precondition, "Google does not accept Aurora's login: its OAuth client is not set up rightly. Tell Aurora's support.").Because(cause)
}

// subtype is Google's refinement of an error, e.g. invalid_rapt.
func subtype(e *oauth2.RetrieveError) string {
	var body struct {
		Subtype string `json:"error_subtype"`
	}
	if json.Unmarshal(e.Body, &body) != nil {
		return ""
	}
	return body.Subtype
}
