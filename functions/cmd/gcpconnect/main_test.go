package main_test

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// binary is the program, built once. root is the file system of its image, where
// that can run on this machine; "" where it cannot.
var binary, root string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "gcpconnect")
	if err != nil {
		panic(err)
	}
	if err := build(folder); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// build builds the image and takes the program out of it; on machines of other
// kinds, only the program.
func build(folder string) error {
	binary = filepath.Join(folder, "gcpconnect")
	command := exec.CommandContext(context.Background(), "go", "build", "-o", binary, ".")
	contained := runtime.GOOS == "linux" && runtime.GOARCH == "amd64"
	if contained {
		command = exec.CommandContext(context.Background(), "go", "run", "../image", "-dir", filepath.Join(folder, "image"))
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", command, err, out)
	}
	if !contained {
		return nil
	}
	root = filepath.Join(folder, "root")
	binary = filepath.Join(root, "gcpconnect")
	return unpack(filepath.Join(folder, "image"), root)
}

// unpack makes the file system of the image of an OCI layout.
func unpack(image, root string) error {
	index, err := layout.ImageIndexFromPath(image)
	if err != nil {
		return err
	}
	images, err := partial.FindImages(index, func(v1.Descriptor) bool { return true })
	if err != nil || len(images) != 1 {
		return fmt.Errorf("%d images, %w", len(images), err)
	}
	archive := mutate.Extract(images[0])
	defer func() { _ = archive.Close() }()
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Join(root, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(name, 0o755)
		} else {
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, content, h.FileInfo().Mode())
			}
		}
		if err != nil {
			return err
		}
	}
}

// environment is a good configuration with changes.
func environment(changes ...string) []string {
	return append([]string{
		"CLIENT_ID=id", "CLIENT_SECRET=very-secret", "LOGIN_KEY=bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI=", "NEXT_PUBLIC_BACKEND_URL=https://backend.example", "FRONTURL=https://front.example/chat", "PORT=0",
	}, changes...)
}

// program is a running gcpconnect.
type program struct {
	*exec.Cmd
	url    string
	stderr *strings.Builder
	ended  chan error
}

// start runs the program until it serves.
func start(t *testing.T, changes ...string) *program {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary)
	command.Env = environment(changes...)
	return run(t, command)
}

func run(t *testing.T, command *exec.Cmd) *program {
	t.Helper()
	p := &program{Cmd: command, stderr: new(strings.Builder), ended: make(chan error, 1)}
	logs, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(logs)
		for lines.Scan() {
			p.stderr.WriteString(lines.Text() + "\n")
			if _, rest, ok := strings.Cut(lines.Text(), `"address":"`); ok {
				address, _, _ := strings.Cut(rest, `"`)
				serving <- address
			}
		}
		close(serving)
		p.ended <- p.Wait()
	}()
	address, ok := <-serving
	if !ok {
		t.Fatalf("the program ended: %v\n%s", <-p.ended, p.stderr)
	}
	p.url = "http://" + strings.Replace(address, "[::]", "127.0.0.1", 1)
	return p
}

// stop sends SIGTERM and returns how the program ended and how long it took.
func (p *program) stop(t *testing.T) time.Duration {
	t.Helper()
	asked := time.Now()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("the program ended with %v\n%s", err, p.stderr)
	}
	return time.Since(asked)
}

func TestBadConfigurationIsRefusedNamingAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), binary)
	command.Env = []string{"CLIENT_SECRET=very-secret", "FRONTURL=ftp://x", "AUTH=none", "VERIFY_INTERVAL=0s", "VERIFY_ATTEMPTS=many", "AGENT_ROLES=roles/owner", "FUNCTION_TARGET=nothing"}
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("the program ended with %v, want exit status 1", err)
	}
	for _, variable := range []string{"CLIENT_ID", "NEXT_PUBLIC_BACKEND_URL", "FRONTURL", "AUTH", "VERIFY_INTERVAL", "VERIFY_ATTEMPTS", "AGENT_ROLES", "FUNCTION_TARGET"} {
		if !strings.Contains(string(out), variable) {
			t.Errorf("%s is not named:\n%s", variable, out)
		}
	}
	if strings.Contains(string(out), "very-secret") {
		t.Errorf("the secret is shown:\n%s", out)
	}
}
