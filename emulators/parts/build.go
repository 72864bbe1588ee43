package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

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

// build builds a package of the module in a folder, unless that has been done
// for what is in the folder, and returns the program.
func build(ctx context.Context, source, pkg string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for built programs: %w", err)
	}
	sum := sha256.New()
	files, err := filepath.Glob(filepath.Join(source, "*.*"))
	if err != nil {
		return "", fmt.Errorf("build %s: %w", source, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // of the folder that is built
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
	lock, err := os.OpenFile(program+".lock", os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a name that is made here
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer func() { _ = lock.Close() }()
	for { // another process may be at it
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return "", fmt.Errorf("build %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("build %s: wait for another build: %w", name, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program+".new", pkg) //nolint:gosec // a module of this repository
	cmd.Dir = source
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, output)
	}
	return program, os.Rename(program+".new", program)
}
