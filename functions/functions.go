// Package functions is the HTTP edge: one function per file, each of which
// decodes a request, finds out who asks, calls the domain and renders the
// answer. There is no logic of the domain here, and no SDK.
//
// Table is where to start: every function with its name, its paths and who
// may call it. The same table registers the functions with the functions
// framework, feeds the local gateway, and is what a deployment is made from.
package functions

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	framework "github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/telemetry"
)

// Deps are what the functions work with.
type Deps struct {
	Service *setup.Service
	Runner  *setup.Runner
	Store   connect.Store
	Logins  *oauth.Logins
	OAuth   *oauth.Client
	Users   Users // who users are
	// Queue is who may bring tasks of a function, and Scheduler who may call it
	// by the clock. A token for one function is good for no other.
	Queue, Scheduler func(function string) Services
	// Internal is who may have tokens of users' service accounts.
	Internal Services
	Front    *url.URL // where the browser goes after the callback; its origin is the only redirect target
	// Origins are those of pages that may call users' functions, e.g.
	// https://aurora.example.com.
	Origins []string
	// ConfirmLogins binds a login to its user by a confirmation after the
	// callback instead of by a cookie: for frontends whose server, not browser,
	// calls login.
	ConfirmLogins bool
	// SecureCookies says that browsers reach the functions over HTTPS.
	SecureCookies bool
	// MaxAttempts is how often the queue delivers a task.
	MaxAttempts int
	Log         *slog.Logger
	Telemetry   *telemetry.Telemetry // nil: none
}

// Caller says who may call a function.
type Caller string

// The kinds of callers.
const (
	CallerBrowser Caller = "browser" // anybody's browser, on its way back from Google
	CallerUser    Caller = "user"    // a user, or Aurora's backend in a user's name
	CallerQueue   Caller = "queue"   // the task queue
	// CallerScheduler is Cloud Scheduler.
	CallerScheduler Caller = "scheduler"
	// CallerService is one of Aurora's own services.
	CallerService Caller = "service"
)

// Route is one request that a function answers.
type Route struct {
	Method string
	Path   string // as the load balancer and the local gateway have it, in the syntax of http.ServeMux

	handle func(*edge, http.ResponseWriter, *http.Request) error
}

// Needs are what a function works with beside the database and its own request.
// What it does not need, it neither has nor may have in a deployment.
type Needs struct {
	// LoginKey: the key that logins are begun and completed with.
	LoginKey bool
	// Tokens: users' tokens in the vault, and Google in their names; for that,
	// the secret of the OAuth client.
	Tokens bool
	// Queue: to hand over tasks, or to know who brings them.
	Queue bool
	// Platform: Aurora's own account at Google, which impersonates users' two
	// accounts.
	Platform bool
}

// What functions need. Reading alone takes none of it.
var (
	needsTokens = Needs{Tokens: true}              // to look at the user's cloud
	needsQueue  = Needs{Queue: true}               // to have something done
	needsBoth   = Needs{Tokens: true, Queue: true} // to look, and then to have something done
	needsAll    = Needs{Tokens: true, Queue: true, Platform: true}
)

// Function is one deployable function.
type Function struct {
	Name   string
	Caller Caller
	Needs  Needs
	Routes []Route
}

// TaskPath is where the local gateway has the function of that name for the
// queue. Deployed, each has a service of its own and answers at /.
func TaskPath(name string) string { return "/tasks/" + name }

