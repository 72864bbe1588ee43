package parts

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gcpconnect/shared/connect"
)

// Vault is a running Vault: HashiCorp's own core, in memory, with the
// connector's key-value store, policy and AppRole as in production.
type Vault struct {
	Address   string         `json:"address"` // URL, the value for VAULT_ADDR
	RootToken connect.Secret `json:"root_token"`
	UnsealKey connect.Secret `json:"unseal_key"`
	RoleID    string         `json:"role_id"`
	SecretID  connect.Secret `json:"secret_id"`

	process *process
}

// StartVault starts a Vault at an address, a free one if that is empty, with
// its log in a folder. Its data are in memory: they end with it. The program
// is built before, which takes some minutes the first time. Variables, each
// NAME=value, are added to its environment.
func StartVault(ctx context.Context, address, logs string, variables ...string) (*Vault, error) {
	source, err := sourceOf(ctx, "emulators/vault")
	if err != nil {
		return nil, err
	}
	program, err := build(ctx, source, ".")
	if err != nil {
		return nil, err
	}
	if address == "" {
		address = "127.0.0.1:0"
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	defer func() { _ = out.Close() }()
	p, err := start("vault", logs, in, variables, program, "-listen", address, "-policy", filepath.Join(source, "..", "..", "shared", "vault", "policy.hcl"))
	_ = in.Close() // the process has its own
	if err != nil {
		return nil, err
	}
	// The program prints its line when it is ready, or ends without one.
	line := make(chan []byte, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadBytes('\n') // a cut one does not parse
		line <- text
	}()
	v := &Vault{process: p}
	err = p.await(ctx, func(ctx context.Context) error {
		select {
		case text := <-line:
			return json.Unmarshal(text, v)
		case <-p.ended:
			return io.ErrUnexpectedEOF
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		_ = p.stop() // the error says what was wrong
		return nil, err
	}
	return v, nil
}

// Stop stops the Vault.
func (v *Vault) Stop() error { return v.process.stop() }
