// Package demo is a user of Aurora without a browser: it logs in, consents at
// the emulated Google, comes back and waits for the setup, over HTTP as a
// browser and a frontend would. `go run ./emulators -demo` shows one; the
// tests of the whole system are made of it.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// User is one user of Aurora with a browser of its own.
type User struct {
	ID      string // at Aurora
	Gateway string // URL of the functions
	client  *http.Client
}

// NewUser returns a user. The client carries the requests; its cookie jar is
// replaced by the user's own.
func NewUser(id, gateway string, client *http.Client) (*User, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("make cookie jar: %w", err)
	}
	own := *client
	own.Jar = jar
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &User{ID: id, Gateway: gateway, client: &own}, nil
}

// Client is the user's browser: it keeps cookies and follows no redirect.
func (u *User) Client() *http.Client { return u.client }

// Answer is what a function answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Decode reads the answer's JSON into v.
func (a *Answer) Decode(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("answer %d %q: %w", a.Status, a.Body, err)
	}
	return nil
}

// Call calls a function in the user's name. A body that is not nil is sent as
// JSON.
func (u *User) Call(ctx context.Context, method, path string, body any) (*Answer, error) {
	var reader io.Reader
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(content)
	}
	r, err := http.NewRequestWithContext(ctx, method, u.Gateway+path, reader)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-User-ID", u.ID)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return u.do(r)
}

func (u *User) do(r *http.Request) (*Answer, error) {
	response, err := u.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return &Answer{response.StatusCode, response.Header, body}, nil
}

func (u *User) get(ctx context.Context, address string) (*Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return u.do(r)
}

// Login begins a login and returns the address of Google's consent page.
func (u *User) Login(ctx context.Context) (string, error) {
	answer, err := u.Call(ctx, http.MethodPost, "/login", struct{}{})
	if err != nil {
		return "", err
	}
	var login struct {
		URL string `json:"login_url"`
	}
	if err := answer.Decode(&login); err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK || login.URL == "" {
		return "", fmt.Errorf("login answered %d %s", answer.Status, answer.Body)
	}
	return login.URL, nil
}

// Choice is what a user does on the consent page.
type Choice struct {
	Account string   // email; empty: the account that the page offers
	Without []string // scopes to untick
	Deny    bool
}

// The parts of the consent page's form, as the emulated Google renders it.
var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	formHidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	formScope  = regexp.MustCompile(`<input type="checkbox" name="scope" value="([^"]*)"`)
)

// Consent opens the consent page, chooses and returns where Google sends the
// browser.
func (u *User) Consent(ctx context.Context, loginURL string, choice Choice) (string, error) {
	page, err := u.get(ctx, loginURL)
	if err != nil {
		return "", err
	}
	if page.Status == http.StatusFound {
		return page.Header.Get("Location"), nil // Google did not ask
	}
	action := formAction.FindSubmatch(page.Body)
	if page.Status != http.StatusOK || action == nil {
		return "", fmt.Errorf("consent page answered %d %s", page.Status, page.Body)
	}
	form := url.Values{"action": {"allow"}}
	if choice.Deny {
		form.Set("action", "deny")
	}
	for _, m := range formHidden.FindAllSubmatch(page.Body, -1) {
		form.Set(string(m[1]), html.UnescapeString(string(m[2])))
	}
	if choice.Account != "" {
		form.Set("user", choice.Account)
	}
	for _, m := range formScope.FindAllSubmatch(page.Body, -1) {
		scope := html.UnescapeString(string(m[1]))
		if !slices.Contains(choice.Without, scope) {
			form.Add("scope", scope)
		}
	}
	base, err := url.Parse(loginURL)
	if err != nil {
		return "", err
	}
	target, err := base.Parse(html.UnescapeString(string(action[1])))
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := u.do(r)
	if err != nil {
		return "", err
	}
	if location := answer.Header.Get("Location"); answer.Status/100 == 3 && location != "" {
		return location, nil
	}
	return "", fmt.Errorf("consent answered %d %s", answer.Status, answer.Body)
}

