package google

import (
	"testing"
	"time"

	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/orgpolicy/v2"
)

const shopDomains = "projects/shop-production/policies/iam.allowedPolicyMemberDomains"

func asPolicyAdmin(s *Scenario) {
	s.Organizations[0].Bindings = append(s.Organizations[0].Bindings, Binding{Role: "roles/orgpolicy.policyAdmin", Members: []string{"user:" + demo}})
}

func allowAll() *orgpolicy.GoogleCloudOrgpolicyV2Policy {
	return &orgpolicy.GoogleCloudOrgpolicyV2Policy{Name: shopDomains, Spec: &orgpolicy.GoogleCloudOrgpolicyV2PolicySpec{Rules: []*orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule{{AllowAll: true}}}}
}

// Fact (Org Policy): roles/orgpolicy.policyAdmin is granted at the
// organization; Owner and Editor may not set policies.
func TestOwnersDoNotSetOrganizationPolicies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	_, err := user.org.Projects.Policies.Create("projects/"+shop, allowAll()).Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "IAM_PERMISSION_DENIED"})
	_, err = user.org.Projects.Policies.Get(shopDomains).Do()
	mustRefuse(t, err, refusal{404, "NOT_FOUND", "", "Requested entity was not found."})
	if p := must(user.org.Projects.Policies.GetEffectivePolicy(shopDomains).Do())(t); len(p.Spec.Rules) != 1 || !p.Spec.Rules[0].AllowAll {
		t.Errorf("by default all is allowed: %+v", p.Spec)
	}
}

// Fact (Org Policy): an unset one answers 404, and a stale etag ABORTED.
func TestOrganizationPolicyLifecycle(t *testing.T) {
	t.Parallel()
	r := newRig(t, asPolicyAdmin, restrictDomains, func(s *Scenario) { s.Propagation.OrgPolicy = Duration(15 * time.Minute) })
	user := r.as(demo)
	outsider := func() error {
		p := policyOf(t, user, shop, 3)
		p.Bindings = append(p.Bindings, &crmv1.Binding{Role: "roles/viewer", Members: []string{"user:eve@example.org"}})
		_, err := setPolicyOf(user, shop, p)
		return err
	}
	mustRefuse(t, outsider(), refusal{Code: 400, Status: "FAILED_PRECONDITION"})
	if p := must(user.org.Projects.Policies.GetEffectivePolicy(shopDomains).Do())(t); p.Spec.Rules[0].Values == nil || p.Etag != "" {
		t.Errorf("effective: %+v", p)
	}

	_, err := user.org.Projects.Policies.Patch(shopDomains, allowAll()).UpdateMask("policy.spec").Do()
	mustRefuse(t, err, refusal{Code: 404, Status: "NOT_FOUND"})
	made := must(user.org.Projects.Policies.Create("projects/"+shop, allowAll()).Do())(t)
	if made.Name != "projects/210448675301/policies/iam.allowedPolicyMemberDomains" || made.Etag == "" || made.Spec.UpdateTime == "" || made.Spec.Etag != made.Etag {
		t.Errorf("created %+v", made)
	}
	_, err = user.org.Projects.Policies.Create("projects/"+shop, allowAll()).Do()
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})

	mustRefuse(t, outsider(), refusal{Code: 400, Status: "FAILED_PRECONDITION"})
	r.clock.Advance(15 * time.Minute)
	mustRefuse(t, outsider(), refusal{})

	patch := allowAll()
	patch.Spec.Etag = made.Etag
	patched := must(user.org.Projects.Policies.Patch(shopDomains, patch).UpdateMask("policy.spec").Do())(t)
	if patched.Etag == made.Etag {
		t.Error("the etag stays the same")
	}
	_, err = user.org.Projects.Policies.Patch(shopDomains, patch).UpdateMask("policy.spec").Do()
	mustRefuse(t, err, refusal{Code: 409, Status: "ABORTED"})
	if listed := must(user.org.Projects.Policies.List("projects/" + shop).Do())(t); len(listed.Policies) != 1 {
		t.Errorf("lists %d policies", len(listed.Policies))
	}
	must(user.org.Projects.Policies.Delete(shopDomains).Do())(t)
	_, err = user.org.Projects.Policies.Get(shopDomains).Do()
	mustRefuse(t, err, refusal{Code: 404, Status: "NOT_FOUND"})
}

func TestRulesMustSuitTheConstraint(t *testing.T) {
	t.Parallel()
	r := newRig(t, asPolicyAdmin)
	wrong := allowAll()
	wrong.Spec.Rules[0] = &orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule{AllowAll: true, DenyAll: true}
	_, err := r.as(demo).org.Projects.Policies.Create("projects/"+shop, wrong).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	wrong = allowAll()
	wrong.Name = "projects/shop-production/policies/iam.noSuchConstraint"
	_, err = r.as(demo).org.Projects.Policies.Create("projects/"+shop, wrong).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
}

// Fact (IAM): constraints/iam.disableServiceAccountCreation blocks creation.
func TestAccountCreationCanBeForbidden(t *testing.T) {
	t.Parallel()
	for _, constraint := range []string{noNewAccounts, managedNoNewAccounts} {
		r := newRig(t, func(s *Scenario) {
			s.Folders[0].OrgPolicies = map[string]PolicySpec{constraint: {Rules: []PolicyRule{{Enforce: true}}}}
		})
		_, err := r.as(demo).iam.Projects.ServiceAccounts.Create("projects/"+shop, &iam.CreateServiceAccountRequest{AccountId: "connect-agent"}).Do()
		mustRefuse(t, err, refusal{Code: 400, Status: "FAILED_PRECONDITION"})
	}
}
