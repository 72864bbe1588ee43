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
	policy, err := do(ctx, c, resourceManager.rpc("projects.getIamPolicy"), projectID, "read policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
		return c.projects.GetIamPolicy("projects/"+projectID, &cloudresourcemanager.GetIamPolicyRequest{
			Options: &cloudresourcemanager.GetPolicyOptions{RequestedPolicyVersion: policyVersion},
		}).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	result := &setup.Policy{Etag: policy.Etag}
	for _, b := range policy.Bindings {
		result.Bindings = append(result.Bindings, setup.Binding{Role: b.Role, Members: b.Members, Condition: fromExpr((*iam.Expr)(b.Condition))})
	}
	return result, nil
}

// writtenFields are what is answered of a policy that was written. None of it is
// read.
const writtenFields = "etag"

// SetPolicy implements setup.Cloud. Audit configurations stay: the default
// update mask is "bindings, etag".
func (c *cloud) SetPolicy(ctx context.Context, projectID string, p *setup.Policy) error {
	if p.Etag == "" {
		return errNoEtag
	}
	policy := &cloudresourcemanager.Policy{Version: policyVersion, Etag: p.Etag}
	for _, b := range p.Bindings {
		policy.Bindings = append(policy.Bindings, &cloudresourcemanager.Binding{Role: b.Role, Members: b.Members, Condition: (*cloudresourcemanager.Expr)(toExpr(b.Condition))})
	}
	_, err := do(ctx, c, policyWrites.rpc("projects.setIamPolicy"), projectID, "write policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
		return c.projects.SetIamPolicy("projects/"+projectID, &cloudresourcemanager.SetIamPolicyRequest{Policy: policy}).Fields(writtenFields).Context(ctx)
	})
	return err
}

// AccountPolicy implements setup.Cloud.
func (c *cloud) AccountPolicy(ctx context.Context, projectID, email string) (*setup.Policy, error) {
	policy, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.getIamPolicy"), projectID, "read policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.GetIamPolicy(accountName(projectID, email)).OptionsRequestedPolicyVersion(policyVersion).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	result := &setup.Policy{Etag: policy.Etag}
	for _, b := range policy.Bindings {
		result.Bindings = append(result.Bindings, setup.Binding{Role: b.Role, Members: b.Members, Condition: fromExpr(b.Condition)})
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
		policy.Bindings = append(policy.Bindings, &iam.Binding{Role: b.Role, Members: b.Members, Condition: toExpr(b.Condition)})
	}
	_, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.setIamPolicy"), projectID, "write policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.SetIamPolicy(accountName(projectID, email), &iam.SetIamPolicyRequest{Policy: policy}).Fields(writtenFields).Context(ctx)
	})
	return err
}

// fromExpr and toExpr convert conditions. Both APIs have the same google.type.Expr,
// generated twice, so that one's converts to the other's.
func fromExpr(x *iam.Expr) *setup.Condition {
	if x == nil {
		return nil
	}
	return &setup.Condition{Title: x.Title, Description: x.Description, Expression: x.Expression, Location: x.Location}
}

func toExpr(c *setup.Condition) *iam.Expr {
	if c == nil {
		return nil
	}
	return &iam.Expr{Title: c.Title, Description: c.Description, Expression: c.Expression, Location: c.Location}
}
