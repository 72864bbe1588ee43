// Command vault runs the real core of HashiCorp Vault on one machine, in
// memory, ready for the connector: its key-value store, its policy and its
// ways to log in are mounted as in production. When it serves it prints one
// line of JSON that says where, and how to get in.
//
// It is a module of its own: Vault's server needs other versions of many
// modules than the connector does. 1.14.1 is of the last releases under the
// Mozilla Public License.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	gcpauth "github.com/hashicorp/vault-plugin-auth-gcp/plugin"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/helper/testhelpers/corehelpers"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// mount is where the key-value store is.
const mount = "gcpconnect"

// ready is what the program prints.
type ready struct {
	Address   string `json:"address"`
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"` // base64
	RoleID    string `json:"role_id"`    // of the AppRole that has the policy
	SecretID  string `json:"secret_id"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	policy := flag.String("policy", "", "`file` with the connector's policy")
	flag.Parse()
	rules, err := os.ReadFile(*policy)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	core, err := newCore()
	if err != nil {
		return err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	out, err := open(ctx, core, "http://"+listener.Addr().String())
	if err == nil {
		err = furnish(ctx, out, string(rules))
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err == nil {
		select {
		case err = <-served:
		case <-ctx.Done():
		}
	}
	return errors.Join(err, server.Close(), core.Shutdown())
}

func newCore() (*vault.Core, error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical: storage, Logger: logger, DisableMlock: true,
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "gcp": gcpauth.Factory},
		BuiltinRegistry:    corehelpers.NewMockBuiltinRegistry(), // knows the names of the backends above
	})
}

// open initializes and unseals the core, with one key share.
func open(ctx context.Context, core *vault.Core, address string) (*ready, error) {
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	encoded, err := json.Marshal(made.SecretShares[0]) // bytes become base64, which is what the API takes
	if err != nil {
		return nil, err
	}
	out := &ready{Address: address, RootToken: made.RootToken}
	if err := json.Unmarshal(encoded, &out.UnsealKey); err != nil {
		return nil, err
	}
	if _, err := core.Unseal(made.SecretShares[0]); err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	client, err := clientOf(out)
	if err != nil {
		return nil, err
	}
	for {
		health, err := client.Sys().HealthWithContext(ctx)
		if err == nil && !health.Sealed && !health.Standby {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("not active: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func clientOf(out *ready) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{Address: out.Address})
	if err != nil {
		return nil, err
	}
	client.SetToken(out.RootToken)
	return client, nil
}

// furnish mounts what production has: a key-value store that keeps one version
// and insists on check-and-set, the policy, and the ways to log in.
func furnish(ctx context.Context, out *ready, policy string) error {
	client, err := clientOf(out)
	if err != nil {
		return err
	}
	sys, logical := client.Sys(), client.Logical()
	if err := sys.MountWithContext(ctx, mount, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}); err != nil {
		return fmt.Errorf("mount the key-value store: %w", err)
	}
	// A new store of version 2 answers "upgrading" for a moment.
	for {
		_, err := logical.WriteWithContext(ctx, mount+"/config", map[string]any{"max_versions": 1, "cas_required": true})
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("configure the key-value store: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := sys.PutPolicyWithContext(ctx, "gcpconnect", policy); err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	for _, method := range []string{"approle", "gcp"} {
		if err := sys.EnableAuthWithOptionsWithContext(ctx, method, &api.EnableAuthOptions{Type: method}); err != nil {
			return fmt.Errorf("enable login by %s: %w", method, err)
		}
	}
	_, err = logical.WriteWithContext(ctx, "auth/approle/role/gcpconnect", map[string]any{
		"token_policies": "gcpconnect", "token_no_default_policy": true, "token_ttl": "1h", "token_max_ttl": "24h",
	})
	if err != nil {
		return fmt.Errorf("make the AppRole: %w", err)
	}
	role, err := logical.ReadWithContext(ctx, "auth/approle/role/gcpconnect/role-id")
	if err != nil {
		return fmt.Errorf("read the AppRole's ID: %w", err)
	}
	secret, err := logical.WriteWithContext(ctx, "auth/approle/role/gcpconnect/secret-id", nil)
	if err != nil {
		return fmt.Errorf("make a secret ID: %w", err)
	}
	out.RoleID, _ = role.Data["role_id"].(string)
	out.SecretID, _ = secret.Data["secret_id"].(string)
	return nil
}
