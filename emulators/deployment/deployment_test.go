package deployment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/deployment"
	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/shared/identity"
)

// program builds the deployed program once.
var program = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "gcpconnect-deployment-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "gcpconnect")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "gcpconnect/functions/cmd/gcpconnect").CombinedOutput()
	if err != nil {
		_, _ = os.Stderr.Write(out)
	}
	return path, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// caller is who calls users' functions: a page in the user's browser, with the
// user's own token, or Aurora's backend in the user's name.
type caller struct {
	t      *testing.T
	d      *deployment.Deployment
	client *http.Client
	header http.Header
}

// call calls a path of the contract; a body of nil is none.
func (c caller) call(method, path string, body any, answer any) {
	c.t.Helper()
	reader := io.Reader(http.NoBody)
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.d.Path(path), reader)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header = c.header.Clone()
	r.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s answers %d %s, %v", path, response.StatusCode, content, err)
	}
	if err := json.Unmarshal(content, answer); err != nil {
		c.t.Fatalf("%s answers %s: %v", path, content, err)
	}
}

// A login begins in one function and is completed in another, each with exactly the
// environment, secrets and identity that Terraform gives it. This follows step 8 of
// terraform/README.md up to a connected user.
func TestDeployment_LoginCompletes(t *testing.T) {
	t.Parallel()
	terraform, database := partstest.Terraform(t), partstest.Firestore(t)
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	const (
		oidc    = "auth = { mode = \"oidc\", issuer = \"https://login.aurora.example.com\", audience = [\"frontend\"] }"
		backend = "auth = { backend_service_accounts = [\"backend@aurora-app.iam.gserviceaccount.com\"] }"
		domain  = "load_balancer = { domain = \"connect.aurora.example.com\" }"
	)
	for name, c := range map[string]struct {
		example, binding string
		lines            []string
	}{
		"minimal as it is":                     {"minimal", "confirm", nil},
		"minimal with a domain and own tokens": {"minimal", "cookie", []string{oidc, domain}},
		"production as it is":                  {"production", "cookie", nil},
		"production with a backend":            {"production", "confirm", []string{backend}},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := deployment.CopyConfiguration("../../terraform", folder); err != nil {
				t.Fatal(err)
			}
			plan, err := deployment.PlanExample(t.Context(), terraform, folder, c.example, c.lines...)
			if err != nil {
				t.Fatal(err)
			}
			d, err := deployment.Start(t.Context(), deployment.Options{
				Plan: plan, Functions: []string{"login", "callback", "confirm", "connection", "plan", "sweep"}, Program: binary, Firestore: database, Folder: folder,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				d.Stop()
				if t.Failed() {
					for _, f := range []string{"login", "callback", "confirm", "plan", "sweep"} {
						t.Logf("%s logged\n%s", f, d.Log(f))
					}
				}
			})
			services, err := plan.Services()
			if err != nil || services["login"].Environment["LOGIN_BINDING"] != c.binding {
				t.Fatalf("LOGIN_BINDING is %q, %v, want %s", services["login"].Environment["LOGIN_BINDING"], err, c.binding)
			}
			connects(t, d, c.binding)
			sweeps(t, d)
			if unknown := d.Internet.Unknown(); len(unknown) > 0 {
				t.Errorf("asked for hosts that do not exist: %q", unknown)
			}
		})
	}
}

