// Package setup makes a customer's projects ready for Aurora: the chain of
// steps, the runner that carries a setup through it, and what users ask of a
// connection besides.
//
// A setup is one document (connect.Setup). A task names the step that is due;
// the Runner claims the setup for it, runs the step over a copy in memory,
// commits the copy and enqueues the next task, in this order. A process may
// die at any point of that: the same task, delivered again, finds out how far
// its predecessor came and goes on from there. Each step reads what is there,
// computes what is missing and writes only that, so that running it twice
// writes nothing twice.
//
// # Late writes
//
// A process can be suspended right before a request leaves, so that the request
// reaches Google after another execution has done the work, or after a removal.
// No check in the process can prevent that. What makes each write harmless then:
//
//   - Set a project's or an account's policy: the etag of the policy that was
//     read. If the policy was not written since, the removal's later looks
//     take the grant back.
//   - Create a service account: while it exists, its name is taken. After a
//     removal, the later looks delete it.
//   - Delete a service account: its unique ID, which a new account of the same
//     name does not have.
//   - Enable or disable a service account found there: it repeats what was done.
//     After a removal, the later looks disable it.
//   - Enable APIs: it repeats what was done. After a removal that disables APIs,
//     the later looks disable them.
//   - Disable an API: Google refuses it for an API that was used lately. The next
//     setup enables it again.
//   - Create an organization policy: while there is one, its name is taken. After
//     a removal, the later looks delete it.
//   - Replace, restore or delete an organization policy: its etag.
//   - Revoke the grant: the execution that took over has revoked the same token.
//     If the user has connected again instead, the new connection may need another
//     consent.
//
// The later looks are for changes that the ledger has as planned, or as asked for
// by an execution that recorded no answer: a removal looks at them when all else
// is undone, and the sweep once more. See late.go. Writes to the store go through
// transactions that check lease and generation; writes of the ledger name the
// setup's own change.
//
// Start reading at Steps (the table), then Runner.Handle, then one step, e.g.
// grant.go.
package setup

import (
	"context"
	"log/slog"
	"slices"

	"gcpconnect/shared/connect"
)

// Parts are what the chain is made of: its store, queue, Google, tokens
// and settings.
type Parts struct {
	Store    connect.Store
	Queue    connect.Queue
	Google   Google
	Tokens   *Credentials
	Settings Settings
	Log      *slog.Logger
	Measures *Measures // nil: none
}

// concurrency is how many projects a step works on at once.
const concurrency = 32

// Step is one phase of the chain.
type Step struct {
	Name     string // also the name of the function that runs it
	Status   string // what a person reads while it runs
	Failure  string // what a person reads when it cannot go on
	Progress int    // percent when it starts
	Done     int    // percent when it ends

	run    func(ctx context.Context, r *Run) error
	writes bool // it changes the customer's cloud
}

// Steps is the chain, in order.
var Steps = []Step{
	{
		Name: "validate-projects", Status: "Validating projects and billing", Progress: 5, Done: 15,
		Failure: "The projects of this Google account could not be read", run: validateProjects,
	},
	{
		Name: "enable-apis", Status: "Enabling required APIs", Progress: 30, Done: 30,
		Failure: "Error enabling required APIs", run: enableAPIs, writes: true,
	},
	{
		Name: "create-service-accounts", Status: "Creating Aurora's service accounts", Progress: 50, Done: 50,
		Failure: "Aurora full-access setup had errors", run: createServiceAccounts, writes: true,
	},
	{
		Name: "grant-access", Status: "Granting access to projects", Progress: 60, Done: 60,
		Failure: "Aurora full-access setup had errors", run: grantAccess, writes: true,
	},
	{
		Name: "update-org-policies", Status: "Updating organization policies", Progress: 70, Done: 70,
		Failure: "Org Policy update failed for some projects", run: updateOrgPolicies, writes: true,
	},
	{
		Name: VerifyFunction, Status: "Verifying permissions", Progress: 75, Done: 90,
		Failure: "The permissions could not be verified", run: verifyPermissions,
	},
	{
		Name: "discover-resources", Status: "Starting infrastructure discovery", Progress: 90, Done: 100,
		Failure: "Infrastructure discovery could not be started", run: discoverResources,
	},
}

// Removal is the chain that undoes what setups changed.
var Removal = []Step{{
	Name: "remove-access", Status: "Removing what Aurora set up", Progress: 10, Done: 100,
	Failure: "What Aurora set up could not be removed", run: removeAccess, writes: true,
}}

// Chain returns the steps of a kind of setup, in order.
func Chain(kind connect.Kind) []Step {
	if kind == connect.KindRemoval {
		return Removal
	}
	return Steps
}

// DiscoverFunction is the name of the function that discovers one project.
const DiscoverFunction = "discover-project"

// VerifyFunction is the step that tries what the agent account may do.
const VerifyFunction = "verify-permissions"

// StepNumber returns the place of the named step in a chain, from 1; 0 if it
// has none.
func StepNumber(chain []Step, name string) int {
	return 1 + slices.IndexFunc(chain, func(s Step) bool { return s.Name == name })
}

// stepOf returns the step that is due for s.
func stepOf(s *connect.Setup) *Step {
	chain := Chain(s.Kind)
	return &chain[StepNumber(chain, s.Step)-1]
}

// The stable codes of endings.
const (
	CodeNoProjects   = "no_projects"
	CodeNoBilling    = "no_billing"
	CodeSelection    = "selection_gone"
	CodeTooMany      = "too_many_projects"
	CodeAccounts     = "service_accounts"
	CodeAccess       = "access"
	CodePropagation  = "propagation"
	CodeDisconnected = "disconnected"
	CodeReconnected  = "reconnected"
	CodeBroken       = "broken" // the chain itself could not go on
)

// The words that users of the original know.
const (
	textNoProjects = "No GCP projects found during login"
	textNoBilling  = "No GCP project with active billing found"
)
