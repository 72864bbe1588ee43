package google

import (
	"regexp"
	"slices"
	"strings"
)

// A role is a set of permissions. Permissions are given by patterns, so that
// a permission this table has not heard of still gets a sensible answer
// (compute.admin holds all of compute.*).
type role struct {
	allow []string
	deny  []string
	where scope // where a binding may name it; zero is onProject
}

type scope int

const (
	onProject      scope = 1 << iota // projects, folders and organizations
	onAccount                        // service accounts
	onOrganization                   // organizations only
)

// Nobody holds these by a basic role
// (https://cloud.google.com/iam/docs/roles-overview#basic): impersonation
// needs Token Creator, organization policy needs its own administrator.
var notBasic = []string{
	"orgpolicy.policy.set", "orgpolicy.policies.create", "orgpolicy.policies.update", "orgpolicy.policies.delete",
	"orgpolicy.customConstraints.*",
	"iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.implicitDelegation",
	"iam.serviceAccounts.signBlob", "iam.serviceAccounts.signJwt", "iam.denypolicies.*",
	"resourcemanager.organizations.*", "resourcemanager.folders.*",
	"billing.accounts.*", "storage.objects.*", "accessapproval.requests.approve",
}

var notEditor = append([]string{
	"*.setIamPolicy", "*.setIamPolicy*", "iam.roles.create", "iam.roles.update", "iam.roles.delete", "iam.roles.undelete",
	"resourcemanager.projects.delete", "resourcemanager.projects.undelete", "resourcemanager.projects.move",
	"resourcemanager.projects.createBillingAssignment", "resourcemanager.projects.deleteBillingAssignment",
	"secretmanager.versions.access", "resourcemanager.projects.updateLiens",
}, notBasic...)

var notViewer = append([]string{"cloudbuild.connections.*", "iam.workloadIdentityPoolProviderKeys.*"}, notEditor...)

// seeProject is what nearly every predefined role of a service adds.
var seeProject = []string{"resourcemanager.projects.get", "resourcemanager.projects.list"}

var useServices = []string{"serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.list"}

func service(patterns ...string) role { return role{allow: slices.Concat(patterns, seeProject)} }

// admin holds everything of some services; reader what reads of them.
func admin(services ...string) role {
	var allow []string
	for _, s := range services {
		allow = append(allow, s+".*")
	}
	return role{allow: slices.Concat(allow, seeProject, useServices)}
}

func reader(services ...string) role {
	var allow []string
	for _, s := range services {
		allow = append(allow, s+".*.get", s+".*.list", s+".*.getIamPolicy", s+".*.aggregatedList")
	}
	return role{allow: slices.Concat(allow, seeProject, useServices)}
}

func at(where scope, patterns ...string) role { return role{allow: patterns, where: where} }