// connects logs a user in and checks that they are connected.
func connects(t *testing.T, d *deployment.Deployment, binding string) {
	t.Helper()
	browser, err := demo.NewUser("unused", "", d.Internet.Client())
	if err != nil {
		t.Fatal(err)
	}
	user := caller{t, d, d.Internet.Client(), http.Header{}}
	if d.Issuer != nil { // the page calls, in the same browser
		user.client = browser.Client()
		token, err := d.Issuer.IDToken("me@example.com", "frontend")
		if err != nil {
			t.Fatal(err)
		}
		user.header.Set("Authorization", "Bearer "+token)
	} else {
		backendURL, _ := d.Plan.Outputs["backend_url"].(string)
		token, err := d.Google.IDToken("backend@aurora-app.iam.gserviceaccount.com", backendURL)
		if err != nil {
			t.Fatal(err)
		}
		user.header.Set("Authorization", "Bearer "+token)
		user.header.Set("X-User-ID", "me")
	}
	var login struct {
		URL string `json:"login_url"`
	}
	user.call(http.MethodPost, "/login", struct{}{}, &login)
	back, err := browser.Consent(t.Context(), login.URL, demo.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	ended, task, err := browser.Return(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"cookie": "gcp_setup_pending", "confirm": "gcp_confirm"}[binding]
	if ended != want || task == "" {
		t.Fatalf("the login ends with %s, task %q, want %s", ended, task, want)
	}
	if binding == "confirm" {
		var started struct {
			Status string
			TaskID string `json:"task_id"`
		}
		user.call(http.MethodPost, "/gcp/setup/confirm", map[string]string{"task_id": task}, &started)
		if started.Status != "started" || started.TaskID == "" {
			t.Fatalf("confirmed: %+v", started)
		}
	}
	var connection struct {
		Connected bool `json:"isConnected"`
		Email     string
	}
	user.call(http.MethodGet, "/api/gcp/connection", nil, &connection)
	if !connection.Connected || !strings.Contains(connection.Email, "@") {
		t.Errorf("the connection is %+v", connection)
	}
	var planned struct {
		Projects []struct {
			ID string `json:"projectId"`
		}
	}
	user.call(http.MethodPost, "/gcp/setup/plan", nil, &planned) // it reads the user's cloud, with the tokens that callback stored
	if len(planned.Projects) == 0 {
		t.Error("the plan of a setup has no projects")
	}
}

// sweeps calls sweep as Cloud Scheduler does behind Cloud Run's invoker check, which
// takes the signature out of the token.
func sweeps(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	job := d.Plan.Of("google_cloud_scheduler_job")[0]
	token, err := d.Google.IDToken(job.Text("http_target", "oidc_token", "service_account_email"), job.Text("http_target", "oidc_token", "audience"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, job.Text("http_target", "uri"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token[:strings.LastIndex(token, ".")+1]+identity.SignatureRemoved)
	response, err := d.Internet.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusNoContent {
		content, _ := io.ReadAll(response.Body)
		t.Errorf("sweep answers %d %s", response.StatusCode, content)
	}
}

// A function does not start without a secret that it uses, and says which variable
// lacks it; a function that does not use it has neither.
func TestDeployment_MissingSecretsStopTheStart(t *testing.T) {
	t.Parallel()
	terraform := partstest.Terraform(t)
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := deployment.CopyConfiguration("../../terraform", folder); err != nil {
		t.Fatal(err)
	}
	plan, err := deployment.PlanExample(t.Context(), terraform, folder, "minimal")
	if err != nil {
		t.Fatal(err)
	}
	services, err := plan.Services()
	if err != nil {
		t.Fatal(err)
	}
	short := "c2hvcnQ="
	for name, s := range services {
		for variable, values := range map[string][]string{"LOGIN_KEY": {"", short}, "CLIENT_SECRET": {""}} {
			if s.Environment[variable] == "" {
				continue // it does not use it
			}
			for _, value := range values {
				cmd := exec.CommandContext(t.Context(), binary)
				cmd.Env = []string{"PORT=0", "K_SERVICE=" + name}
				for n, v := range s.Environment {
					if strings.HasPrefix(v, "sm://") {
						v = "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI="
					}
					if n == variable {
						v = value
					}
					cmd.Env = append(cmd.Env, n+"="+v)
				}
				out, err := cmd.CombinedOutput()
				if err == nil || !strings.Contains(string(out), variable) {
					t.Errorf("%s starts with %s=%q: %v\n%s", name, variable, value, err, out)
				}
			}
		}
	}
}
