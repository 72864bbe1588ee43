package google

import (
	"context"
	"strings"

	cloudbilling "google.golang.org/api/cloudbilling/v1"
	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// maxPages ends a listing whose page tokens go in circles.
const maxPages = 1000

// Projects implements setup.Cloud.
func (c *cloud) Projects(ctx context.Context) ([]setup.CloudProject, error) {
	var projects []setup.CloudProject
	token := ""
	for range maxPages {
		page, err := do(ctx, c, "", "search projects", func(ctx context.Context) call[*cloudresourcemanager.SearchProjectsResponse] {
			return c.projects.Search().PageSize(500).PageToken(token).Context(ctx)
		})
		if err != nil {
			return nil, err
		}
		for _, p := range page.Projects {
			projects = append(projects, setup.CloudProject{
				ID: p.ProjectId, Number: strings.TrimPrefix(p.Name, "projects/"), Name: p.DisplayName, State: p.State, Parent: p.Parent,
			})
		}
		if token = page.NextPageToken; token == "" {
			return projects, nil
		}
	}
	return nil, connect.Errorf(connect.Unavailable, "Google's list of projects does not end.")
}

// BillingEnabled implements setup.Cloud.
func (c *cloud) BillingEnabled(ctx context.Context, projectID string) (bool, error) {
	info, err := do(ctx, c, "", "read billing of "+projectID, func(ctx context.Context) call[*cloudbilling.ProjectBillingInfo] {
		return c.billing.GetBillingInfo("projects/" + projectID).Context(ctx)
	})
	return err == nil && info.BillingEnabled, err
}

// TestPermissions implements setup.Cloud.
func (c *cloud) TestPermissions(ctx context.Context, projectID string, permissions []string) ([]string, error) {
	answer, err := do(ctx, c, "", "test permissions in "+projectID, func(ctx context.Context) call[*cloudresourcemanager.TestIamPermissionsResponse] {
		return c.projects.TestIamPermissions("projects/"+projectID, &cloudresourcemanager.TestIamPermissionsRequest{Permissions: permissions}).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	return answer.Permissions, nil
}

// Policy implements setup.Cloud.
func (c *cloud) Policy(ctx context.Context, projectID string) (*setup.Policy, error) {
	policy, err := do(ctx, c, "", "read policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
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
		if b.Condition != nil {
			binding.Condition = &setup.Condition{Title: b.Condition.Title, Description: b.Condition.Description, Expression: b.Condition.Expression, Location: b.Condition.Location}
		}
		result.Bindings = append(result.Bindings, binding)
	}
	return result, nil
}

// policyVersion is the version of policies with conditions. Asking for and
// sending an older one drops them silently
// (https://cloud.google.com/iam/docs/allow-policies#specifying-version-set).
const policyVersion = 3

// SetPolicy implements setup.Cloud. Audit configurations stay: the default
// update mask is "bindings, etag".
func (c *cloud) SetPolicy(ctx context.Context, projectID string, p *setup.Policy) error {
	policy := &cloudresourcemanager.Policy{Version: policyVersion, Etag: p.Etag}
	for _, b := range p.Bindings {
		binding := &cloudresourcemanager.Binding{Role: b.Role, Members: b.Members}
		if b.Condition != nil {
			binding.Condition = &cloudresourcemanager.Expr{Title: b.Condition.Title, Description: b.Condition.Description, Expression: b.Condition.Expression, Location: b.Condition.Location}
		}
		policy.Bindings = append(policy.Bindings, binding)
	}
	_, err := do(ctx, c, "", "write policy of "+projectID, func(ctx context.Context) call[*cloudresourcemanager.Policy] {
		return c.projects.SetIamPolicy("projects/"+projectID, &cloudresourcemanager.SetIamPolicyRequest{Policy: policy}).Context(ctx)
	})
	return err
}
