package google

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A principal is who calls.
type principal struct {
	email   string
	member  string          // user:EMAIL or serviceAccount:EMAIL
	members map[string]bool // all that bindings may call it
	account *account        // nil: a user
	client  *Client         // nil: a service account
}

const (
	cloudPlatform         = "https://www.googleapis.com/auth/cloud-platform"
	cloudPlatformReadOnly = "https://www.googleapis.com/auth/cloud-platform.read-only"
	realm                 = `Bearer realm="https://accounts.google.com/"`
)

// An accessToken is a bearer of one principal's rights.
type accessToken struct {
	user    string // email; or
	account string // unique ID
	client  string
	scopes  []string
	expires time.Time
	grant   *consent // what a user's token hangs on
}

// identify finds the token, the caller and what the path names. It refuses
// nothing.
func (c *call) identify() {
	w := c.world
	c.now = c.clock.Now()
	c.token, c.caller, c.account = nil, nil, nil
	c.project = w.projectNamed(c.vars["project"])
	if name := c.vars["account"]; name != "" {
		c.account = w.accountNamed(name)
		if c.account != nil && c.vars["project"] != "-" && c.account.project != c.project {
			c.account = nil
		}
		if c.account != nil {
			c.project = c.account.project
		}
	}
	if c.vars["scope"] == "projects" {
		c.project = w.projectNamed(c.vars["id"])
	}
	if op := w.ops["operations/"+c.vars["operation"]]; op != nil {
		c.project = op.project
	}
	if c.m.oauth != nil && len(c.body) > 0 {
		c.caller = w.tokenOwner(c.body)
	}
	if t := w.access[c.bearer()]; t != nil {
		if c.caller = w.principal(t); t.alive(c.now) {
			c.token = t
		}
	}
}

func (c *call) bearer() string {
	if kind, token, ok := strings.Cut(c.r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		return strings.TrimSpace(token)
	}
	return c.r.URL.Query().Get("access_token")
}

func (t *accessToken) alive(now time.Time) bool {
	return now.Before(t.expires) && (t.grant == nil || !t.grant.revoked)
}

func (w *world) principal(t *accessToken) *principal {
	p := &principal{members: map[string]bool{"allUsers": true, "allAuthenticatedUsers": true}}
	if t.account != "" {
		p.account = w.uids[t.account]
		p.email = p.account.email
		p.member = "serviceAccount:" + p.email
	} else {
		p.email = t.user
		p.member = "user:" + t.user
		for i := range w.scenario.Clients {
			if w.scenario.Clients[i].ID == t.client {
				p.client = &w.scenario.Clients[i]
			}
		}
		if u := w.users[t.user]; u != nil && u.Domain != "" {
			p.members["domain:"+u.Domain] = true
		}
	}
	p.members[p.member] = true
	for _, g := range w.scenario.Groups {
		if slices.Contains(g.Members, p.email) {
			p.members["group:"+g.Email] = true
		}
	}
	return p
}

// tokenOwner is the user of the code or token in a form for the OAuth
// endpoints, for the record and for faults; nil: unknown.
func (w *world) tokenOwner(body []byte) *principal {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil
	}
	if code := w.codes[form.Get("code")]; code != nil {
		return &principal{email: code.user}
	}
	if t := w.access[form.Get("token")]; t != nil && t.user != "" {
		return &principal{email: t.user}
	}
	for _, name := range []string{"refresh_token", "token"} {
		if t := w.refresh[form.Get(name)]; t != nil {
			return &principal{email: t.user}
		}
	}
	return nil
}

func (c *call) projectID() string {
	if c.project != nil {
		return c.project.id
	}
	if name := c.vars["project"]; name != "-" {
		return name
	}
	return ""
}

func (c *call) callerName() string {
	if c.caller != nil {
		return c.caller.email
	}
	return ""
}

func (c *call) callInfo() map[string]string {
	return map[string]string{"service": c.m.api.name, "method": c.m.rpc}
}

