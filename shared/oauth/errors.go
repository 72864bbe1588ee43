package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// The reasons of a refresh token's death
// (https://developers.google.com/identity/protocols/oauth2#expiration).
const (
	ReasonInvalidGrant = "invalid_grant"         // revoked, expired, unused, or pushed out by newer ones
	ReasonInvalidRapt  = "invalid_rapt"          // the organization's session length has passed
	ReasonAdminPolicy  = "admin_policy_enforced" // the organization's administrator restricts a scope
)

const (
	textSessionEnded = "Your organization's session has ended. Please re-authenticate."
	textAdminPolicy  = "Your organization's administrator does not allow this access. Ask them to allow it, then re-authenticate."
	textUnreachable  = "Google could not be reached."
)

// classify decides, once, what an error of the authorization server means; nil
// stays nil. Of an answer it keeps the standard fields alone: the rest of the
// body, and the address of a request that failed, could hold what was sent.
func (c *Client) classify(err error, sent ...string) error {
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return connect.Errorf(connect.Unavailable, textUnreachable).Because(c.plain(err, sent...))
	}
	status, subtype := refused.Response.StatusCode, subtypeOf(refused)
	cause := c.plain(fmt.Errorf("HTTP %d %s %s: %s", status, refused.ErrorCode, subtype, refused.ErrorDescription), sent...)
	switch {
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		busy := connect.Errorf(connect.Unavailable, "Google's login is busy.").Because(cause)
		busy.RetryAfter = retryAfter(refused.Response.Header.Get("Retry-After"))
		return busy
	case refused.ErrorCode == ReasonInvalidGrant && subtype == ReasonInvalidRapt:
		return &connect.Error{Code: connect.NeedsReauth, Reason: ReasonInvalidRapt, Message: textSessionEnded, Err: cause}
	case refused.ErrorCode == ReasonInvalidGrant:
		return &connect.Error{Code: connect.NeedsReauth, Reason: ReasonInvalidGrant, Message: connect.NoRefreshToken, Err: cause}
	case refused.ErrorCode == ReasonAdminPolicy:
		return &connect.Error{Code: connect.NeedsReauth, Reason: ReasonAdminPolicy, Message: textAdminPolicy, Err: cause}
	}
	// invalid_client, redirect_uri_mismatch and the like: no user can help it.
	return &connect.Error{
		Code: connect.Internal, Reason: c.redact(refused.ErrorCode, sent...),
		Message: "Google does not accept Aurora's login. Tell Aurora's support.",
		Err:     fmt.Errorf("the OAuth client %s is not set up as Google has it, check its ID, secret and redirect URI: %w", c.id, cause),
	}
}

// maxLogged bounds what is kept of an error's text, in bytes.
const maxLogged = 500

// plain returns the text of an error alone, without the address of a request
// and without what was sent, should an answer repeat it; nil stays nil. It
// does not unwrap: what lies within could hold what its text does not show.
func (c *Client) plain(err error, sent ...string) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return errors.New(c.redact(err.Error(), sent...))
}

// redact leaves out of a text what was sent, and shortens it.
func (c *Client) redact(text string, sent ...string) string {
	for _, secret := range append(sent, c.secret()) {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "[redacted]") // as forms have it
		}
	}
	if len(text) > maxLogged {
		text = strings.ToValidUTF8(text[:maxLogged], "") + "..."
	}
	return text
}

// subtypeOf is Google's refinement of an error, e.g. invalid_rapt.
func subtypeOf(e *oauth2.RetrieveError) string {
	var body struct {
		Subtype string `json:"error_subtype"`
	}
	if json.Unmarshal(e.Body, &body) != nil {
		return ""
	}
	return body.Subtype
}

// retryAfter reads the header Retry-After: seconds, or a date
// (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after).
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil { // more would overflow
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
