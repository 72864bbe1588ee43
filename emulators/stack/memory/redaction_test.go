package memory_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"gcpconnect/emulators/parts"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/google"
	"gcpconnect/shared/memory"
	"gcpconnect/shared/oauth"
	"gcpconnect/shared/setup"
	"gcpconnect/shared/vault"
)

// Whatever holds a secret shows none, however it is printed, marshalled or
// logged: by itself, behind a pointer, and within something else.
func TestWhatHoldsASecretShowsNone(t *testing.T) {
	t.Parallel()
	const secret = "very-secret"
	token := connect.Token{Access: secret, Refresh: secret, Expiry: time.Now().Add(time.Hour), Scopes: []string{"openid"}}
	tokens := memory.NewVault()
	if _, err := tokens.Put(t.Context(), "ref", token, 0); err != nil {
		t.Fatal(err)
	}
	auth := vault.Auth{Token: secret}
	opened, err := vault.New(vault.Options{Address: "http://127.0.0.1:1", Mount: "m", Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	options := oauth.Options{ClientID: "c", ClientSecret: secret, RedirectURL: "http://x/callback", Endpoints: oauth.GoogleEndpoints()}
	client, err := oauth.New(options)
	if err != nil {
		t.Fatal(err)
	}
	credentials := setup.NewCredentials(tokens, client, nil, slog.New(slog.DiscardHandler))
	user := credentials.User("ref")
	synctest.Test(t, func(t *testing.T) {
		if _, err := user.Token(t.Context()); err != nil { // which it keeps
			t.Fatal(err)
		}
		synctest.Wait() // what gave it is about to let go of a lock, and printing reads locks
	})
	cloud, err := google.New(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	platform, err := google.NewPlatformWithKey([]byte(`{"private_key":"`+secret+`"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"a secret": connect.Secret(secret), "a token": token, "an access token": connect.AccessToken{Value: secret}, "a service's token": setup.AccountToken{AccessToken: connect.AccessToken{Value: secret}},
		"a grant": oauth.Grant{Token: token, Email: "user@example.com"}, "options of the authorization server's client": options, "that client": client,
		"the configuration":        config.Config{ClientSecret: secret, LoginKey: secret, VaultToken: secret, VaultSecretID: secret},
		"a way to log in to Vault": auth, "options of a Vault": vault.Options{Auth: vault.Auth{RoleID: "r", SecretID: secret}}, "a Vault": opened, "a Vault in memory": tokens,
		"credentials": credentials, "a user's tokens": user, "an account's tokens": credentials.Account(cloud.As(user), "ref", "a@example.com"),
		"the platform": platform, "Google as a user sees it": cloud.As(user), "Google as the platform sees it": cloud.As(platform), "parts": setup.Parts{Tokens: credentials, Google: cloud},
		"a Vault on this machine": parts.Vault{RootToken: secret, SecretID: secret},
	} {
		pointer := reflect.New(reflect.TypeOf(v))
		pointer.Elem().Set(reflect.ValueOf(v))
		for form, v := range map[string]any{
			"itself": v, "a pointer to it": pointer.Interface(), "a list": []any{v}, "a map": map[string]any{"k": v}, "a field": struct{ Field any }{v}, "an error": fmt.Errorf("failed: %v", v),
		} {
			if shown := connecttest.Leaked(connecttest.Printed(v), secret); shown != "" {
				t.Errorf("%s as %s shows its secret: %s", name, form, shown)
			}
		}
	}
}
