package google

import (
	"context"

	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"
	iam "google.golang.org/api/iam/v1"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// policyVersion is the version of policies with conditions. Asking for and
// sending an older one drops them silently
// (https://cloud.google.com/iam/docs/allow-policies#specifying-version-set).
const policyVersion = 3

// errNoEtag stops a write that would replace whatever stands there: without
// the etag Google takes it blindly.
var errNoEtag = connect.Errorf(connect.Internal, "The policy was not read before it is written.")

// Policy implements setup.Cloud.
func (c *cloud) Policy(ctx context.Context, projectID string) (*setup.Policy, error) {
	policy, err := do(ctx, c, resourceManager, projectID, "read policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
		return c.projects.GetIamPolicy("projects/"+projectID, &cloudresourcemanager.GetIamPolicyRequest{
			Options: &cloudresourcemanager.GetPolicyOptions{RequestedPolicyVersion: policyVersion},
		}).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	result := &setup.Policy{Etag: policy.Etag}
	for _, b := range policy.Bindings {
		binding := setup.Binding{Role: b.Role, Members: b.Members}
		if x := b.Condition; x != nil {
			binding.Condition = &setup.Condition{Title: x.Title, Description: x.Description, Expression: x.Expression, Location: x.Location}
		}
		result.Bindings = append(result.Bindings, binding)
	}
	return result, nil
}

// SetPolicy implements setup.Cloud. Audit configurations stay: the default
// update mask is "bindings, etag".
func (c *cloud) SetPolicy(ctx context.Context, projectID string, p *setup.Policy) error {
	if p.Etag == "" {
		return errNoEtag
	}
	policy := &cloudresourcemanager.Policy{Version: policyVersion, Etag: p.Etag}
	for _, b := range p.Bindings {
		binding := &cloudresourcemanager.Binding{Role: b.Role, Members: b.Members}
		if x := b.Condition; x != nil {
			binding.Condition = &cloudresourcemanager.Expr{Title: x.Title, Description: x.Description, Expression: x.Expression, Location: x.Location}
		}
		policy.Bindings = append(policy.Bindings, binding)
	}
	_, err := do(ctx, c, resourceManager, projectID, "write policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
		return c.projects.SetIamPolicy("projects/"+projectID, &cloudresourcemanager.SetIamPolicyRequest{Policy: policy}).Context(ctx)
	})
	return err
}

// AccountPolicy implements setup.Cloud.
func (c *cloud) AccountPolicy(ctx context.Context, projectID, email string) (*setup.Policy, error) {
	policy, err := do(ctx, c, iamAdmin, projectID, "read policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.GetIamPolicy(accountName(projectID, email)).OptionsRequestedPolicyVersion(policyVersion).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	result := &setup.Policy{Etag: policy.Etag}
	for _, b := range policy.Bindings {
		binding := setup.Binding{Role: b.Role, Members: b.Members}
		if x := b.Condition; x != nil {
			binding.Condition = &setup.Condition{Title: x.Title, Description: x.Description, Expression: x.Expression, Location: x.Location}
		}
		result.Bindings = append(result.Bindings, binding)
	}
	return result, nil
}

// SetAccountPolicy implements setup.Cloud.
func (c *cloud) SetAccountPolicy(ctx context.Context, projectID, email string, p *setup.Policy) error {
	if p.Etag == "" {
		return errNoEtag
	}
	policy := &iam.Policy{Version: policyVersion, Etag: p.Etag}
	for _, b := range p.Bindings {
		binding := &iam.Binding{Role: b.Role, Members: b.Members}
		if x := b.Condition; x != nil {
			binding.Condition = &iam.Expr{Title: x.Title, Description: x.Description, Expression: x.Expression, Location: x.Location}
		}
		policy.Bindings = append(policy.Bindings, binding)
	}
	_, err := do(ctx, c, iamAdmin, projectID, "write policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.SetIamPolicy(accountName(projectID, email), &iam.SetIamPolicyRequest{Policy: policy}).Context(ctx)
	})
	return err
}