// predefined is the table of known roles. A policy naming another is refused,
// unless the scenario declares it under "roles".
var predefined = map[string]role{
	"roles/owner":   {allow: []string{"*"}, deny: notBasic, where: onProject | onAccount},
	"roles/editor":  {allow: []string{"*"}, deny: notEditor, where: onProject | onAccount},
	"roles/viewer":  {allow: []string{"*.get", "*.list", "*.getIamPolicy", "*.search*", "*.aggregatedList", "cloudasset.assets.*"}, deny: notViewer, where: onProject | onAccount},
	"roles/browser": at(onProject, "resourcemanager.folders.get", "resourcemanager.folders.list", "resourcemanager.organizations.get", "resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.list"),

	"roles/container.admin":              admin("container"),
	"roles/container.clusterAdmin":       service("container.clusters.*", "container.operations.*"),
	"roles/container.developer":          reader("container"),
	"roles/container.viewer":             reader("container"),
	"roles/container.clusterViewer":      service("container.clusters.get", "container.clusters.list"),
	"roles/run.admin":                    admin("run"),
	"roles/run.developer":                service("run.services.get", "run.services.list", "run.services.create", "run.services.update", "run.services.delete", "run.jobs.*"),
	"roles/run.invoker":                  at(onProject, "run.routes.invoke", "run.jobs.run"),
	"roles/run.viewer":                   reader("run"),
	"roles/compute.admin":                admin("compute"),
	"roles/compute.instanceAdmin.v1":     service("compute.instances.*", "compute.instanceGroups.*", "compute.instanceGroupManagers.*", "compute.disks.*", "compute.zones.*", "compute.regions.*"),
	"roles/compute.networkAdmin":         service("compute.networks.*", "compute.subnetworks.*", "compute.firewalls.get", "compute.firewalls.list", "compute.routes.*", "compute.addresses.*"),
	"roles/compute.networkViewer":        service("compute.networks.get", "compute.networks.list", "compute.subnetworks.get", "compute.subnetworks.list", "compute.firewalls.get", "compute.firewalls.list"),
	"roles/compute.viewer":               reader("compute"),
	"roles/storage.admin":                admin("storage"),
	"roles/storage.objectAdmin":          service("storage.objects.*"),
	"roles/storage.objectViewer":         service("storage.objects.get", "storage.objects.list"),
	"roles/storage.bucketViewer":         service("storage.buckets.get", "storage.buckets.list"),
	"roles/cloudfunctions.admin":         admin("cloudfunctions"),
	"roles/cloudfunctions.developer":     service("cloudfunctions.functions.*", "cloudfunctions.operations.*", "cloudfunctions.locations.*"),
	"roles/cloudfunctions.viewer":        reader("cloudfunctions"),
	"roles/bigquery.admin":               admin("bigquery"),
	"roles/bigquery.dataViewer":          service("bigquery.datasets.get", "bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.list", "bigquery.models.get*", "bigquery.models.list"),
	"roles/bigquery.jobUser":             service("bigquery.jobs.create"),
	"roles/bigquery.metadataViewer":      service("bigquery.datasets.get", "bigquery.datasets.getIamPolicy", "bigquery.tables.get", "bigquery.tables.list", "bigquery.models.getMetadata", "bigquery.models.list", "bigquery.routines.get", "bigquery.routines.list"),
	"roles/bigquery.user":                service("bigquery.datasets.get", "bigquery.datasets.create", "bigquery.jobs.create", "bigquery.jobs.list", "bigquery.tables.list"),
	"roles/cloudsql.admin":               admin("cloudsql"),
	"roles/cloudsql.client":              service("cloudsql.instances.connect", "cloudsql.instances.get"),
	"roles/cloudsql.viewer":              reader("cloudsql"),
	"roles/cloudasset.viewer":            at(onProject, "cloudasset.assets.*", "serviceusage.services.use", "recommender.cloudAssetInsights.get", "recommender.cloudAssetInsights.list"),
	"roles/cloudasset.owner":             at(onProject, "cloudasset.*", "serviceusage.services.use"),
	"roles/monitoring.admin":             admin("monitoring"),
	"roles/monitoring.editor":            admin("monitoring"),
	"roles/monitoring.viewer":            reader("monitoring"),
	"roles/monitoring.metricWriter":      at(onProject, "monitoring.timeSeries.create", "monitoring.metricDescriptors.*"),
	"roles/logging.admin":                admin("logging"),
	"roles/logging.viewer":               service("logging.logEntries.list", "logging.logs.list", "logging.logMetrics.get", "logging.logMetrics.list", "logging.buckets.get", "logging.buckets.list", "logging.sinks.get", "logging.sinks.list", "logging.views.get", "logging.views.list", "logging.operations.get", "logging.operations.list"),
	"roles/logging.privateLogViewer":     service("logging.logEntries.list", "logging.logs.list", "logging.privateLogEntries.list"),
	"roles/logging.logWriter":            at(onProject, "logging.logEntries.create", "logging.logEntries.route"),
	"roles/cloudtrace.user":              service("cloudtrace.traces.get", "cloudtrace.traces.list", "cloudtrace.insights.*", "cloudtrace.stats.get"),
	"roles/errorreporting.viewer":        service("errorreporting.applications.list", "errorreporting.groupMetadata.get", "errorreporting.groups.list", "errorreporting.errorEvents.list"),
	"roles/cloudbuild.builds.editor":     service("cloudbuild.builds.create", "cloudbuild.builds.get", "cloudbuild.builds.list", "cloudbuild.builds.update", "cloudbuild.operations.get", "cloudbuild.operations.list"),
	"roles/cloudbuild.builds.viewer":     service("cloudbuild.builds.get", "cloudbuild.builds.list", "cloudbuild.operations.get", "cloudbuild.operations.list"),
	"roles/artifactregistry.admin":       admin("artifactregistry"),
	"roles/artifactregistry.reader":      service("artifactregistry.repositories.get", "artifactregistry.repositories.list", "artifactregistry.repositories.downloadArtifacts", "artifactregistry.*.get", "artifactregistry.*.list"),
	"roles/artifactregistry.writer":      service("artifactregistry.repositories.*Artifacts", "artifactregistry.*.get", "artifactregistry.*.list"),
	"roles/secretmanager.admin":          admin("secretmanager"),
	"roles/secretmanager.viewer":         reader("secretmanager"),
	"roles/secretmanager.secretAccessor": service("secretmanager.versions.access"),
	"roles/pubsub.admin":                 admin("pubsub"),
	"roles/pubsub.editor":                service("pubsub.topics.get", "pubsub.topics.list", "pubsub.topics.create", "pubsub.topics.update", "pubsub.topics.delete", "pubsub.topics.publish", "pubsub.subscriptions.*", "pubsub.snapshots.*", "pubsub.schemas.*"),
	"roles/pubsub.viewer":                reader("pubsub"),
	"roles/dns.admin":                    admin("dns"),
	"roles/dns.reader":                   reader("dns"),
	"roles/redis.admin":                  admin("redis"),
	"roles/redis.viewer":                 reader("redis"),
	"roles/spanner.viewer":               reader("spanner"),
	"roles/datastore.viewer":             reader("datastore"),
	"roles/cloudscheduler.admin":         admin("cloudscheduler"),
	"roles/cloudscheduler.viewer":        reader("cloudscheduler"),
	"roles/cloudtasks.admin":             admin("cloudtasks"),
	"roles/cloudtasks.viewer":            reader("cloudtasks"),
	"roles/cloudkms.viewer":              reader("cloudkms"),
	"roles/aiplatform.user":              admin("aiplatform"),
	"roles/aiplatform.viewer":            reader("aiplatform"),
	"roles/file.viewer":                  reader("file"),
	"roles/vpcaccess.viewer":             reader("vpcaccess"),
	"roles/gkehub.viewer":                reader("gkehub"),

	"roles/iam.serviceAccountUser":               at(onProject|onAccount, "iam.serviceAccounts.actAs", "iam.serviceAccounts.get", "iam.serviceAccounts.list", "resourcemanager.projects.get", "resourcemanager.projects.list"),
	"roles/iam.serviceAccountTokenCreator":       at(onProject|onAccount, "iam.serviceAccounts.get", "iam.serviceAccounts.list", "iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.implicitDelegation", "iam.serviceAccounts.signBlob", "iam.serviceAccounts.signJwt"),
	"roles/iam.serviceAccountViewer":             at(onProject|onAccount, "iam.serviceAccountKeys.get", "iam.serviceAccountKeys.list", "iam.serviceAccounts.get", "iam.serviceAccounts.getIamPolicy", "iam.serviceAccounts.list", "resourcemanager.projects.get", "resourcemanager.projects.list"),
	"roles/iam.serviceAccountAdmin":              at(onProject|onAccount, "iam.serviceAccounts.create", "iam.serviceAccounts.delete", "iam.serviceAccounts.disable", "iam.serviceAccounts.enable", "iam.serviceAccounts.get", "iam.serviceAccounts.getIamPolicy", "iam.serviceAccounts.list", "iam.serviceAccounts.setIamPolicy", "iam.serviceAccounts.undelete", "iam.serviceAccounts.update", "resourcemanager.projects.get", "resourcemanager.projects.list"),
	"roles/iam.serviceAccountCreator":            at(onProject, "iam.serviceAccounts.create", "iam.serviceAccounts.get", "iam.serviceAccounts.list", "resourcemanager.projects.get", "resourcemanager.projects.list"),
	"roles/iam.serviceAccountKeyAdmin":           at(onProject|onAccount, "iam.serviceAccountKeys.*", "iam.serviceAccounts.get", "iam.serviceAccounts.list"),
	"roles/iam.serviceAccountOpenIdTokenCreator": at(onProject|onAccount, "iam.serviceAccounts.getOpenIdToken"),
	"roles/iam.workloadIdentityUser":             at(onProject|onAccount, "iam.serviceAccounts.get", "iam.serviceAccounts.list", "iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken"),
	"roles/iam.securityReviewer":                 at(onProject, "*.list", "*.getIamPolicy"),
	"roles/iam.securityAdmin":                    at(onProject, "*.getIamPolicy", "*.setIamPolicy", "*.list", "resourcemanager.projects.get"),
	"roles/iam.roleViewer":                       at(onProject, "iam.roles.get", "iam.roles.list", "resourcemanager.projects.get"),

	"roles/serviceusage.serviceUsageAdmin":    at(onProject, "monitoring.timeSeries.list", "serviceusage.operations.*", "serviceusage.quotas.*", "serviceusage.services.*"),
	"roles/serviceusage.serviceUsageConsumer": at(onProject, "monitoring.timeSeries.list", "serviceusage.operations.get", "serviceusage.operations.list", "serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.list", "serviceusage.services.use"),
	"roles/serviceusage.serviceUsageViewer":   at(onProject, "monitoring.timeSeries.list", "serviceusage.operations.get", "serviceusage.operations.list", "serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.list"),

	"roles/orgpolicy.policyAdmin":              at(onOrganization, "orgpolicy.*"),
	"roles/orgpolicy.policyViewer":             at(onProject, "orgpolicy.constraints.list", "orgpolicy.policies.list", "orgpolicy.policy.get"),
	"roles/resourcemanager.projectIamAdmin":    at(onProject, "resourcemanager.projects.get", "resourcemanager.projects.list", "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy"),
	"roles/resourcemanager.projectMover":       at(onProject, "resourcemanager.projects.get", "resourcemanager.projects.list", "resourcemanager.projects.move", "resourcemanager.projects.update"),
	"roles/resourcemanager.organizationAdmin":  at(onOrganization, "resourcemanager.*", "orgpolicy.constraints.list", "orgpolicy.policies.list", "orgpolicy.policy.get"),
	"roles/resourcemanager.organizationViewer": at(onOrganization, "resourcemanager.organizations.get"),
	"roles/resourcemanager.folderViewer":       at(onProject, "resourcemanager.folders.get", "resourcemanager.folders.list", "resourcemanager.projects.get", "resourcemanager.projects.list"),
	"roles/billing.projectManager":             at(onProject, "resourcemanager.projects.createBillingAssignment", "resourcemanager.projects.deleteBillingAssignment"),
	"roles/billing.viewer":                     at(onOrganization, "billing.*.get", "billing.*.list"),
	"roles/billing.admin":                      at(onOrganization, "billing.*"),
}

