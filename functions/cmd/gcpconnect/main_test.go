package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gcpconnect/functions"
)

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "gcpconnect")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(folder, "gcpconnect")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("go build: %v\n%s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// environment is a good configuration with changes.
func environment(changes ...string) []string {
	return append([]string{
		"CLIENT_ID=id", "CLIENT_SECRET=very-secret", "NEXT_PUBLIC_BACKEND_URL=https://backend.example", "FRONTURL=https://front.example/chat", "PORT=0",
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
	p := &program{Cmd: exec.CommandContext(t.Context(), binary), stderr: new(strings.Builder), ended: make(chan error, 1)}
	p.Env = environment(changes...)
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
	p.url = "http://" + address
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

func TestEveryFunctionIsServedAloneByItsName(t *testing.T) {
	t.Parallel()
	for _, f := range functions.Table() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "FUNCTION_TARGET="+f.Name)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.url+f.Routes[0].Path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(response.Header.Get("Allow"), f.Routes[0].Method) {
				t.Errorf("DELETE answered %d %q %s, %v", response.StatusCode, response.Header.Get("Allow"), body, err)
			}
			if took := p.stop(t); took > 5*time.Second {
				t.Errorf("an idle program took %v to stop", took)
			}
		})
	}
}

func TestRunningRequestsEndBeforeTheProgramDoes(t *testing.T) {
	t.Parallel()
	p := start(t)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /login HTTP/1.1\r\nHost: x\r\nX-User-ID: u\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100") { // the function is reading the body now
		t.Fatalf("answer %q, %v", line, err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // until it takes no more requests
		if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://")); err != nil {
			break
		} else {
			_ = c.Close()
		}
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "{}"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "login_url") {
		t.Errorf("the running request was answered %d %s, %v", response.StatusCode, body, err)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("the program ended with %v\n%s", err, p.stderr)
	}
	if strings.Contains(p.stderr.String(), "very-secret") {
		t.Error("the log holds the client secret")
	}
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
