package google

import (
	"strings"

	"gcpconnect/shared/connect"
)

// api is one of Google's APIs: which project its calls are counted against,
// and what is peculiar to its answers.
//
// Google counts a call against one project, its consumer: the quota is that
// project's, and the API must be enabled in it. The header X-Goog-User-Project
// names it, which the caller may do with serviceusage.services.use there.
// Without the header it is the project of the OAuth client for users, and a
// service account's own project for service accounts
// (https://cloud.google.com/docs/quotas/quota-project).
//
// So the header spares the quota that all users share, and it costs an API
// that is enabled in the customer's project and a permission there. Before
// enable-apis has run, a customer's project has few APIs enabled; therefore
// only two of the APIs below bring the header. A call as the agent account
// without it is counted against the customer as well: the account lives in
// the customer's root project.
type api struct {
	name string // of its host, as Google's errors name it
	// metric is what the call is counted by. Without one Google publishes no
	// quota, and calls are not paced.
	metric

	// charges says that the header names the project that a call is about.
	charges bool
	// ownSwitch says that the API can be asked without the header where it is
	// itself not enabled in that project.
	ownSwitch bool
	// busyPreconditions says that some failed preconditions are a busy
	// service's.
	busyPreconditions bool
}

// The APIs. For all of them the project of the OAuth client needs the API
// enabled.
var (
	// Calls as the user: from the search of all projects, which is about no
	// project, to policies, which are read and written before and after the
	// customer's project has the API. Calls as the agent (testIamPermissions):
	// the root project's.
	//
	// Resource Manager's quotas are per minute and consumer
	// (https://cloud.google.com/resource-manager/docs/limits).
	resourceManager = api{name: "cloudresourcemanager.googleapis.com", metric: metric{"reads", 600, 150, 1}}
	policyWrites    = resourceManager.counting("writes", 600, 150, 1)
	projectSearch   = resourceManager.counting("searches", 240, 60, 1)
	cloudBilling    = api{name: "cloudbilling.googleapis.com"}
	iamAdmin        = api{name: "iam.googleapis.com"}
	iamCredentials  = api{name: "iamcredentials.googleapis.com"}
	orgPolicyAPI    = api{name: "orgpolicy.googleapis.com"}

	// Enabled in every new project, and short of quota: a batchEnable counts
	// as 5 of 60 writes a minute (https://cloud.google.com/service-usage/quotas).
	// A setup needs at most 35 at once in a project: two batches and, where they
	// are refused, each of 25 APIs by itself.
	serviceUsage = api{name: "serviceusage.googleapis.com", metric: metric{"reads", 240, 60, 1}, charges: true, ownSwitch: true, busyPreconditions: true}
	apiWrites    = serviceUsage.counting("writes", 60, 35, 1)
	apiBatches   = serviceUsage.counting("writes", 60, 35, heaviest)
	// Searched as the agent, after enable-apis: 400 searches a minute
	// (https://cloud.google.com/asset-inventory/docs/quota). That the API is
	// not enabled there is worth knowing and is not passed over.
	cloudAsset = api{name: "cloudasset.googleapis.com", metric: metric{"searches", 400, 100, 1}, charges: true}
)

// counting is the API for calls that are counted by another metric.
func (a api) counting(name string, perMinute, atOnce float64, weight int) api {
	a.metric = metric{name, perMinute, atOnce, weight}
	return a
}

// reasonUserProjectDenied: the caller may not use the project named in
// X-Goog-User-Project.
const reasonUserProjectDenied = "USER_PROJECT_DENIED"

// rpc is a method of an API, by Google's name for it within the API, with the
// metric that its calls are counted by.
type rpc struct {
	api
	name string
}

// String names the method in traces and metrics, such as
// cloudresourcemanager.projects.search.
func (m rpc) String() string {
	return strings.TrimSuffix(m.api.name, ".googleapis.com") + "." + m.name
}

func (a api) rpc(name string) rpc { return rpc{a, name} }

// withoutCharge reports whether a call that failed because of the project that
// it was to be counted against is made again without naming one. Nothing is
// lost by that but the other quota.
func (a api) withoutCharge(e *connect.Error) bool {
	return e.Reason == reasonUserProjectDenied || a.ownSwitch && e.Reason == reasonServiceDisabled
}