// Table lists every function.
func Table() []Function {
	table := []Function{
		{"login", CallerUser, Needs{LoginKey: true}, []Route{{"POST", "/login", (*edge).login}}},
		{"callback", CallerBrowser, Needs{LoginKey: true, Tokens: true, Queue: true}, []Route{{"GET", "/callback", (*edge).callback}, {"POST", "/callback", (*edge).callback}}},
		{"confirm", CallerUser, needsBoth, []Route{{"POST", "/gcp/setup/confirm", (*edge).confirm}}},
		{"status", CallerUser, Needs{}, []Route{{"GET", "/gcp/setup/status/{task_id}", (*edge).status}}},
		{"plan", CallerUser, needsTokens, []Route{{"POST", "/gcp/setup/plan", (*edge).plan}}},
		{"select-projects", CallerUser, needsBoth, []Route{{"POST", "/gcp/post-auth-retry", (*edge).selectProjects}}},
		{"root-project", CallerUser, needsBoth, []Route{{"GET", "/api/gcp/root-project", (*edge).rootProject}, {"POST", "/api/gcp/root-project", (*edge).chooseRootProject}}},
		{"disconnect", CallerUser, needsBoth, []Route{{"POST", "/api/gcp/force-disconnect", (*edge).disconnect}}},
		{"projects", CallerUser, needsTokens, []Route{{"GET", "/api/gcp/projects", (*edge).projects}, {"POST", "/api/gcp/projects", (*edge).projects}}},
		{"project-access", CallerUser, needsTokens, []Route{{"GET", "/api/gcp/sa-project-access", (*edge).projectAccess}, {"POST", "/api/gcp/sa-project-access", (*edge).setProjectAccess}}},
		{"connection", CallerUser, Needs{}, []Route{{"GET", "/api/gcp/connection", (*edge).connection}}},
		{"changes", CallerUser, Needs{}, []Route{{"GET", "/api/gcp/changes", (*edge).changes}}},
		{"resources", CallerUser, needsQueue, []Route{
			{"GET", "/api/gcp/resources", (*edge).resources},
			{"GET", "/api/gcp/resources/summary", (*edge).resourceSummary},
			{"POST", "/api/gcp/discover", (*edge).discover},
		}},
	}
	table = append(table, Function{"token", CallerService, Needs{Tokens: true, Platform: true}, []Route{{"POST", "/internal/token", (*edge).token}}})
	for _, step := range slices.Concat(setup.Steps, setup.Removal) {
		needs := needsBoth
		if step.Name == setup.VerifyFunction {
			needs = needsAll // it tries what the agent account may do
		}
		table = append(table, Function{step.Name, CallerQueue, needs, []Route{{"POST", TaskPath(step.Name), stepFunction(step.Name)}}})
	}
	return append(table,
		Function{setup.DiscoverFunction, CallerQueue, needsAll, []Route{{"POST", TaskPath(setup.DiscoverFunction), (*edge).discoverProject}}},
		Function{setup.SweepFunction, CallerScheduler, needsBoth, []Route{{"POST", TaskPath(setup.SweepFunction), (*edge).sweep}}})
}

// only is d with what f needs and no more.
func (d Deps) only(f Function) Deps {
	within := func(p setup.Parts) setup.Parts {
		if !f.Needs.Queue {
			p.Queue = nil
		}
		if !f.Needs.Tokens {
			p.Google, p.Tokens = nil, nil
		}
		return p
	}
	if !f.Needs.LoginKey {
		d.Logins = nil
	}
	if !f.Needs.Tokens {
		d.OAuth = nil
	}
	if d.Service != nil {
		d.Service = &setup.Service{Parts: within(d.Service.Parts)}
	}
	if d.Runner != nil {
		d.Runner = &setup.Runner{Parts: within(d.Runner.Parts)}
	}
	return d
}

// Handlers returns the handlers of the functions of these names; with no name, of
// all. An instance serves one, and starts sooner without the others.
func Handlers(d Deps, names ...string) map[string]http.Handler {
	handlers := map[string]http.Handler{}
	for _, f := range Table() {
		if len(names) == 0 || slices.Contains(names, f.Name) {
			handlers[f.Name] = handler(d, f)
		}
	}
	return handlers
}

// Register registers handlers with the functions framework, each under its
// function's name.
func Register(handlers map[string]http.Handler) {
	for name, h := range handlers {
		framework.HTTP(name, h.ServeHTTP)
	}
}

// Gateway serves every function under its paths: what the load balancer and
// the queue's targets are together in a deployment.
func Gateway(d Deps) http.Handler {
	mux, handlers, outside := http.NewServeMux(), Handlers(d), newEdge(d, Function{Name: "none"})
	mux.Handle("/", outside.serve(nothing))
	for _, f := range Table() {
		for _, path := range f.paths() {
			mux.Handle(path, handlers[f.Name])
		}
	}
	return outside.secured(mux)
}

// paths are the different paths of f's routes.
func (f Function) paths() []string {
	var paths []string
	seen := map[string]bool{}
	for _, r := range f.Routes {
		if !seen[r.Path] {
			seen[r.Path] = true
			paths = append(paths, r.Path)
		}
	}
	return paths
}
