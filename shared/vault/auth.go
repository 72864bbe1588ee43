package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"gcpconnect/shared/connect"
)

// Auth says who we are to Vault: a token, an AppRole, or a Google service
// account, by which of Token, RoleID and Role is set.
type Auth struct {
	// Mount is where the method is mounted; empty: approle or gcp.
	Mount string

	// Token is a Vault token as it is. It is renewed while it can be; when it
	// has ended nothing replaces it.
	Token connect.Secret

	// RoleID and SecretID are of an AppRole
	// (https://developer.hashicorp.com/vault/docs/auth/approle).
	RoleID   string
	SecretID connect.Secret

	// Role is of the GCP method, type iam, and ServiceAccount the email of the
	// account that we run as: it signs a JWT by itself, for which it needs
	// iam.serviceAccounts.signJwt on itself
	// (https://developer.hashicorp.com/vault/docs/auth/gcp#iam-login).
	Role           string
	ServiceAccount string
	// IAMOptions are for the client that asks for the signature.
	IAMOptions []option.ClientOption
}

// login returns the function that logs in, and whether it can be repeated.
func (a Auth) login(client *api.Client) (login func(context.Context) (*api.Secret, error), again bool, err error) {
	switch {
	case a.RoleID != "" && a.SecretID == "":
		return nil, false, errors.New("vault: the secret ID of the AppRole is required")
	case a.Role != "" && a.ServiceAccount == "":
		return nil, false, errors.New("vault: the service account of the role is required")
	case a.Token != "":
		return func(ctx context.Context) (*api.Secret, error) { return adopt(ctx, client, a.Token) }, false, nil
	case a.RoleID != "":
		var options []approle.LoginOption
		if a.Mount != "" {
			options = append(options, approle.WithMountPath(a.Mount))
		}
		method, err := approle.NewAppRoleAuth(a.RoleID, &approle.SecretID{FromString: a.SecretID.Reveal()}, options...)
		if err != nil {
			return nil, false, fmt.Errorf("configure AppRole login: %w", err)
		}
		return func(ctx context.Context) (*api.Secret, error) { return client.Auth().Login(ctx, method) }, true, nil
	case a.Role != "":
		return func(ctx context.Context) (*api.Secret, error) { return client.Auth().Login(ctx, serviceAccount(a)) }, true, nil
	}
	return nil, false, fmt.Errorf("nothing says how to log in to Vault")
}

// adopt makes a token that was given look like one of a login.
func adopt(ctx context.Context, client *api.Client, token connect.Secret) (*api.Secret, error) {
	client.SetToken(token.Reveal())
	self, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	ttl, err := self.TokenTTL()
	if err != nil {
		return nil, err
	}
	renewable, err := self.TokenIsRenewable()
	if err != nil {
		return nil, err
	}
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: token.Reveal(), Renewable: renewable, LeaseDuration: int(ttl.Seconds())}}, nil
}

// serviceAccount logs in as a Google service account. Vault's own module for
// it knows neither contexts nor any IAM API but Google's.
type serviceAccount Auth

var _ api.AuthMethod = serviceAccount{}

// jwtLifetime is less than the 15 minutes that Vault accepts at most by
// default (max_jwt_exp of the role).
const jwtLifetime = 5 * time.Minute

// Login implements api.AuthMethod.
func (a serviceAccount) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	service, err := iamcredentials.NewService(ctx, a.IAMOptions...)
	if err != nil {
		return nil, fmt.Errorf("make IAM Credentials client: %w", err)
	}
	claims, err := json.Marshal(map[string]any{"sub": a.ServiceAccount, "aud": "vault/" + a.Role, "exp": time.Now().Add(jwtLifetime).Unix()})
	if err != nil {
		return nil, err
	}
	name := "projects/-/serviceAccounts/" + a.ServiceAccount
	signed, err := service.Projects.ServiceAccounts.SignJwt(name, &iamcredentials.SignJwtRequest{Payload: string(claims)}).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("sign a JWT as %s: %w", a.ServiceAccount, err)
	}
	mount := a.Mount
	if mount == "" {
		mount = "gcp"
	}
	return client.Logical().WriteWithContext(ctx, "auth/"+mount+"/login", map[string]any{"role": a.Role, "jwt": signed.SignedJwt})
}
