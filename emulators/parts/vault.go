package parts

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

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
// is built before, which takes some minutes the first time.
func StartVault(ctx context.Context, address, logs string) (*Vault, error) {
	source, err := sourceOf(ctx, "emulators/vault")
	if err != nil {
		return nil, err
	}
	program, err := build(ctx, source)
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
	p, err := start("vault", logs, in, program, "-listen", address, "-policy", filepath.Join(source, "..", "..", "shared", "vault", "policy.hcl"))
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

// sourceOf returns a folder of this module.
func sourceOf(ctx context.Context, folder string) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", &MissingError{"go", "see https://go.dev/doc/install"}
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "gcpconnect").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s (run this inside the repository): %w", folder, err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), filepath.FromSlash(folder)), nil
}

// build builds the module in a folder, unless that has been done for what is
// in it, and returns the program.
func build(ctx context.Context, source string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for built programs: %w", err)
	}
	sum := sha256.New()
	for _, file := range []string{"go.mod", "go.sum", "main.go"} {
		content, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			return "", fmt.Errorf("build %s: %w", source, err)
		}
		sum.Write(content)
	}
	name := filepath.Base(source)
	program := filepath.Join(cache, "gcpconnect", name+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if err := os.MkdirAll(filepath.Dir(program), 0o700); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	// One builds, others wait: two at once take twice the memory and no less time.
	lock, err := os.OpenFile(program+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program+".new", ".")
	cmd.Dir = source
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, output)
	}
	return program, os.Rename(program+".new", program)
}
