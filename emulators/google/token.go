package google

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
	Subtype     string `json:"error_subtype,omitempty"`
	URI         string `json:"error_uri,omitempty"`
}

func invalidGrant(description string) (int, any) {
	return http.StatusBadRequest, oauthError{Error: "invalid_grant", Description: description}
}

// exchangeToken is the token endpoint.
func (c *call) exchangeToken() (int, any) {
	form, err := url.ParseQuery(string(c.body))
	if err != nil || !strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return http.StatusBadRequest, oauthError{Error: "invalid_request", Description: "The body must be a form."}
	}
	if form.Get("grant_type") == grantAssertion {
		return c.exchangeAssertion(form)
	}
	id, key := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := c.r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
		key, _ = url.QueryUnescape(password)
	}
	client := c.world.client(id)
	switch {
	case id == "":
		return http.StatusBadRequest, oauthError{Error: "invalid_request", Description: "Could not determine client ID from request."}
	case client == nil:
		return http.StatusUnauthorized, oauthError{Error: "invalid_client", Description: "The OAuth client was not found."}
	case client.AuthError == "deleted_client":
		return http.StatusUnauthorized, oauthError{Error: "deleted_client", Description: "The OAuth client was deleted."}
	case key == "":
		return http.StatusBadRequest, oauthError{Error: "invalid_request", Description: "client_secret is missing."}
	case subtle.ConstantTimeCompare([]byte(key), []byte(client.Secret)) != 1:
		return http.StatusUnauthorized, oauthError{Error: "invalid_client", Description: "The provided client secret is invalid."}
	}
	switch form.Get("grant_type") {
	case "authorization_code":
		return c.exchangeCode(client, form)
	case "refresh_token":
		return c.refreshAccess(client, form)
	}
	return http.StatusBadRequest, oauthError{Error: "unsupported_grant_type", Description: "Invalid grant_type: " + form.Get("grant_type")}
}

func (c *call) exchangeCode(client *Client, form url.Values) (int, any) {
	code := c.world.codes[form.Get("code")]
	if code == nil {
		return invalidGrant("Malformed auth code.")
	}
	if code.used || !c.now.Before(code.expires) || code.request.client.ID != client.ID || code.grant.revoked {
		return invalidGrant("Bad Request")
	}
	code.used = true // whatever comes now: a code is good for one try
	r, verifier := code.request, form.Get("code_verifier")
	switch {
	case form.Get("redirect_uri") != r.redirectURI:
		return http.StatusBadRequest, oauthError{Error: "redirect_uri_mismatch", Description: "Bad Request"}
	case r.challenge != "" && verifier == "":
		return invalidGrant("Missing code verifier.")
	case r.challenge == "" && verifier != "":
		return invalidGrant("code_verifier or verifier is not needed.")
	case r.challenge != "" && challengeOf(verifier) != r.challenge:
		return invalidGrant("Invalid code verifier.")
	}
	out := c.newAccess(code.grant, code.user, client, code.scopes)
	first := !code.grant.offline[client.ID]
	if r.offline && !client.NoRefreshToken && (first || slices.Contains(r.prompts, "consent")) {
		code.grant.offline[client.ID] = true
		out["refresh_token"] = c.newRefresh(code, client)
		if client.TimeBasedAccess && client.RefreshLifetime > 0 {
			out["refresh_token_expires_in"] = int(seconds(client.RefreshLifetime)) - 1
		}
	}
	c.addIDToken(out, code.user, client, code.scopes, r.nonce)
	return http.StatusOK, out
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (c *call) newAccess(g *consent, user string, client *Client, scopes []string) map[string]any {
	token := "ya29.a0" + secret()
	c.world.access[token] = &accessToken{user: user, client: client.ID, scopes: scopes, expires: c.now.Add(tokenLifetime), grant: g}
	return map[string]any{
		"access_token": token, "expires_in": int(tokenLifetime / time.Second),
		"scope": strings.Join(scopes, " "), "token_type": "Bearer",
	}
}

func (c *call) newRefresh(code *authCode, client *Client) string {
	w := c.world
	whose := holder{code.user, client.ID}
	alive := slices.DeleteFunc(w.held[whose], func(t *refreshToken) bool { return !t.alive(c.now) })
	if len(alive) >= maxRefreshTokens {
		alive[0].dead = true // the oldest
		alive = alive[1:]
	}
	t := &refreshToken{user: code.user, client: client.ID, scopes: code.scopes, grant: code.grant, began: c.now, expires: c.now.Add(disuse)}
	if client.RefreshLifetime > 0 {
		t.expires = after(c.now, client.RefreshLifetime)
	}
	text := "1//0" + secret()
	w.refresh[text], w.held[whose] = t, append(alive, t)
	return text
}

func (c *call) refreshAccess(client *Client, form url.Values) (int, any) {
	t := c.world.refresh[form.Get("refresh_token")]
	if t == nil || t.client != client.ID || !t.alive(c.now) {
		return invalidGrant("Token has been expired or revoked.")
	}
	u := c.world.users[t.user]
	failure := u.RefreshError
	if u.SessionLength > 0 && slices.Contains(t.scopes, cloudPlatform) && !c.now.Before(after(t.began, u.SessionLength)) {
		failure = "invalid_rapt"
	}
	switch failure {
	case "invalid_rapt":
		return http.StatusBadRequest, oauthError{Error: "invalid_grant", Description: "reauth related error (invalid_rapt)", Subtype: "invalid_rapt", URI: "https://support.google.com/a/answer/9368756"}
	case "invalid_grant":
		return invalidGrant("Token has been expired or revoked.")
	}
	scopes := t.scopes
	if narrower := strings.Fields(form.Get("scope")); len(narrower) > 0 {
		for i, scope := range narrower {
			if narrower[i] = scopeURL(scope); !slices.Contains(t.scopes, narrower[i]) {
				return http.StatusBadRequest, oauthError{Error: "invalid_scope", Description: "Bad Request"}
			}
		}
		scopes = narrower
	}
	if client.RefreshLifetime == 0 {
		t.expires = c.now.Add(disuse)
	}
	out := c.newAccess(t.grant, t.user, client, scopes)
	if client.RotateRefresh {
		t.dead = true
		next, text := *t, "1//0"+secret()
		next.dead = false
		c.world.refresh[text] = &next
		whose := holder{t.user, client.ID}
		c.world.held[whose] = append(c.world.held[whose], &next)
		out["refresh_token"] = text
	}
	c.addIDToken(out, t.user, client, scopes, "")
	return http.StatusOK, out
}

// revokeToken takes back all that the user granted the client's project,
// whichever of its tokens is named.
func (c *call) revokeToken() (int, any) {
	token := c.r.URL.Query().Get("token")
	if form, err := url.ParseQuery(string(c.body)); err == nil && form.Has("token") {
		token = form.Get("token")
	}
	var g *consent
	if t := c.world.refresh[token]; t != nil && t.alive(c.now) {
		g = t.grant
	}
	if t := c.world.access[token]; t != nil && t.alive(c.now) {
		g = t.grant
	}
	switch {
	case token == "":
		return http.StatusBadRequest, oauthError{Error: "invalid_request", Description: "Bad Request"}
	case g == nil:
		return http.StatusBadRequest, oauthError{Error: "invalid_token", Description: "Token expired or revoked"}
	}
	c.world.revoke(g)
	return http.StatusOK, empty{}
}

func (w *world) revoke(g *consent) {
	g.revoked = true
	delete(w.grants, grantKeyOAuth{g.user, g.project})
}
