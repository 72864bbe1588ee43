package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gcpconnect/emulators/google"
	"gcpconnect/functions"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/identity"
)

// Who calls, and where a deployment is.
const (
	project    = "gcpconnect-platform"
	backend    = "backend@" + project + ".iam.gserviceaccount.com"
	internal   = "aurora@" + project + ".iam.gserviceaccount.com"
	queue      = "tasks@" + project + ".iam.gserviceaccount.com"
	scheduler  = "scheduler@" + project + ".iam.gserviceaccount.com"
	backendURL = "https://connect.example"
)

// serviceURL is the address of a function's service.
func serviceURL(function string) string { return "https://" + function + ".run.example" }

// deployed is the environment of a function as a deployment has it: what it needs
// and no more.
func deployed(f functions.Function, google string) []string {
	environment := []string{
		"PORT=0", "K_SERVICE=aurora-" + f.Name, "K_REVISION=aurora-" + f.Name + "-00001-abc", "K_CONFIGURATION=aurora-" + f.Name,
		"GCE_METADATA_HOST=" + strings.TrimPrefix(google, "http://"), // Cloud Run's is known to all
		"FUNCTION_TARGET=" + f.Name,
		"AUTH=backend", "BACKEND_SERVICE_ACCOUNTS=" + backend, "BACKENDS=real", "GOOGLE_CLOUD_PROJECT=" + project,
		"CLIENT_ID=id", "NEXT_PUBLIC_BACKEND_URL=" + backendURL, "FRONTURL=https://front.example/chat", "GOOGLE_ENDPOINT=" + google,
	}
	if f.Needs.LoginKey {
		environment = append(environment, "LOGIN_KEY=bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI=")
	}
	if f.Needs.Tokens {
		environment = append(environment, "CLIENT_SECRET=very-secret", "VAULT_ADDR=https://vault.example", "VAULT_ROLE=gcpconnect", "VAULT_SERVICE_ACCOUNT="+f.Name+"@"+project+".iam.gserviceaccount.com")
	}
	if f.Needs.Queue {
		queues := "projects/" + project + "/locations/europe-west1/queues/"
		environment = append(environment, "CLOUD_TASKS_QUEUE="+queues+"setups", "CLOUD_TASKS_DISCOVERY_QUEUE="+queues+"discoveries",
			"TASK_SERVICE_ACCOUNT="+queue, "SCHEDULER_SERVICE_ACCOUNT="+scheduler, "TASK_TARGET="+serviceURL("{function}"))
	}
	if f.Needs.Platform {
		environment = append(environment, "PLATFORM_SERVICE_ACCOUNT=platform@"+project+".iam.gserviceaccount.com")
	}
	if f.Caller == functions.CallerService {
		environment = append(environment, "INTERNAL_SERVICE_ACCOUNTS="+internal, "INTERNAL_AUDIENCE="+serviceURL(f.Name))
	}
	if f.Caller != functions.CallerUser && f.Caller != functions.CallerBrowser {
		environment = append(environment, "INVOKER_IAM_CHECK=true")
	}
	return environment
}

// contain runs the program in its image: with no file but those, and as the user
// that the image names. Without the right to do so it runs outside.
func contain(t *testing.T, environment []string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary)
	if root != "" && os.Geteuid() == 0 {
		command = exec.CommandContext(t.Context(), "/gcpconnect")
		command.Dir, command.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	} else if ci, _ := os.LookupEnv("CI"); ci != "" {
		t.Fatal("CI must run the program in its image: as root, on linux/amd64")
	}
	command.Env = environment
	return command
}

// request is one that a function gets.
type request struct {
	method, path  string
	authorization string
	header        http.Header
	body          string
}

// stranger is a request of somebody unknown, as the load balancer passes it on.
func stranger(f functions.Function, r functions.Route) request {
	path := strings.ReplaceAll(r.Path, "{task_id}", "unknown")
	if f.Caller != functions.CallerUser && f.Caller != functions.CallerBrowser {
		path = "/" // of a service of its own
	}
	return request{method: r.Method, path: path}
}

