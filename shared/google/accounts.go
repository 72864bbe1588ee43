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
	account, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.get"), projectID, "read "+email, func(ctx context.Context) call[*iam.ServiceAccount] {
		return c.accounts.Get(accountName(projectID, email)).Context(ctx)
	})
	if err != nil {
		return setup.Account{}, err
	}
	return setup.Account{Email: account.Email, UniqueID: account.UniqueId, Description: account.Description, Disabled: account.Disabled}, nil
}

// CreateAccount implements setup.Cloud.
func (c *cloud) CreateAccount(ctx context.Context, projectID, accountID, displayName, description string) (setup.Account, error) {
	account, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.create"), projectID, "create account "+accountID+" in "+projectID, func(ctx context.Context) call[*iam.ServiceAccount] {
		return c.accounts.Create("projects/"+projectID, &iam.CreateServiceAccountRequest{
			AccountId: accountID, ServiceAccount: &iam.ServiceAccount{DisplayName: displayName, Description: description},
		}).Context(ctx)
	})
	if err != nil {
		return setup.Account{}, err
	}
	return setup.Account{Email: account.Email, UniqueID: account.UniqueId, Description: account.Description, Disabled: account.Disabled}, nil
}

// EnableAccount implements setup.Cloud.
func (c *cloud) EnableAccount(ctx context.Context, projectID, email string) error {
	_, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.enable"), projectID, "enable "+email, func(ctx context.Context) call[*iam.Empty] {
		return c.accounts.Enable(accountName(projectID, email), &iam.EnableServiceAccountRequest{}).Context(ctx)
	})
	return err
}

// DisableAccount implements setup.Cloud.
func (c *cloud) DisableAccount(ctx context.Context, projectID, email string) error {
	_, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.disable"), projectID, "disable "+email, func(ctx context.Context) call[*iam.Empty] {
		return c.accounts.Disable(accountName(projectID, email), &iam.DisableServiceAccountRequest{}).Context(ctx)
	})
	return err
}

// DeleteAccount implements setup.Cloud.
func (c *cloud) DeleteAccount(ctx context.Context, projectID, uniqueID string) error {
	_, err := do(ctx, c, iamAdmin.rpc("serviceAccounts.delete"), projectID, "delete account "+uniqueID, func(ctx context.Context) call[*iam.Empty] {
		return c.accounts.Delete(accountName(projectID, uniqueID)).Context(ctx)
	})
	return err
}

// cloudPlatform is the scope of all of Google Cloud
// (https://developers.google.com/identity/protocols/oauth2/scopes).
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// tokenLifetime is the longest that generateAccessToken gives without an
// organization policy that extends it.
const tokenLifetime = time.Hour

// Impersonate implements setup.Cloud. IAM Credentials wants the wildcard in
// place of the project.
func (c *cloud) Impersonate(ctx context.Context, email string) (connect.AccessToken, error) {
	token, err := do(ctx, c, iamCredentials.rpc("serviceAccounts.generateAccessToken"), "", "mint a token of "+email, func(ctx context.Context) call[*iamcredentials.GenerateAccessTokenResponse] {
		return c.credentials.GenerateAccessToken(accountName("-", email), &iamcredentials.GenerateAccessTokenRequest{
			Scope: []string{cloudPlatform}, Lifetime: fmt.Sprintf("%.0fs", tokenLifetime.Seconds()),
		}).Context(ctx)
	})
	if err != nil {
		return connect.AccessToken{}, err
	}
	expiry, err := time.Parse(time.RFC3339, token.ExpireTime)
	if err != nil || token.AccessToken == "" {
		return connect.AccessToken{}, connect.Errorf(connect.Unavailable, "Google's answer holds no token.").
			Because(fmt.Errorf("token of %s that expires at %q", email, token.ExpireTime))
	}
	return connect.AccessToken{Value: connect.Secret(token.AccessToken), Expiry: expiry}, nil
}
