package google

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	orgpolicy "google.golang.org/api/orgpolicy/v2"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

func policyName(projectID, constraint string) string {
	return "projects/" + projectID + "/policies/" + constraint
}

// EffectivelyAllowsAll implements setup.Cloud. A list constraint that nobody
// restricts comes back with an allowAll rule, or not at all.
func (c *cloud) EffectivelyAllowsAll(ctx context.Context, projectID, constraint string) (bool, error) {
	policy, err := do(ctx, c, "", "read effective org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		return c.policies.GetEffectivePolicy(policyName(projectID, constraint)).Context(ctx)
	})
	if connect.CodeOf(err) == connect.NotFound {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return policy.Spec == nil || len(policy.Spec.Rules) == 0 || slices.ContainsFunc(policy.Spec.Rules, func(r *orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule) bool {
		return r.AllowAll && r.Condition == nil
	}), nil
}

// OrgPolicy implements setup.Cloud.
func (c *cloud) OrgPolicy(ctx context.Context, projectID, constraint string) (setup.OrgPolicy, error) {
	policy, err := do(ctx, c, "", "read org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		return c.policies.Get(policyName(projectID, constraint)).Context(ctx)
	})
	if err != nil {
		return setup.OrgPolicy{}, err
	}
	spec, err := json.Marshal(policy.Spec)
	if err != nil {
		return setup.OrgPolicy{}, fmt.Errorf("keep org policy of %s: %w", projectID, err)
	}
	result := setup.OrgPolicy{Etag: policy.Etag, Spec: string(spec)}
	if policy.Spec != nil && policy.Spec.Etag != "" {
		result.Etag = policy.Spec.Etag
	}
	return result, nil
}

// AllowAll implements setup.Cloud.
func (c *cloud) AllowAll(ctx context.Context, projectID, constraint, etag string) error {
	policy := &orgpolicy.GoogleCloudOrgpolicyV2Policy{
		Name: policyName(projectID, constraint),
		Spec: &orgpolicy.GoogleCloudOrgpolicyV2PolicySpec{
			Etag: etag, Rules: []*orgpolicy.GoogleCloudOrgpolicyV2PolicySpecPolicyRule{{AllowAll: true}},
		},
	}
	_, err := do(ctx, c, "", "write org policy of "+projectID, func(ctx context.Context) call[*orgpolicy.GoogleCloudOrgpolicyV2Policy] {
		if etag == "" {
			return c.policies.Create("projects/"+projectID, policy).Context(ctx)
		}
		return c.policies.Patch(policy.Name, policy).UpdateMask("policy.spec").Context(ctx)
	})
	return err
}
