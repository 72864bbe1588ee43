package google

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	authPath     = "/o/oauth2/v2/auth"
	codeLifetime = 10 * time.Minute
	// tokenLifetime is what expires_in says; Google counts 3599 of 3600 s.
	tokenLifetime = 3599 * time.Second
	// maxRefreshTokens is how many one account and client may have; one more
	// silently kills the oldest.
	maxRefreshTokens = 100
	disuse           = 180 * 24 * time.Hour
)

// knownScopes are those that exist; asking for another is an error.
var knownScopes = []string{
	"openid", "https://www.googleapis.com/auth/userinfo.email", "https://www.googleapis.com/auth/userinfo.profile",
	cloudPlatform, cloudPlatformReadOnly,
	"https://www.googleapis.com/auth/cloud-billing", "https://www.googleapis.com/auth/cloud-billing.readonly",
	"https://www.googleapis.com/auth/service.management", "https://www.googleapis.com/auth/service.management.readonly",
	"https://www.googleapis.com/auth/compute", "https://www.googleapis.com/auth/compute.readonly",
	"https://www.googleapis.com/auth/devstorage.full_control", "https://www.googleapis.com/auth/devstorage.read_only",
	"https://www.googleapis.com/auth/devstorage.read_write", "https://www.googleapis.com/auth/bigquery",
	"https://www.googleapis.com/auth/iam", "https://www.googleapis.com/auth/cloudfunctions",
	"https://www.googleapis.com/auth/logging.read", "https://www.googleapis.com/auth/monitoring.read",
	"https://www.googleapis.com/auth/sqlservice.admin", "https://www.googleapis.com/auth/drive.readonly",
	// what gcloud asks for beside those above
	"https://www.googleapis.com/auth/appengine.admin", "https://www.googleapis.com/auth/sqlservice.login",
}

// scopeURL is a scope as answers name it: email and profile have long names.
func scopeURL(scope string) string {
	switch scope {
	case "email":
		return "https://www.googleapis.com/auth/userinfo.email"
	case "profile":
		return "https://www.googleapis.com/auth/userinfo.profile"
	}
	return scope
}

// A consent is what one user has granted one client project. Revoking it kills
// every token that hangs on it.
type consent struct {
	user, project string
	scopes        []string
	revoked       bool
	offline       map[string]bool // clients that have had a refresh token
}

type grantKeyOAuth struct{ user, project string }

type authCode struct {
	request *authRequest
	user    string
	scopes  []string
	grant   *consent
	expires time.Time
	used    bool
}

// A holder has refresh tokens: a client, of a user.
type holder struct{ user, client string }

type refreshToken struct {
	user, client string
	scopes       []string
	grant        *consent
	began        time.Time
	expires      time.Time
	dead         bool
}

func (t *refreshToken) alive(now time.Time) bool {
	return !t.dead && !t.grant.revoked && now.Before(t.expires)
}

// An authRequest is a valid authorization request.
type authRequest struct {
	query       url.Values
	client      *Client
	redirectURI string
	scopes      []string
	state       string
	challenge   string
	nonce       string
	loginHint   string
	prompts     []string
	offline     bool
	merge       bool // include_granted_scopes
}

// An authProblem is shown to the user, for it must not be redirected.
type authProblem struct {
	Code    int
	Error   string
	Message string
}

