package google

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed consent.html
var consentHTML string

// pages are the two things a browser sees: the consent page and the refusal of
// a request.
var pages = template.Must(template.New("consent").Parse(consentHTML))

// scopeWords are how the consent page puts a scope.
var scopeWords = map[string]string{
	"openid":              "Associate you with your personal info on Google",
	scopeURL("email"):     "See your primary Google Account email address",
	scopeURL("profile"):   "See your personal info, including any personal info you've made publicly available",
	cloudPlatform:         "See, edit, configure, and delete your Google Cloud data and see the email address for your Google Account",
	cloudPlatformReadOnly: "View your data across Google Cloud services and see the email address of your Google Account",
}

type consentPage struct {
	Action, Client, Request string
	Users                   []consentUser
	Scopes                  []consentScope
	Problem                 *authProblem
}

type consentUser struct {
	Email, Name string
	Chosen      bool
}

type consentScope struct{ URL, Words string }

func showPage(w http.ResponseWriter, code int, page consentPage) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(code)
	if err := pages.Execute(w, page); err != nil {
		fmt.Fprintln(w, "The page could not be rendered.")
	}
}

// showProblem refuses an authorization request before the user's eyes.
func showProblem(w http.ResponseWriter, p *authProblem) {
	showPage(w, p.Code, consentPage{Problem: p})
}

// authorizePage is the authorization endpoint: GET shows the consent page,
// POST is its form.
func (s *Server) authorizePage(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.askConsent(w, r)
	case http.MethodPost:
		s.takeConsent(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
	}
}

func (s *Server) askConsent(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		showProblem(w, &authProblem{http.StatusBadRequest, "invalid_request", "The query cannot be parsed."})
		return
	}
	req, problem := s.world.readAuthRequest(q)
	if problem != nil {
		showProblem(w, problem)
		return
	}
	users := s.world.candidates(req.loginHint)
	switch {
	case req.client.AuthError != "":
		http.Redirect(w, r, s.decide(req, nil, nil, true).String(), http.StatusFound) //nolint:gosec // to a redirect URI that the client has registered
		return
	case slices.Equal(req.prompts, []string{"none"}):
		http.Redirect(w, r, s.withoutPrompt(req, users).String(), http.StatusFound) //nolint:gosec // likewise
		return
	}
	page := consentPage{Action: r.URL.Path, Client: req.client.Name, Request: r.URL.RawQuery}
	if page.Client == "" {
		page.Client = req.client.ID
	}
	for i, u := range users {
		page.Users = append(page.Users, consentUser{u.Email, u.Name, i == 0})
	}
	for _, scope := range req.scopes {
		words := scopeWords[scope]
		if words == "" {
			words = scope
		}
		page.Scopes = append(page.Scopes, consentScope{scope, words})
	}
	showPage(w, http.StatusOK, page)
}

// candidates are the users to choose from: the one that the hint (email or
// sub) names, or all.
func (w *world) candidates(hint string) []*User {
	var all []*User
	for i := range w.scenario.Users {
		u := &w.scenario.Users[i]
		if hint != "" && (u.Email == hint || u.Sub == hint) {
			return []*User{u}
		}
		all = append(all, u)
	}
	return all
}

// withoutPrompt answers prompt=none: a code if all was granted before.
func (s *Server) withoutPrompt(req *authRequest, users []*User) *url.URL {
	if len(users) != 1 {
		return req.redirect(s.issuer, map[string]string{"error": "account_selection_required"})
	}
	g := s.world.grants[grantKeyOAuth{users[0].Email, req.client.Project}]
	for _, scope := range req.scopes {
		if g == nil || !slices.Contains(g.scopes, scope) {
			return req.redirect(s.issuer, map[string]string{"error": "consent_required"})
		}
	}
	return s.decide(req, users[0], req.scopes, true)
}

// takeConsent reads the form: request (the authorization request's query),
// user, scope (repeated), action.
func (s *Server) takeConsent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		showProblem(w, &authProblem{http.StatusBadRequest, "invalid_request", "The form cannot be parsed."})
		return
	}
	query, err := url.ParseQuery(r.PostForm.Get("request"))
	if err != nil {
		showProblem(w, &authProblem{http.StatusBadRequest, "invalid_request", "The request cannot be parsed."})
		return
	}
	target, problem := s.consent(query, r.PostForm.Get("user"), r.PostForm["scope"], r.PostForm.Get("action"))
	if problem != nil {
		showProblem(w, problem)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, target.String(), http.StatusFound) //nolint:gosec // likewise
}

func (s *Server) consent(query url.Values, email string, scopes []string, action string) (*url.URL, *authProblem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, problem := s.world.readAuthRequest(query)
	if problem != nil {
		return nil, problem
	}
	if action != "allow" && action != "deny" {
		return nil, &authProblem{http.StatusBadRequest, "invalid_request", "action must be allow or deny."}
	}
	user := s.world.users[email]
	if user == nil && action == "allow" {
		return nil, &authProblem{http.StatusBadRequest, "invalid_request", "There is no such user."}
	}
	var granted []string
	for _, scope := range req.scopes { // in the order asked for, and no others
		if slices.ContainsFunc(scopes, func(s string) bool { return scopeURL(s) == scope }) {
			granted = append(granted, scope)
		}
	}
	return s.decide(req, user, granted, action == "allow"), nil
}

// An Answer is what a user does on the consent page.
type Answer struct {
	User    string   // email; "" is the first that the page offers
	Deny    bool     // press Deny
	Without []string // scopes to untick
}

// Authorize goes through the consent page as a user would and returns where
// the browser is sent: the redirect URI with code or error. It fails when
// Google would show an error page instead.
func (s *Server) Authorize(authURL string, answer Answer) (*url.URL, error) {
	u, err := url.Parse(authURL)
	if err != nil {
		return nil, fmt.Errorf("authorization URL: %w", err)
	}
	query := u.Query()
	s.mu.Lock()
	users := s.world.candidates(query.Get("login_hint"))
	s.mu.Unlock()
	if answer.User == "" && len(users) > 0 {
		answer.User = users[0].Email
	}
	var scopes []string
	for _, scope := range strings.Fields(query.Get("scope")) {
		if !slices.Contains(answer.Without, scope) && !slices.Contains(answer.Without, scopeURL(scope)) {
			scopes = append(scopes, scope)
		}
	}
	action := "allow"
	if answer.Deny {
		action = "deny"
	}
	target, problem := s.consent(query, answer.User, scopes, action)
	if problem != nil {
		return nil, errors.New("authorization page: " + problem.Error + ": " + problem.Message)
	}
	return target, nil
}

func notFoundPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n<p><b>404.</b> That's an error.\n<p>The requested URL <code>%s</code> was not found on this server. That's all we know.\n",
		template.HTMLEscapeString(r.URL.Path))
}
