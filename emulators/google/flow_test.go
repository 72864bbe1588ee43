package google

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/api/cloudasset/v1"
	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	"google.golang.org/api/iam/v1"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/serviceusage/v1"
)

// TestWholeSetup goes the way of the product on the default scenario, with its
// latencies, in virtual time: consent, projects, billing, APIs, accounts,
// grants, impersonation, discovery.
func TestWholeSetup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := serveRig(t, Options{Seed: 1}, nil)
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, r.http)
		config := oauthConfig(r)
		verifier := oauth2.GenerateVerifier()
		target, err := r.Authorize(config.AuthCodeURL("s-1", oauth2.AccessTypeOffline, oauth2.S256ChallengeOption(verifier)), Answer{})
		if err != nil {
			t.Fatal(err)
		}
		token := must(config.Exchange(ctx, target.Query().Get("code"), oauth2.VerifierOption(verifier)))(t)
		user := r.with(token.AccessToken)

		listed := must(user.v1.Projects.List().Do())(t)
		if len(listed.Projects) != 6 {
			t.Fatalf("lists %d projects, want 6", len(listed.Projects))
		}
		billed := 0
		for _, p := range listed.Projects {
			if must(user.billing.Projects.GetBillingInfo("projects/" + p.ProjectId).Do())(t).BillingEnabled {
				billed++
			}
		}
		if billed != 5 {
			t.Errorf("%d projects have billing, want 5", billed)
		}

		customer := r.with(token.AccessToken, shop)
		op := must(customer.usage.Services.BatchEnable("projects/"+shop, &serviceusage.BatchEnableServicesRequest{ServiceIds: []string{"run.googleapis.com", "cloudasset.googleapis.com"}}).Do())(t)
		if op.Done || len(op.Metadata) > 0 {
			t.Errorf("the first answer says done %v, metadata %s", op.Done, op.Metadata)
		}
		if op = must(customer.usage.Operations.Get(op.Name).Do())(t); op.Done {
			t.Error("the operation is done at once")
		}
		time.Sleep(15 * time.Second)
		if op = must(customer.usage.Operations.Get(op.Name).Do())(t); !op.Done {
			t.Error("the operation is not done after 15 s")
		}

		account := must(customer.iam.Projects.ServiceAccounts.Create("projects/"+shop, &iam.CreateServiceAccountRequest{AccountId: "connect-agent", ServiceAccount: &iam.ServiceAccount{DisplayName: "Agent"}}).Do())(t)
		grantRole(t, user, shop, "roles/cloudasset.viewer", "serviceAccount:"+account.Email)
		accountPolicy := must(user.iam.Projects.ServiceAccounts.GetIamPolicy(account.Name).OptionsRequestedPolicyVersion(3).Do())(t)
		accountPolicy.Bindings = append(accountPolicy.Bindings, &iam.Binding{Role: "roles/iam.serviceAccountTokenCreator", Members: []string{"user:" + demo}})
		must(user.iam.Projects.ServiceAccounts.SetIamPolicy(account.Name, &iam.SetIamPolicyRequest{Policy: accountPolicy}).Do())(t)

		name := "projects/-/serviceAccounts/" + account.Email
		request := &iamcredentials.GenerateAccessTokenRequest{Scope: []string{cloudPlatform}}
		_, err = user.cred.Projects.ServiceAccounts.GenerateAccessToken(name, request).Do()
		mustRefuse(t, err, refusal{403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."})
		time.Sleep(time.Minute)
		minted := must(user.cred.Projects.ServiceAccounts.GenerateAccessToken(name, request).Do())(t)
		agent := r.with(minted.AccessToken)
		held := must(agent.v1.Projects.TestIamPermissions(shop, &crmv1.TestIamPermissionsRequest{Permissions: []string{"cloudasset.assets.searchAllResources", "run.services.list"}}).Do())(t)
		if len(held.Permissions) != 1 {
			t.Errorf("the agent holds %q", held.Permissions)
		}
		found := 0
		if err := agent.asset.V1.SearchAllResources("projects/"+shop).Pages(ctx, func(page *cloudasset.SearchAllResourcesResponse) error {
			found += len(page.Results)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if found != 15 { // 11 resources, 3 service accounts, the project
			t.Errorf("found %d resources, want 15", found)
		}
	})
}

// grantRole adds a member to a role by read, modify, write.
func grantRole(t *testing.T, v *view, project, role, member string) {
	t.Helper()
	p := must(v.v1.Projects.GetIamPolicy(project, &crmv1.GetIamPolicyRequest{Options: &crmv1.GetPolicyOptions{RequestedPolicyVersion: 3}}).Do())(t)
	p.Bindings = append(p.Bindings, &crmv1.Binding{Role: role, Members: []string{member}})
	must(v.v1.Projects.SetIamPolicy(project, &crmv1.SetIamPolicyRequest{Policy: p}).Do())(t)
}

func oauthConfig(r *rig) *oauth2.Config {
	urls := Endpoints(r.base)
	return &oauth2.Config{
		ClientID: "demo-client.apps.googleusercontent.com", ClientSecret: "demo-secret",
		RedirectURL: "http://127.0.0.1:8080/callback",
		Scopes:      []string{"openid", "email", cloudPlatform},
		Endpoint:    oauth2.Endpoint{AuthURL: urls.Auth, TokenURL: urls.Token},
	}
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