// Return follows Google's redirect to the callback and returns what the
// frontend is told: the parameters login and task_id.
func (u *User) Return(ctx context.Context, callbackURL string) (login, taskID string, err error) {
	answer, err := u.get(ctx, callbackURL)
	if err != nil {
		return "", "", err
	}
	if answer.Status != http.StatusFound {
		return "", "", fmt.Errorf("callback answered %d %s", answer.Status, answer.Body)
	}
	front, err := url.Parse(answer.Header.Get("Location"))
	if err != nil {
		return "", "", err
	}
	return front.Query().Get("login"), front.Query().Get("task_id"), nil
}

// Connect logs in, consents and comes back.
func (u *User) Connect(ctx context.Context, choice Choice) (login, taskID string, err error) {
	address, err := u.Login(ctx)
	if err != nil {
		return "", "", fmt.Errorf("log in: %w", err)
	}
	back, err := u.Consent(ctx, address, choice)
	if err != nil {
		return "", "", fmt.Errorf("consent: %w", err)
	}
	return u.Return(ctx, back)
}

// Confirm confirms a login that waits for it, and returns the setup.
func (u *User) Confirm(ctx context.Context, taskID string) (*Answer, error) {
	return u.Call(ctx, http.MethodPost, "/gcp/setup/confirm", map[string]string{"task_id": taskID})
}

// Status is a setup's status with its details.
type Status struct {
	State       string `json:"state"`
	Status      string `json:"status"`
	Complete    bool   `json:"complete"`
	Progress    int    `json:"progress"`
	Step        int    `json:"step"`
	Error       bool   `json:"error"`
	Propagation *struct {
		Current int `json:"current"`
		Total   int `json:"total"`
	} `json:"propagation"`
	Result *struct {
		Status      string `json:"status"`
		Redirect    string `json:"redirect_params"`
		Message     string `json:"message"`
		Propagation string `json:"propagation_status"`
		Verified    int    `json:"verified_projects"`
		Total       int    `json:"total_projects"`
		Eligible    []struct {
			ID   string `json:"projectId"`
			Name string `json:"name"`
		} `json:"eligible_projects"`
		Count   int     `json:"count"`
		Changes Changes `json:"changes"`
		Cleanup string  `json:"cleanup_status"`
		Undone  int     `json:"undone"`
		Left    []struct {
			ID     string `json:"projectId"`
			Reason string `json:"reason"`
		} `json:"not_undone"`
	} `json:"result"`
	Steps []struct {
		Name     string     `json:"name"`
		Started  *time.Time `json:"started_at"`
		Finished *time.Time `json:"finished_at"`
		Attempts int        `json:"attempts"`
		Outcome  string     `json:"outcome"`
	} `json:"steps"`
	Projects []struct {
		ID        string `json:"projectId"`
		APIs      string `json:"apis"`
		Access    string `json:"access"`
		OrgPolicy string `json:"org_policy"`
		Removal   string `json:"removal"`
		Verified  bool   `json:"verified"`
		Error     *struct {
			Step    string `json:"step"`
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"projects"`
	Warnings []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"warnings"`
	Changes Changes    `json:"changes"`
	Next    *time.Time `json:"next_at"`
}

// Changes counts what a setup changed and what stood already.
type Changes struct {
	Made  int `json:"made"`
	Stood int `json:"already_in_place"`
}

// Status asks for a setup's status.
func (u *User) Status(ctx context.Context, taskID string) (*Status, error) {
	answer, err := u.Call(ctx, http.MethodGet, "/gcp/setup/status/"+url.PathEscape(taskID)+"?view=detail", nil)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("status answered %d %s", answer.Status, answer.Body)
	}
	var s Status
	return &s, answer.Decode(&s)
}

// errTooLong ends a wait as the frontend does.
var errTooLong = errors.New("the setup did not end within 360 polls")

// Await polls a setup's status until it is complete, as the frontend does: at
// the interval, at most 360 times. See sees every answer; it may be nil.
func (u *User) Await(ctx context.Context, taskID string, interval time.Duration, see func(*Status)) (*Status, error) {
	for range 360 {
		s, err := u.Status(ctx, taskID)
		if err != nil {
			return nil, err
		}
		if see != nil {
			see(s)
		}
		if s.Complete {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(interval):
		}
	}
	return nil, errTooLong
}
