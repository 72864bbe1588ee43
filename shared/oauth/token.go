package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// Refresh returns t with a new access token. Google may rotate the refresh
// token: a new one takes the old one's place. Its errors are NeedsReauth with
// ReasonInvalidGrant, ReasonInvalidRapt or ReasonAdminPolicy when the refresh
// token is dead, Unavailable when Google is busy or cannot be reached, and
// Internal when it does not take the platform's OAuth client.
func (c *Client) Refresh(ctx context.Context, t connect.Token) (connect.Token, error) {
	if t.Refresh == "" {
		return connect.Token{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	var fresh *oauth2.Token
	err := c.retry(ctx, "refresh the token", c.watched("oauth.token", func(ctx context.Context) (err error) {
		fresh, err = c.config().TokenSource(c.with(ctx), &oauth2.Token{RefreshToken: t.Refresh.Reveal()}).Token()
		return c.classify(err, t.Refresh.Reveal())
	}))
	if err != nil {
		return connect.Token{}, err
	}
	t.Access, t.Refresh, t.Expiry = connect.Secret(fresh.AccessToken), connect.Secret(fresh.RefreshToken), fresh.Expiry
	return t, nil
}

// Revoke takes back at Google what t stands for. That is all that the Google
// account granted to the platform: every connection of the same account ends
// with it, from whichever login it came. Revoking what is revoked or expired is no error
// (https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke).
func (c *Client) Revoke(ctx context.Context, t connect.Token) error {
	token := t.Refresh
	if token == "" {
		token = t.Access
	}
	if token == "" {
		return nil
	}
	return c.retry(ctx, "revoke the token", c.watched("oauth.revoke", func(ctx context.Context) error {
		err := c.revoke(ctx, token)
		if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.ErrorCode == "invalid_token" {
			return nil
		}
		return c.classify(err, token.Reveal())
	}))
}

// revoke sends one request. x/oauth2 has no revocation; its error serves.
func (c *Client) revoke(ctx context.Context, token connect.Secret) error {
	form := strings.NewReader(url.Values{"token": {token.Reveal()}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoints.Revoke, form)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read to the end or given up
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		return nil
	}
	refused := &oauth2.RetrieveError{Response: response, Body: body}
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) == nil {
		refused.ErrorCode, refused.ErrorDescription = answer.Error, answer.Description
	}
	return refused
}
