package google

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	orgpolicy "google.golang.org/api/orgpolicy/v2"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// policyName names a project's policy of a constraint, without the prefix
// constraints/ that version 1 had.
func policyName(projectID, constraint string) string {
	return "projects/" + projectID + "/policies/" + constraint
}

// EffectivelyAllowsAll implements setup.Cloud. The effective policy is merged
// over the hierarchy, with conditions evaluated. What nobody restricts comes
// back with a rule that allows all, with no rule, or, as a constraint that
// does not apply, not at all
// (https://cloud.google.com/resource-manager/docs/organization-policy/understanding-hierarchy).
// A rule that denies or lists values wins over one that allows all.
func (c *cloud) EffectivelyAllowsAll(ctx context.Context, projectID, constraint string) (bool, error) {
	policy, err := do(ctx, c, orgPolicyAPI.rpc("policies.getEffectivePolicy"), projectID, "read effective org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		return c.policies.GetEffectivePolicy(policyName(projectID, constraint)).Context(ctx)
	})
	if connect.CodeOf(err) == connect.NotFound {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return policy.Spec == nil || allowsAll(policy.Spec.Rules), nil
}

// allowsAll reports whether no rule restricts anything.
func allowsAll(rules []*orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule) bool {
	return !slices.ContainsFunc(rules, func(r *orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule) bool {
		return !r.AllowAll || r.DenyAll || r.Values != nil || r.Condition != nil
	})
}

// OrgPolicy implements setup.Cloud.
func (c *cloud) OrgPolicy(ctx context.Context, projectID, constraint string) (setup.OrgPolicy, error) {
	policy, err := do(ctx, c, orgPolicyAPI.rpc("policies.get"), projectID, "read org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		return c.policies.Get(policyName(projectID, constraint)).Context(ctx)
	})
	if err != nil {
		return setup.OrgPolicy{}, err
	}
	spec, err := json.Marshal(policy.Spec)
	if err != nil {
		return setup.OrgPolicy{}, connect.Errorf(connect.Internal, "The organization policy of %s cannot be kept.", projectID).Because(err)
	}
	result := setup.OrgPolicy{Etag: policy.Etag, Spec: string(spec)}
	if policy.Spec != nil {
		// What is inherited may restrict what its own rules do not.
		result.AllowsAll = len(policy.Spec.Rules) > 0 && !policy.Spec.InheritFromParent && allowsAll(policy.Spec.Rules)
		if at, err := time.Parse(time.RFC3339Nano, policy.Spec.UpdateTime); err == nil {
			result.UpdatedAt = at
		}
		if policy.Spec.Etag != "" {
			result.Etag = policy.Spec.Etag
		}
	}
	return result, nil
}

// AllowAll implements setup.Cloud. The etag within the spec is what guards a
// replacement; creating ignores it and fails where there is a policy.
func (c *cloud) AllowAll(ctx context.Context, projectID, constraint, etag string) error {
	policy := &orgpolicy.GoogleCloudOrgpolicyV2Policy{
		Name: policyName(projectID, constraint),
		Spec: &orgpolicy.GoogleCloudOrgpolicyV2PolicySpec{
			Etag: etag, Rules: []*orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule{{AllowAll: true}},
		},
	}
	method := "policies.patch"
	if etag == "" {
		method = "policies.create"
	}
	_, err := do(ctx, c, orgPolicyAPI.rpc(method), projectID, "write org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		if etag == "" {
			return c.policies.Create("projects/"+projectID, policy).Context(ctx)
		}
		return c.policies.Patch(policy.Name, policy).UpdateMask("policy.spec").Context(ctx)
	})
	return err
}

// RestoreOrgPolicy implements setup.Cloud.
func (c *cloud) RestoreOrgPolicy(ctx context.Context, projectID, constraint, etag, spec string) error {
	name := policyName(projectID, constraint)
	if spec == "" {
		_, err := do(ctx, c, orgPolicyAPI.rpc("policies.delete"), projectID, "delete org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleProtobufEmpty] {
			return c.policies.Delete(name).Etag(etag).Context(ctx)
		})
		return err
	}
	policy := &orgpolicy.GoogleCloudOrgpolicyV2Policy{Name: name, Spec: new(orgpolicy.GoogleCloudOrgpolicyV2PolicySpec)}
	if err := json.Unmarshal([]byte(spec), policy.Spec); err != nil {
		return connect.Errorf(connect.Precondition, "What stood before in the organization policy of %s cannot be read.", projectID).Because(err)
	}
	policy.Spec.Etag, policy.Spec.UpdateTime = etag, ""
	_, err := do(ctx, c, orgPolicyAPI.rpc("policies.patch"), projectID, "restore org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		return c.policies.Patch(name, policy).UpdateMask("policy.spec").Context(ctx)
	})
	return err
}
