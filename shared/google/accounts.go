package google

import (
	"context"
	"fmt"
	"time"

	iam "google.golang.org/api/iam/v1"
	iamcredentials "google.golang.org/api/iamcredentials/v1"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// accountName names an account with its project: with the wildcard - in the
// project's place a missing account answers 403 instead of 404.
func accountName(projectID, email string) string {
	return "projects/" + projectID + "/serviceAccounts/" + email
}

// Account implements setup.Cloud.
func (c *cloud) Account(ctx context.Context, projectID, email string) (setup.Account, error) {
	account, err := do(ctx, c, "", "read "+email, func(ctx context.Context) call[*iam.ServiceAccount] {
		return c.accounts.Get(accountName(projectID, email)).Context(ctx)
	})
	if err != nil {
		return setup.Account{}, err
	}
	return setup.Account{Email: account.Email, UniqueID: account.UniqueId, Disabled: account.Disabled}, nil
}

// CreateAccount implements setup.Cloud.
func (c *cloud) CreateAccount(ctx context.Context, projectID, accountID, displayName, description string) (setup.Account, error) {
	account, err := do(ctx, c, "", "create account "+accountID+" in "+projectID, func(ctx context.Context) call[*iam.ServiceAccount] {
		return c.accounts.Create("projects/"+projectID, &iam.CreateServiceAccountRequest{
			AccountId: accountID, ServiceAccount: &iam.ServiceAccount{DisplayName: displayName, Description: description},
		}).Context(ctx)
	})
	if err != nil {
		return setup.Account{}, err
	}
	return setup.Account{Email: account.Email, UniqueID: account.UniqueId, Disabled: account.Disabled}, nil
}

// EnableAccount implements setup.Cloud.
func (c *cloud) EnableAccount(ctx context.Context, projectID, email string) error {
	_, err := do(ctx, c, "", "enable "+email, func(ctx context.Context) call[*iam.Empty] {
		return c.accounts.Enable(accountName(projectID, email), &iam.EnableServiceAccountRequest{}).Context(ctx)
	})
	return err
}

// AccountPolicy implements setup.Cloud.
func (c *cloud) AccountPolicy(ctx context.Context, projectID, email string) (*setup.Policy, error) {
	policy, err := do(ctx, c, "", "read policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.GetIamPolicy(accountName(projectID, email)).OptionsRequestedPolicyVersion(policyVersion).Context(ctx)
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

// SetAccountPolicy implements setup.Cloud.
func (c *cloud) SetAccountPolicy(ctx context.Context, projectID, email string, p *setup.Policy) error {
	policy := &iam.Policy{Version: policyVersion, Etag: p.Etag}
	for _, b := range p.Bindings {
		binding := &iam.Binding{Role: b.Role, Members: b.Members}
		if b.Condition != nil {
			binding.Condition = &iam.Expr{Title: b.Condition.Title, Description: b.Condition.Description, Expression: b.Condition.Expression, Location: b.Condition.Location}
		}
		policy.Bindings = append(policy.Bindings, binding)
	}
	_, err := do(ctx, c, "", "write policy of "+email, func(ctx context.Context) call[*iam.Policy] {
		return c.accounts.SetIamPolicy(accountName(projectID, email), &iam.SetIamPolicyRequest{Policy: policy}).Context(ctx)
	})
	return err
}

// tokenLifetime is the longest that generateAccessToken gives without an
// organization policy that extends it.
const tokenLifetime = time.Hour

// Impersonate implements setup.Cloud. IAM Credentials wants the wildcard in
// place of the project.
func (c *cloud) Impersonate(ctx context.Context, email string) (connect.AccessToken, error) {
	token, err := do(ctx, c, "", "mint a token of "+email, func(ctx context.Context) call[*iamcredentials.GenerateAccessTokenResponse] {
		return c.credentials.GenerateAccessToken(accountName("-", email), &iamcredentials.GenerateAccessTokenRequest{
			Scope: []string{"https://www.googleapis.com/auth/cloud-platform"}, Lifetime: fmt.Sprintf("%.0fs", tokenLifetime.Seconds()),
		}).Context(ctx)
	})
	if err != nil {
		return connect.AccessToken{}, err
	}
	expiry, err := time.Parse(time.RFC3339, token.ExpireTime)
	if err != nil {
		return connect.AccessToken{}, fmt.Errorf("token of %s expires at %q: %w", email, token.ExpireTime, err)
	}
	return connect.AccessToken{Value: connect.Secret(token.AccessToken), Expiry: expiry}, nil
}
