package config

import (
	"cmp"
	"strings"
)

// Ways to find out who calls.
const (
	AuthLocal   = "local"   // headers say it
	AuthBackend = "backend" // Aurora's backend says it, and proves that it is it
	AuthOIDC    = "oidc"    // users' own tokens say it
)

// Ways to bind a login to the user who began it.
const (
	BindingCookie  = "cookie"  // of the browser that called login
	BindingConfirm = "confirm" // the user says so after the callback
)

// Scheduler is the account in whose name sweep is called.
func (c *Config) Scheduler() string { return cmp.Or(c.SchedulerAccount, c.TaskServiceAccount) }

// validateAuth reports what is wrong with how callers are found out.
func (c *Config) validateAuth(fault func(variable, format string, args ...any)) {
	if c.LoginBinding != BindingCookie && c.LoginBinding != BindingConfirm {
		fault("LOGIN_BINDING", "is %q, must be cookie or confirm", c.show("LOGIN_BINDING", c.LoginBinding))
	}
	c.checkAccounts(fault, "INTERNAL_SERVICE_ACCOUNTS", c.InternalAccounts)
	if c.InvokerCheck && (c.Service == "" || c.FunctionTarget == "") {
		fault("INVOKER_IAM_CHECK", "is for one function on Cloud Run, whose invoker check verifies tokens: without it anybody could make them")
	}
	switch c.Auth {
	case AuthLocal:
		switch {
		case c.Service != "":
			fault("AUTH", "local believes what the caller says of itself: it is refused on Cloud Run")
		case !loopback(c.ListenHost()):
			fault("HOST", "is %q; AUTH=local listens on loopback only", c.show("HOST", c.Host))
		}
		return
	case AuthBackend:
		if len(c.BackendAccounts) == 0 {
			fault("BACKEND_SERVICE_ACCOUNTS", "is missing: it names the service accounts of Aurora's backend")
		}
		c.checkAccounts(fault, "BACKEND_SERVICE_ACCOUNTS", c.BackendAccounts)
		if c.LoginBinding == BindingCookie {
			fault("LOGIN_BINDING", "is cookie, which AUTH=backend cannot have: the backend calls login, so no browser gets the cookie. Set it to confirm")
		}
	case AuthOIDC:
		c.checkURL(fault, "AUTH_ISSUER", c.AuthIssuer)
		if len(c.AuthAudience) == 0 {
			fault("AUTH_AUDIENCE", "is missing: it names the client that users' tokens are for")
		}
	default:
		fault("AUTH", "is %q, must be local, backend or oidc", c.show("AUTH", c.Auth))
		return
	}
	if !c.Real() {
		fault("BACKENDS", "must be real with AUTH=%s: a queue in memory cannot prove that it is the queue", c.Auth)
	}
}

func (c *Config) checkAccounts(fault func(variable, format string, args ...any), variable string, emails []string) {
	for _, email := range emails {
		if !strings.HasSuffix(email, ".gserviceaccount.com") {
			fault(variable, "has %q, which is not a service account's email", c.show(variable, email))
		}
	}
}

// InternalAudiences are those that the tokens of Aurora's own services may be
// for.
func (c *Config) InternalAudiences() []string {
	if len(c.InternalAudience) == 0 {
		return []string{c.BackendURL}
	}
	return c.InternalAudience
}

// CallerAudiences are those that callers' tokens may be for.
func (c *Config) CallerAudiences() []string {
	if len(c.AuthAudience) == 0 {
		return []string{c.BackendURL}
	}
	return c.AuthAudience
}

// TaskAudienceOf is the audience of the tokens of a function's tasks.
func (c *Config) TaskAudienceOf(function string) string {
	return cmp.Or(c.TaskAudience, c.TaskURL(function))
}