// admitted is a request of a caller that the function is for, in which something
// is wrong that no service need be asked about; ok is false where there is no such request.
func admitted(t *testing.T, signer *google.Server, f functions.Function) (r request, status int, code connect.Code, ok bool) {
	t.Helper()
	r = stranger(f, f.Routes[len(f.Routes)-1])
	r.header = http.Header{"Content-Type": {"application/json"}}
	var caller, audience string
	switch f.Caller {
	case functions.CallerUser:
		caller, audience = backend, backendURL
		r.header.Set("X-User-ID", "u")
		r.body, status, code = `{"userId":"somebody else"}`, http.StatusForbidden, connect.Forbidden
	case functions.CallerBrowser:
		r.header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.body = "code=c"
		return r, http.StatusBadRequest, connect.Invalid, true
	case functions.CallerService:
		caller, audience = internal, serviceURL(f.Name)
		r.body, status, code = `{}`, http.StatusBadRequest, connect.Invalid
	case functions.CallerQueue:
		caller, audience = queue, serviceURL(f.Name)
		r.header.Set("X-CloudTasks-TaskName", "task")
		r.body, status, code = `{}`, http.StatusBadRequest, connect.Invalid
	default: // the scheduler, which has nothing to say
		return request{}, 0, "", false
	}
	token, err := signer.IDToken(caller, audience)
	if err != nil {
		t.Fatal(err)
	}
	if f.Caller != functions.CallerUser { // Cloud Run has checked it
		token = token[:strings.LastIndex(token, ".")+1] + identity.SignatureRemoved
	}
	r.authorization = "Bearer " + token
	return r, status, code, true
}

// flight is a request under way, whose body the function waits for.
type flight struct {
	conn   net.Conn
	reader *bufio.Reader
	body   string
}

// send sends a request but for its body, until the function reads that.
func (p *program) send(t *testing.T, r request) flight {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\nAuthorization: %s\r\n", r.method, r.path, len(r.body), r.authorization)
	for name, values := range r.header {
		head += name + ": " + values[0] + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	f := flight{conn, bufio.NewReader(conn), r.body}
	if line, err := f.reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		rest, _ := f.reader.Peek(f.reader.Buffered())
		t.Fatalf("the function does not wait for the body: %q %s, %v", line, rest, err)
	}
	if _, err := f.reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return f
}

// finish sends the body and returns the answer's status and code.
func (f flight) finish(t *testing.T) (int, connect.Code) {
	t.Helper()
	if _, err := io.WriteString(f.conn, f.body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(f.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, codeOf(t, response)
}

func codeOf(t *testing.T, response *http.Response) connect.Code {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	var said struct{ Code connect.Code }
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Code
}

// do makes a whole request.
func (p *program) do(t *testing.T, r request) (int, connect.Code) {
	t.Helper()
	made, err := http.NewRequestWithContext(t.Context(), r.method, p.url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(made)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, codeOf(t, response)
}

// refuses waits until the program takes no more connections.
func (p *program) refuses(t *testing.T) {
	t.Helper()
	for t.Context().Err() == nil {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// Cloud Run gives an instance its environment and, as one that is asked for its
// port when it starts, sends requests as soon as that is open. It ends it by
// SIGTERM and, 10 s later, SIGKILL
// (https://cloud.google.com/run/docs/container-contract).
func TestEveryFunctionRunsAsCloudRunRunsIt(t *testing.T) {
	t.Parallel()
	signer, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(signer)
	t.Cleanup(server.Close)
	for _, f := range functions.Table() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			p := run(t, contain(t, deployed(f, server.URL)))
			for _, r := range f.Routes {
				status, code := http.StatusUnauthorized, connect.Unauthenticated
				if f.Caller == functions.CallerBrowser {
					status, code = http.StatusBadRequest, connect.Invalid
				}
				for _, path := range slices.Compact([]string{stranger(f, r).path, strings.ReplaceAll(r.Path, "{task_id}", "unknown")}) {
					if s, c := p.do(t, request{method: r.Method, path: path}); s != status || c != code {
						t.Errorf("%s %s of a stranger is answered %d %s, want %d %s", r.Method, path, s, c, status, code)
					}
				}
			}
			if s, c := p.do(t, request{method: http.MethodGet, path: "/no/such/path"}); s != http.StatusNotFound || c != connect.NotFound {
				t.Errorf("what is not there is answered %d %s", s, c)
			}
			r, status, code, ok := admitted(t, signer, f)
			asked := time.Now()
			if !ok {
				p.stop(t)
			} else {
				under := p.send(t, r)
				asked = time.Now()
				if err := p.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				p.refuses(t)
				if s, c := under.finish(t); s != status || c != code {
					t.Errorf("%s %s, under way at the end, is answered %d %s, want %d %s", r.method, r.path, s, c, status, code)
				}
				if err := <-p.ended; err != nil {
					t.Errorf("the program ended with %v", err)
				}
			}
			if took := time.Since(asked); took > 10*time.Second {
				t.Errorf("it took %v to stop", took)
			}
			if strings.Contains(p.stderr.String(), "very-secret") {
				t.Error("the log holds the client secret")
			}
			if t.Failed() {
				t.Log(p.stderr)
			}
		})
	}
}
