// Package googletest builds the scenarios that whole-system tests give to the
// emulated Google: an owner with some projects in one organization, and
// Aurora's own project.
package googletest

import (
	"fmt"
	"slices"
	"time"

	"gcpconnect/emulators/google"
)

// Names that every scenario of this package has.
const (
	// Owner owns every project but the platform's.
	Owner = "user@example.com"
	// OwnerMember is Owner as a member of a policy.
	OwnerMember = "user:" + Owner
	// PlatformProject is Aurora's own project.
	PlatformProject = "aurora-platform"
	// PlatformAccount is the service account that WithPlatform adds.
	PlatformAccount = "aurora@aurora-platform.iam.gserviceaccount.com"
	// Organization is the parent of every project but the platform's.
	Organization = "500000000001"
	// Customer is the Workspace customer of Organization.
	Customer = "C0example"
	// DomainConstraint is the organization policy that restricts members.
	DomainConstraint = "iam.allowedPolicyMemberDomains"
)

// Option changes a scenario.
type Option = func(*google.Scenario)

// Scenario makes a scenario in which Owner owns the projects project-001 to n.
// Operations of Google take 15 s, and grants propagate for 60 s. A nil option
// changes nothing.
func Scenario(n int, options ...Option) *google.Scenario {
	s := Empty()
	s.Users = []google.User{{Email: Owner, Sub: "100000000000000000001", Name: "User One", Domain: "example.com"}}
	s.Organizations = []google.Organization{{ID: Organization, Domain: "example.com", CustomerID: Customer}}
	s.Latencies = google.Latencies{Operation: Seconds(15)}
	s.Propagation = google.Propagation{
		GrantDelays: google.GrantDelays{Project: new(Seconds(60)), Account: new(Seconds(60))},
	}
	for i := 1; i <= n; i++ {
		p := OwnedProject(fmt.Sprintf("project-%03d", i), 200_000_000_000+i, Owner)
		p.Name, p.Parent = fmt.Sprintf("Project %d", i), "organizations/"+Organization
		p.Resources = []google.Resource{
			{AssetType: "compute.googleapis.com/Instance", Name: "vm", Location: "europe-west1-b"},
			{AssetType: "storage.googleapis.com/Bucket", Name: fmt.Sprintf("bucket-%d", i), Location: "eu"},
		}
		s.Projects = append(s.Projects, p)
	}
	for _, option := range options {
		if option != nil {
			option(s)
		}
	}
	return s
}

// Empty makes a scenario that has Aurora's OAuth client and project, and no
// user. Google takes no time in it.
func Empty() *google.Scenario {
	return &google.Scenario{
		Clients: []google.Client{{
			ID: "demo-client.apps.googleusercontent.com", Secret: "demo-secret", Name: "Aurora",
			RedirectURIs: []string{"http://127.0.0.1:8080/callback"}, AnyLoopbackPort: true,
			Project: PlatformProject,
		}},
		Projects: []google.Project{{
			ID: PlatformProject, Number: "900000000001", BillingAccount: "0A0A0A-0B0B0B-0C0C0C",
			EnabledAPIs: &[]string{
				"cloudasset.googleapis.com", "cloudbilling.googleapis.com",
				"cloudresourcemanager.googleapis.com", "iam.googleapis.com",
				"iamcredentials.googleapis.com", "orgpolicy.googleapis.com",
				"serviceusage.googleapis.com",
			},
		}},
	}
}

// OwnedProject makes a billed project that a user owns. It has no parent and
// the APIs of a new project.
func OwnedProject(id string, number int, owner string) google.Project {
	return google.Project{
		ID: id, Number: fmt.Sprint(number), Name: id, BillingAccount: "01A2B3-C4D5E6-F70819",
		Bindings: []google.Binding{{Role: "roles/owner", Members: []string{"user:" + owner}}},
	}
}

// Project returns the project of a scenario that has the ID. It panics if there
// is none.
func Project(s *google.Scenario, id string) *google.Project {
	return &s.Projects[slices.IndexFunc(s.Projects, func(p google.Project) bool { return p.ID == id })]
}

// Customers returns the projects of a scenario without the platform's.
func Customers(s *google.Scenario) []*google.Project {
	var projects []*google.Project
	for i := range s.Projects {
		if s.Projects[i].ID != PlatformProject {
			projects = append(projects, &s.Projects[i])
		}
	}
	return projects
}

// Instant makes Google take no time: no latency and no propagation.
func Instant(s *google.Scenario) {
	s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
	for i := range s.Projects {
		s.Projects[i].Propagation = nil
	}
}

// WithPlatform runs the functions as a service account of their own.
func WithPlatform(s *google.Scenario) {
	s.Metadata = &google.Metadata{Project: PlatformProject, ServiceAccount: PlatformAccount}
	Project(s, PlatformProject).ServiceAccounts = []google.ServiceAccount{{AccountID: "aurora"}}
}

// OwnMembersOnly is a policy that allows only members of Organization.
func OwnMembersOnly() google.PolicySpec {
	return google.PolicySpec{Rules: []google.PolicyRule{
		{Values: &google.StringValues{AllowedValues: []string{Customer}}},
	}}
}

// Restricted makes the organization allow only its own members in policies.
func Restricted(s *google.Scenario) {
	s.Organizations[0].OrgPolicies = map[string]google.PolicySpec{DomainConstraint: OwnMembersOnly()}
}

// PolicyAdministrator makes Owner an administrator of organization policies.
func PolicyAdministrator(s *google.Scenario) {
	s.Organizations[0].Bindings = append(s.Organizations[0].Bindings,
		google.Binding{Role: "roles/orgpolicy.policyAdmin", Members: []string{OwnerMember}})
}

// OnlyServiceUsage disables every other API in the projects of customers, so
// that a setup enables APIs in two batches.
func OnlyServiceUsage(s *google.Scenario) {
	for _, p := range Customers(s) {
		p.EnabledAPIs = &[]string{"serviceusage.googleapis.com"}
	}
}

// Holds reports whether bindings give a member a role without a condition.
func Holds(bindings []google.Binding, role, member string) bool {
	return slices.ContainsFunc(bindings, func(b google.Binding) bool {
		return b.Role == role && b.Condition == nil && slices.Contains(b.Members, member)
	})
}

// Seconds returns n seconds.
func Seconds(n int) google.Duration { return google.Duration(time.Duration(n) * time.Second) }

// Milliseconds returns n milliseconds.
func Milliseconds(n int) google.Duration {
	return google.Duration(time.Duration(n) * time.Millisecond)
}
