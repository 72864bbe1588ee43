package google

import (
	"context"
	"strings"

	cloudbilling "google.golang.org/api/cloudbilling/v1"
	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// maxProjects is the largest page that is asked for. Pages may be shorter,
// empty ones included: only the token says that there are more
// (https://cloud.google.com/resource-manager/reference/rest/v3/projects/search).
const maxProjects = 500

// Projects implements setup.Cloud.
func (c *cloud) Projects(ctx context.Context) ([]setup.CloudProject, error) {
	var projects []setup.CloudProject
	seen := map[string]bool{}
	for token := ""; ; {
		page, err := do(ctx, c, projectSearch.rpc("projects.search"), "", "search projects", func(ctx context.Context) call[*cloudresourcemanager.SearchProjectsResponse] {
			return c.projects.Search().PageSize(maxProjects).PageToken(token).Context(ctx)
		})
		if err != nil {
			return nil, err
		}
		for _, p := range page.Projects {
			projects = append(projects, setup.CloudProject{
				ID: p.ProjectId, Number: strings.TrimPrefix(p.Name, "projects/"), Name: p.DisplayName, State: p.State,
			})
		}
		switch token = page.NextPageToken; {
		case token == "":
			return projects, nil
		case seen[token]: // a listing that goes in circles has no end
			return nil, connect.Errorf(connect.Unavailable, "Google's list of projects does not end.")
		}
		seen[token] = true
	}
}

// BillingEnabled implements setup.Cloud.
func (c *cloud) BillingEnabled(ctx context.Context, projectID string) (bool, error) {
	info, err := do(ctx, c, cloudBilling.rpc("projects.getBillingInfo"), projectID, "read billing of "+projectID, func(ctx context.Context) call[*cloudbilling.ProjectBillingInfo] {
		return c.billing.GetBillingInfo("projects/" + projectID).Context(ctx)
	})
	return err == nil && info.BillingEnabled, err
}

// TestPermissions implements setup.Cloud.
func (c *cloud) TestPermissions(ctx context.Context, projectID string, permissions []string) ([]string, error) {
	answer, err := do(ctx, c, resourceManager.rpc("projects.testIamPermissions"), projectID, "test permissions in "+projectID, func(ctx context.Context) call[*cloudresourcemanager.TestIamPermissionsResponse] {
		return c.projects.TestIamPermissions("projects/"+projectID, &cloudresourcemanager.TestIamPermissionsRequest{Permissions: permissions}).Context(ctx)
	})
	if err != nil {
		return nil, err
	}
	return answer.Permissions, nil
}
