package setup

import (
	"fmt"
	"slices"
	"strings"
)

// Role is a role that a setup grants in each project, with why and with what
// proves that the grant works.
type Role struct {
	Name string // e.g. roles/run.admin
	Why  string
	// Proof is a permission that the role contains. verify-permissions asks
	// Google for it as the account that holds the role.
	Proof string
}

// knownRoles are the roles that the agent account gets by default, and that a
// deployment may name without a proof
// (https://cloud.google.com/iam/docs/understanding-roles). The order is that
// of the product page: what Aurora manages, then what it needs to do so.
var knownRoles = []Role{
	{"roles/container.admin", "manages GKE clusters and what runs in them", "container.clusters.create"},
	{"roles/run.admin", "deploys Cloud Run services and makes them public", "run.services.setIamPolicy"},
	{"roles/compute.admin", "manages VM instances, instance groups and VPC networks", "compute.instances.create"},
	{"roles/storage.admin", "manages Cloud Storage buckets and objects", "storage.buckets.create"},
	{"roles/cloudfunctions.admin", "deploys Cloud Functions", "cloudfunctions.functions.create"},
	{"roles/bigquery.admin", "manages BigQuery datasets and runs queries", "bigquery.datasets.create"},
	{"roles/cloudsql.admin", "manages Cloud SQL instances", "cloudsql.instances.create"},
	{"roles/artifactregistry.admin", "keeps the images that Cloud Run, Functions and GKE run", "artifactregistry.repositories.create"},
	{"roles/cloudbuild.builds.editor", "builds those images", "cloudbuild.builds.create"},
	{"roles/iam.serviceAccountUser", "lets what it deploys run as the project's service accounts", "iam.serviceAccounts.actAs"},
	{"roles/iam.securityReviewer", "reads service accounts, roles and policies", "resourcemanager.projects.getIamPolicy"},
	{"roles/cloudasset.viewer", "discovers the project's resources", "cloudasset.assets.searchAllResources"},
	{"roles/serviceusage.serviceUsageConsumer", "lets calls count against the customer's own quota", "serviceusage.services.use"},
	{"roles/monitoring.viewer", "reads metrics: health, load and usage that costs are made of", "monitoring.timeSeries.list"},
	{"roles/logging.viewer", "reads logs to explain what happens", "logging.logEntries.list"},
	{"roles/viewer", "reads everything that the project holds, its billing link included", "resourcemanager.projects.get"},
}

// DefaultAgentRoles returns the roles of the services that the product lists:
// each service's own admin role, never roles/owner or roles/editor.
func DefaultAgentRoles() []Role { return slices.Clone(knownRoles) }

// DefaultAskRoles returns the known roles that only read.
func DefaultAskRoles() []Role {
	var roles []Role
	for _, name := range []string{
		"roles/viewer", "roles/iam.securityReviewer", "roles/cloudasset.viewer",
		"roles/serviceusage.serviceUsageConsumer", "roles/monitoring.viewer", "roles/logging.viewer",
	} {
		role, _ := knownRole(name) // a test would find one that is not known
		roles = append(roles, role)
	}
	return roles
}

// tokenCreator lets its holder mint tokens of a service account. It is granted
// on the two accounts, never on a project, where it would reach every account
// of it.
const tokenCreator = "roles/iam.serviceAccountTokenCreator" //nolint:gosec // the name of a role

// refusedRoles are roles that a setup never grants, with the reason.
var refusedRoles = map[string]string{
	"roles/owner":  "it gives away the whole project",
	"roles/editor": "it changes everything in the project; name the services' own roles",
	tokenCreator:   "on a project it impersonates every service account in it",
}

// ParseRoles reads roles as a deployment names them: "roles/x" for one that
// is known here, or "roles/x=permission" with the permission that proves it.
func ParseRoles(names []string) ([]Role, error) {
	var roles []Role
	for _, entry := range names {
		name, proof, _ := strings.Cut(strings.TrimSpace(entry), "=")
		if why, refused := refusedRoles[name]; refused {
			return nil, fmt.Errorf("%s is not granted: %s", name, why)
		}
		role, ok := knownRole(name)
		switch {
		case proof != "":
			role = Role{Name: name, Why: "configured for this deployment", Proof: proof}
		case !ok:
			return nil, fmt.Errorf("%q is not known: write it as %s=PERMISSION with a permission that it contains", name, name)
		}
		roles = append(roles, role)
	}
	return roles, nil
}

func knownRole(name string) (Role, bool) {
	for _, r := range knownRoles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

// proofs are the permissions that prove roles, each once.
func proofs(roles []Role) []string {
	seen := map[string]bool{}
	var permissions []string
	for _, r := range roles {
		if !seen[r.Proof] {
			seen[r.Proof] = true
			permissions = append(permissions, r.Proof)
		}
	}
	return permissions
}