// readAuthRequest validates an authorization request.
func (w *world) readAuthRequest(q url.Values) (*authRequest, *authProblem) {
	bad := func(message string) (*authRequest, *authProblem) {
		return nil, &authProblem{http.StatusBadRequest, "invalid_request", message}
	}
	for _, name := range sortedKeys(q) {
		if len(q[name]) > 1 {
			return bad("The parameter " + name + " is there more than once.")
		}
	}
	id := q.Get("client_id")
	if id == "" {
		return bad("Missing required parameter: client_id")
	}
	client := w.client(id)
	if client == nil {
		return nil, &authProblem{http.StatusUnauthorized, "invalid_client", "The OAuth client was not found."}
	}
	r := &authRequest{
		query: q, client: client, redirectURI: q.Get("redirect_uri"), state: q.Get("state"), challenge: q.Get("code_challenge"),
		nonce: q.Get("nonce"), loginHint: q.Get("login_hint"), prompts: strings.Fields(q.Get("prompt")),
		offline: q.Get("access_type") == "offline", merge: q.Get("include_granted_scopes") == "true",
	}
	if r.redirectURI == "" {
		return bad("Missing required parameter: redirect_uri")
	}
	if !client.redirects(r.redirectURI) {
		return nil, &authProblem{http.StatusBadRequest, "redirect_uri_mismatch", "The redirect URI in the request, " + r.redirectURI + ", does not match the ones authorized for the OAuth client."}
	}
	switch q.Get("response_type") {
	case "code":
	case "":
		return bad("Missing required parameter: response_type")
	default:
		return nil, &authProblem{http.StatusBadRequest, "unsupported_response_type", "Only response_type=code is emulated."}
	}
	for _, scope := range strings.Fields(q.Get("scope")) {
		if !slices.Contains(knownScopes, scopeURL(scope)) {
			return nil, &authProblem{http.StatusBadRequest, "invalid_scope", "Some requested scopes were invalid: " + scope}
		}
		if !slices.Contains(r.scopes, scopeURL(scope)) {
			r.scopes = append(r.scopes, scopeURL(scope))
		}
	}
	if len(r.scopes) == 0 {
		return bad("Missing required parameter: scope")
	}
	if a := q.Get("access_type"); a != "" && a != "online" && a != "offline" {
		return bad("Invalid parameter value for access_type: '" + a + "' is not a valid access_type.")
	}
	for _, p := range r.prompts {
		if !slices.Contains([]string{"none", "consent", "select_account"}, p) || p == "none" && len(r.prompts) > 1 {
			return bad("Invalid parameter value for prompt: Invalid prompt: " + p)
		}
	}
	method := q.Get("code_challenge_method")
	if (r.challenge != "" || method != "") && method != "S256" {
		return bad("Invalid parameter value for code_challenge_method: only S256 is accepted.")
	}
	if decoded, err := base64.RawURLEncoding.DecodeString(r.challenge); method != "" && (err != nil || len(decoded) != sha256.Size) {
		return bad("Invalid parameter value for code_challenge.")
	}
	if client.AuthError != "" && client.AuthErrorPage {
		return nil, &authProblem{http.StatusForbidden, client.AuthError, "Access was blocked."}
	}
	return r, nil
}

func (w *world) client(id string) *Client {
	for i := range w.scenario.Clients {
		if w.scenario.Clients[i].ID == id {
			return &w.scenario.Clients[i]
		}
	}
	return nil
}

// redirects reports whether a redirect URI is registered, to the letter.
func (c *Client) redirects(uri string) bool {
	if slices.Contains(c.RedirectURIs, uri) {
		return true
	}
	given, err := url.Parse(uri)
	if err != nil || !c.AnyLoopbackPort {
		return false
	}
	return slices.ContainsFunc(c.RedirectURIs, func(registered string) bool {
		u, err := url.Parse(registered)
		if err != nil || !loopback(u.Hostname()) || u.Hostname() != given.Hostname() {
			return false
		}
		u.Host, u.User = given.Host, nil
		return u.String() == uri
	})
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// redirect adds answers to the redirect URI.
func (r *authRequest) redirect(issuer string, answers map[string]string) *url.URL {
	u, _ := url.Parse(r.redirectURI) // it is registered, so it parses
	q := u.Query()
	for name, value := range answers {
		q.Set(name, value)
	}
	if r.state != "" {
		q.Set("state", r.state)
	}
	q.Set("iss", issuer)
	u.RawQuery = q.Encode()
	return u
}

// decide ends an authorization request with what the user did.
func (s *Server) decide(r *authRequest, user *User, granted []string, allow bool) *url.URL {
	w, now := s.world, s.clock.Now()
	switch {
	case r.client.AuthError != "":
		return r.redirect(s.issuer, map[string]string{"error": r.client.AuthError})
	case !allow || len(granted) == 0:
		return r.redirect(s.issuer, map[string]string{"error": "access_denied"})
	}
	key := grantKeyOAuth{user.Email, r.client.Project}
	g := w.grants[key]
	if g == nil {
		g = &consent{user: user.Email, project: r.client.Project, offline: map[string]bool{}}
		w.grants[key] = g
	}
	before := slices.Clone(g.scopes)
	for _, scope := range granted {
		if !slices.Contains(g.scopes, scope) {
			g.scopes = append(g.scopes, scope)
		}
	}
	code := &authCode{request: r, user: user.Email, scopes: slices.Clone(granted), grant: g, expires: now.Add(codeLifetime)}
	if r.merge {
		for _, scope := range before {
			if !slices.Contains(code.scopes, scope) {
				code.scopes = append(code.scopes, scope)
			}
		}
	}
	text := "4/0" + secret()
	w.codes[text] = code
	answers := map[string]string{"code": text, "scope": strings.Join(code.scopes, " "), "authuser": "0"}
	if user.Domain != "" {
		answers["hd"] = user.Domain
	}
	if slices.Contains(r.prompts, "consent") {
		answers["prompt"] = "consent"
	}
	return r.redirect(s.issuer, answers)
}
