package setup

import "strings"

// api is a Google API that Aurora needs in every project, and what for.
type api struct{ name, why string }

// apis are enabled in every project of a setup. The first ten are those of the
// original; containerregistry.googleapis.com was shut down on 2025-03-18
// (https://cloud.google.com/artifact-registry/docs/transition/prepare-gcr-shutdown)
// and is not among them.
var apis = []api{
	{"cloudresourcemanager", "projects and their access policies"},
	{"compute", "VM instances, instance groups and networks"},
	{"container", "GKE clusters"},
	{"run", "Cloud Run services"},
	{"cloudfunctions", "Cloud Functions"},
	{"storage", "Cloud Storage buckets"},
	{"sqladmin", "Cloud SQL instances"},
	{"cloudbilling", "whether a project is billed"},
	{"iam", "service accounts and roles"},
	{"serviceusage", "which APIs are enabled"},

	{"iamcredentials", "short-lived tokens of Aurora's accounts"},
	{"cloudasset", "discovery of resources"},
	{"orgpolicy", "the policy that decides on public Cloud Run services"},
	{"bigquery", "BigQuery datasets and queries"},
	{"artifactregistry", "container images to deploy"},
	{"cloudbuild", "builds of those images, and of functions from source"},
	{"eventarc", "triggers of functions and services"},
	{"pubsub", "messages that functions and services react to"},
	{"secretmanager", "secrets that deployments refer to"},
	{"logging", "logs"},
	{"monitoring", "metrics"},
	{"cloudtrace", "latency of services"},
	{"dns", "names of what is deployed"},
	{"servicenetworking", "private addresses of Cloud SQL"},
	{"vpcaccess", "Cloud Run and functions in a VPC"},
}

const apiSuffix = ".googleapis.com"

// requiredAPIs are the full names of the apis.
func requiredAPIs() []string {
	names := make([]string, len(apis))
	for i, a := range apis {
		names[i] = a.name + apiSuffix
	}
	return names
}

// shortAPIs and fullAPIs turn names into those that a setup's document keeps
// and back.
func shortAPIs(names []string) []string {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = strings.TrimSuffix(n, apiSuffix)
	}
	return short
}

func fullAPIs(names []string) []string {
	full := make([]string, len(names))
	for i, n := range names {
		full[i] = n + apiSuffix
	}
	return full
}