func (r role) holds(permission string) bool {
	matches := func(p string) bool { return wildcard(p, permission) }
	return slices.ContainsFunc(r.allow, matches) && !slices.ContainsFunc(r.deny, matches)
}

func (r role) on(where scope) bool {
	allowed := r.where
	if allowed == 0 {
		allowed = onProject
	}
	return allowed&where != 0
}

// wildcard reports whether text matches pattern, in which * stands for any
// number of characters.
func wildcard(pattern, text string) bool {
	first, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == text
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}

var permissionForm = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*(\.[a-zA-Z0-9]+){2,}$`)

// permissionServices are the first parts of permissions that exist. A test of
// any other is refused, as Google does with a misspelt permission.
var permissionServices = func() map[string]bool {
	known := map[string]bool{}
	for _, s := range strings.Fields(`accessapproval aiplatform apigateway apikeys appengine artifactregistry
		automl bigquery bigtable billing binaryauthorization certificatemanager cloudasset cloudbuild clouddeploy
		cloudfunctions cloudkms cloudscheduler cloudsql cloudsupport cloudtasks cloudtrace composer compute
		container containeranalysis dataflow datafusion dataproc datastore deploymentmanager dns errorreporting
		eventarc file firebase gkehub iam iap logging monitoring networkconnectivity networkmanagement networksecurity
		networkservices notebooks orgpolicy osconfig privateca pubsub recommender redis resourcemanager run
		secretmanager securitycenter servicedirectory servicemanagement servicenetworking serviceusage source
		spanner storage vpcaccess workflows workstations`) {
		known[s] = true
	}
	return known
}()

// testable reports whether a permission can be tested on projects.
func testable(permission string) bool {
	if !permissionForm.MatchString(permission) {
		return false
	}
	first, _, _ := strings.Cut(permission, ".")
	return permissionServices[first] && !strings.HasPrefix(permission, "resourcemanager.organizations.") &&
		!strings.HasPrefix(permission, "billing.accounts.")
}