// authenticate refuses calls without a good token.
func (c *call) authenticate() *apiError {
	const expected = "Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
	if c.bearer() == "" {
		e := errorf(http.StatusUnauthorized, "UNAUTHENTICATED", "Request is missing required authentication credential. %s", expected)
		e.reason, e.challenge = "required", realm
		return e.with(errorInfo("CREDENTIALS_MISSING", "googleapis.com", c.callInfo()))
	}
	reason := ""
	switch {
	case c.token == nil && (c.caller != nil || strings.HasPrefix(c.bearer(), "ya29.")):
		reason = "ACCESS_TOKEN_EXPIRED"
	case c.token == nil:
		reason = "ACCESS_TOKEN_TYPE_UNSUPPORTED"
	case c.caller.account != nil && (c.caller.account.disabled || !c.caller.account.deleted.IsZero()):
		reason = "ACCOUNT_STATE_INVALID"
	default:
		return nil
	}
	e := errorf(http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials. %s", expected)
	e.challenge = realm + `, error="invalid_token"`
	return e.with(errorInfo(reason, "googleapis.com", c.callInfo()))
}

// admit checks what comes before the method: scope, the quota project, that
// the API is enabled there, and its quota.
func (c *call) admit() *apiError {
	reads := c.m.class == read && c.m.api != credentials
	if !slices.Contains(c.token.scopes, cloudPlatform) && (!reads || !slices.Contains(c.token.scopes, cloudPlatformReadOnly)) {
		e := errorf(http.StatusForbidden, "PERMISSION_DENIED", "Request had insufficient authentication scopes.")
		e.reason = "insufficientPermissions"
		e.challenge = realm + `, error="insufficient_scope", scope="` + cloudPlatform + `"`
		return e.with(errorInfo("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com", c.callInfo()))
	}
	switch named := c.r.Header.Get("X-Goog-User-Project"); {
	case named != "":
		c.consumer = c.world.projectNamed(named)
		if c.consumer == nil || !c.allowed("serviceusage.services.use", c.consumer.chain()) {
			return userProjectDenied(c.m.api, named)
		}
	case c.caller.account != nil:
		c.consumer = c.caller.account.project
	default:
		c.consumer = c.world.projects[c.caller.client.Project]
	}
	if !c.consumer.active() || !c.usable(c.consumer, c.m.api.name) {
		return serviceDisabled(c.m.api, c.consumer)
	}
	return c.spend()
}

// usable reports whether an API of a project answers: enabled, and that has
// spread.
func (c *call) usable(p *project, service string) bool {
	state := p.services[service]
	if !state.enabled(c.now) {
		return false
	}
	return state.from.IsZero() || !c.now.Before(after(state.from, c.world.scenario.Propagation.EnabledAPI))
}

func userProjectDenied(a *api, named string) *apiError {
	url := "https://console.developers.google.com/iam-admin/iam/project?project=" + named
	e := errorf(http.StatusForbidden, "PERMISSION_DENIED", "Caller does not have required permission to use project %s. Grant the caller the roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use permission, by visiting %s and then retry. Propagation of the new permission may take a few minutes.", named, url)
	return e.with(
		errorInfo("USER_PROJECT_DENIED", "googleapis.com", map[string]string{"service": a.name, "consumer": "projects/" + named, "containerInfo": named}),
		help("Google developer console IAM admin", url))
}

func serviceDisabled(a *api, consumer *project) *apiError {
	url := "https://console.developers.google.com/apis/api/" + a.name + "/overview?project=" + consumer.number
	e := errorf(http.StatusForbidden, "PERMISSION_DENIED", "%s has not been used in project %s before or it is disabled. Enable it by visiting %s then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry.", a.title, consumer.number, url)
	e.reason, e.domain = "accessNotConfigured", "usageLimits"
	return e.with(
		help("Google developers console API activation", url),
		errorInfo("SERVICE_DISABLED", "googleapis.com", map[string]string{"service": a.name, "serviceTitle": a.title, "consumer": "projects/" + consumer.number, "containerInfo": consumer.number, "activationUrl": url}))
}

// allowed reports whether the caller has a permission by any of the policies,
// now.
func (c *call) allowed(permission string, chain []*policy) bool {
	return c.world.allowed(c.caller, permission, chain, c.now)
}

func (w *world) allowed(p *principal, permission string, chain []*policy, t time.Time) bool {
	for _, policy := range chain {
		for member := range p.members {
			for _, g := range policy.grants[member] {
				if !g.effective(t) || !g.when.holds(t, w.scenario.ConditionsHold) {
					continue
				}
				if r, _ := w.scenario.role(g.role); r.holds(permission) {
					return true
				}
			}
		}
	}
	return false
}

// authorize checks the method's permission on what its path names.
func (c *call) authorize() *apiError {
	if c.m.permission == "" {
		return nil
	}
	if c.vars["account"] == "" {
		settled := c.m.api == resourceManager || c.m.api == billing // these answer for projects being deleted too
		if c.project == nil || !settled && !c.project.active() || !c.allowed(c.m.permission, c.project.chain()) {
			return c.m.api.denied(c, c.m.permission)
		}
		return nil
	}
	if c.account == nil {
		// Google hides what does not exist: only who may see the accounts
		// of the named project learns that one is missing.
		if c.m.api == iamAdmin && c.project != nil && c.allowed(c.m.permission, c.project.chain()) {
			return errorf(http.StatusNotFound, "NOT_FOUND", "Unknown service account")
		}
		return c.m.api.denied(c, c.m.permission)
	}
	if !c.project.active() || !c.allowed(c.m.permission, append([]*policy{c.account.policy}, c.project.chain()...)) {
		return c.m.api.denied(c, c.m.permission)
	}
	delays := c.world.scenario.Propagation
	if a := c.account; c.m.api == iamAdmin && c.m.class == read && !a.created.IsZero() && c.now.Before(after(a.created, delays.AccountRead)) {
		if delays.AccountReadCode == http.StatusForbidden || c.vars["project"] == "-" {
			return c.m.api.denied(c, c.m.permission)
		}
		return errorf(http.StatusNotFound, "NOT_FOUND", "Unknown service account")
	}
	return nil
}

func deniedPlainly(*call, string) *apiError {
	return errorf(http.StatusForbidden, "PERMISSION_DENIED", "The caller does not have permission")
}

func deniedByServiceUsage(c *call, permission string) *apiError {
	verb := permission[strings.LastIndex(permission, ".")+1:]
	what := "service"
	if strings.Contains(permission, ".operations.") {
		what = "operation"
	}
	name := c.vars["service"]
	if name == "" {
		name = "projects/" + c.vars["project"]
	}
	return errorf(http.StatusForbidden, "PERMISSION_DENIED", "Permission denied to %s %s [%s]", verb, what, name).with(
		preconditionFailure("googleapis.com", "110002", ""),
		errorInfo("AUTH_PERMISSION_DENIED", "serviceusage.googleapis.com", nil))
}

func deniedByIAM(c *call, permission string) *apiError {
	e := errorf(http.StatusForbidden, "PERMISSION_DENIED", "Permission '%s' denied on resource (or it may not exist).", permission)
	return e.with(errorInfo("IAM_PERMISSION_DENIED", "iam.googleapis.com", map[string]string{"permission": permission}))
}

func deniedByOrgPolicy(c *call, permission string) *apiError {
	resource := "projects/" + c.vars["project"]
	e := errorf(http.StatusForbidden, "PERMISSION_DENIED", "Permission '%s' denied on resource '//cloudresourcemanager.googleapis.com/%s' (or it may not exist).", permission, resource)
	return e.with(errorInfo("IAM_PERMISSION_DENIED", "cloudresourcemanager.googleapis.com", map[string]string{"permission": permission, "resource": resource}))
}
