package deployment

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/hashicorp/vault/api"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/secretmanager"
	"gcpconnect/emulators/tasks"
)

// Options say what to run.
type Options struct {
	Plan      *Plan
	Functions []string // those that are started; tasks for others stay in their queues
	Program   string   // the built binary of functions/cmd/gcpconnect
	Firestore *parts.Firestore
	Folder    string // for a certificate and logs
}

// Deployment is a running deployment.
type Deployment struct {
	Plan     *Plan
	Internet *Internet
	Google   *google.Server // also the issuer of platform tokens
	Issuer   *google.Server // of users' tokens, with AUTH=oidc; else nil
	Vault    *parts.Vault

	options  Options
	services map[string]Service
	front    http.ServeMux // the load balancer
	closers  []func()

	mu   sync.Mutex
	logs map[string]*strings.Builder // by function
}

// Start starts a deployment. Stop it, also if it fails.
func Start(ctx context.Context, o Options) (*Deployment, error) {
	d := &Deployment{Plan: o.Plan, options: o, logs: map[string]*strings.Builder{}}
	for _, start := range []func(context.Context) error{d.startInternet, d.startGoogle, d.startPlatform, d.startVault, d.startFunctions} {
		if err := start(ctx); err != nil {
			d.Stop()
			return nil, err
		}
	}
	return d, nil
}

// Stop stops everything that Start started.
func (d *Deployment) Stop() {
	for _, f := range slices.Backward(d.closers) {
		f()
	}
	d.closers = nil
}

// Log returns what a function has logged.
func (d *Deployment) Log(function string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.logs[function]; b != nil {
		return b.String()
	}
	return ""
}

// Path returns the address of a path of the HTTP contract.
func (d *Deployment) Path(path string) string {
	paths, _ := d.Plan.Outputs["paths"].(map[string]any)
	address, _ := paths[path].(string)
	return address
}

func (d *Deployment) startInternet(context.Context) (err error) {
	if d.services, err = d.Plan.Services(); err != nil {
		return err
	}
	if d.Internet, err = newInternet(filepath.Join(d.options.Folder, "internet.pem")); err != nil {
		return err
	}
	d.closers = append(d.closers, d.Internet.close)
	return nil
}

// clientSecret is the payload of the OAuth client's secret.
const clientSecret = "deployed-client-secret"

// startGoogle starts Google with the platform's own project as the plan makes it:
// its service accounts, and who may use them.
func (d *Deployment) startGoogle(context.Context) error {
	one := d.services["callback"]
	project, client := one.Environment["GOOGLE_CLOUD_PROJECT"], one.Environment["CLIENT_ID"]
	scenario := google.DefaultScenario()
	scenario.Latencies, scenario.Propagation, scenario.Metadata = google.Latencies{}, google.Propagation{}, nil
	redirect, _ := d.Plan.Outputs["redirect_uri"].(string)
	scenario.Clients = []google.Client{{ID: client, Secret: clientSecret, Name: "Aurora", RedirectURIs: []string{redirect}, Project: project}}
	platform := google.Project{
		ID: project, Number: "123456789012", BillingAccount: "0A0A0A-0B0B0B-0C0C0C",
		EnabledAPIs: &[]string{"iam.googleapis.com", "iamcredentials.googleapis.com", "cloudresourcemanager.googleapis.com", "cloudbilling.googleapis.com", "serviceusage.googleapis.com", "orgpolicy.googleapis.com", "cloudasset.googleapis.com"},
	}
	bindings := map[string][]google.Binding{} // by account
	for _, r := range d.Plan.Of("google_service_account_iam_member") {
		account := r.Text("service_account_id")
		account = account[strings.LastIndex(account, "/")+1:]
		bindings[account] = append(bindings[account], google.Binding{Role: r.Text("role"), Members: []string{r.Text("member")}})
	}
	for _, r := range d.Plan.Of("google_service_account") {
		id := r.Text("account_id")
		platform.ServiceAccounts = append(platform.ServiceAccounts, google.ServiceAccount{
			AccountID: id, Bindings: bindings[id+"@"+project+".iam.gserviceaccount.com"],
		})
	}
	if vault := d.vaultAccount(); vault != "" { // what Vault runs as is of a project of its own
		id, rest, _ := strings.Cut(vault, "@")
		scenario.Projects = append(scenario.Projects, google.Project{
			ID: strings.TrimSuffix(rest, ".iam.gserviceaccount.com"), Number: "123456789013", BillingAccount: platform.BillingAccount, EnabledAPIs: platform.EnabledAPIs,
			ServiceAccounts: []google.ServiceAccount{{AccountID: id}},
		})
	}
	scenario.Projects = append(scenario.Projects, platform)
	var err error
	if d.Google, err = google.NewServer(google.Options{Scenario: scenario, PublicURL: "https://accounts.google.com"}); err != nil {
		return fmt.Errorf("start Google: %w", err)
	}
	for host, h := range d.Google.Hosts() {
		d.Internet.Serve(host, h)
	}
	if issuer := one.Environment["AUTH_ISSUER"]; issuer != "" {
		if d.Issuer, err = google.NewServer(google.Options{Issuer: issuer, PublicURL: issuer}); err != nil {
			return fmt.Errorf("start the users' issuer: %w", err)
		}
		d.Internet.Serve(hostOf(issuer), d.Issuer)
	}
	return nil
}

// vaultAccount is what Vault is at Google.
func (d *Deployment) vaultAccount() string {
	for _, r := range d.Plan.Of("google_service_account_iam_member") {
		if r.Name == "seen_by_vault" {
			return strings.TrimPrefix(r.Text("member"), "serviceAccount:")
		}
	}
	return ""
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// startPlatform starts Firestore, Secret Manager and Cloud Tasks at their host names.
func (d *Deployment) startPlatform(ctx context.Context) error {
	d.Internet.Serve("firestore.googleapis.com", proxied(d.options.Firestore.Address, true, func(r *httputil.ProxyRequest) {
		r.Out.Header.Set("Authorization", "Bearer owner") // the emulator's administrator
	}))
	project, versions := d.services["callback"].Environment["GOOGLE_CLOUD_PROJECT"], map[string]secretmanager.Version{}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	payloads := map[string]string{"client_secret": clientSecret, "login_key": base64.StdEncoding.EncodeToString(key)}
	for output, payload := range payloads { // by hand, as terraform/README.md shows; both ways end with a newline
		if secret, ok := d.Plan.Outputs[output].(string); ok {
			versions["projects/"+project+"/secrets/"+secret+"/versions/1"] = secretmanager.Version{Payload: []byte(payload + "\n")}
		}
	}
	secrets, err := secretmanager.NewServer(versions)
	if err != nil {
		return fmt.Errorf("start Secret Manager: %w", err)
	}
	queues, err := tasks.NewServer(tasks.Options{Client: d.Internet.Client(), Token: d.Google.IDToken})
	if err != nil {
		return fmt.Errorf("start Cloud Tasks: %w", err)
	}
	for _, q := range d.Plan.Of("google_cloud_tasks_queue") {
		parent := "projects/" + project + "/locations/" + q.Text("location")
		name := parent + "/queues/" + q.Text("name")
		if _, err := queues.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{Name: name}}); err != nil {
			return fmt.Errorf("make the queue %s: %w", name, err)
		}
		if len(d.options.Functions) < len(d.services) {
			if _, err := queues.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: name}); err != nil {
				return fmt.Errorf("pause the queue %s: %w", name, err)
			}
		}
	}
	for host, server := range map[string]interface{ Serve(net.Listener) error }{"secretmanager.googleapis.com": secrets, "cloudtasks.googleapis.com": queues} {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives until Stop
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		go func() { _ = server.Serve(l) }() // until Stop
		d.Internet.Serve(host, proxied(l.Addr().String(), true, nil))
	}
	d.closers = append(d.closers, secrets.Stop, func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is under way is cut off
		_ = queues.Close(ctx)
	})
	d.Internet.Serve("telemetry.googleapis.com", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is success
	}))
	return nil
}

// startVault starts Vault at the address of the plan, with a role for the accounts
// that use tokens.
func (d *Deployment) startVault(ctx context.Context) error {
	one := d.services["callback"]
	metadata, err := d.serveMetadata(d.vaultAccount())
	if err != nil {
		return err
	}
	d.Vault, err = parts.StartVault(ctx, "", d.options.Folder, append(d.Internet.Environment(), "GCE_METADATA_HOST="+metadata)...)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, func() { _ = d.Vault.Stop() })
	d.Internet.Serve(hostOf(one.Environment["VAULT_ADDR"]), proxied(strings.TrimPrefix(d.Vault.Address, "http://"), false, nil))
	client, err := api.NewClient(&api.Config{Address: d.Vault.Address})
	if err != nil {
		return fmt.Errorf("reach Vault: %w", err)
	}
	client.SetToken(d.Vault.RootToken.Reveal())
	var accounts []string
	for _, s := range d.services {
		if account := s.Environment["VAULT_SERVICE_ACCOUNT"]; account != "" {
			accounts = append(accounts, account)
		}
	}
	_, err = client.Logical().WriteWithContext(ctx, "auth/"+one.Environment["VAULT_AUTH_MOUNT"]+"/role/"+one.Environment["VAULT_ROLE"], map[string]any{
		"type": "iam", "bound_service_accounts": strings.Join(accounts, ","), "token_policies": "gcpconnect", "token_ttl": "1h", "max_jwt_exp": "15m",
	})
	if err != nil {
		return fmt.Errorf("make Vault's role: %w", err)
	}
	return nil
}

// serveMetadata serves a metadata server that knows one account, and returns its
// address.
func (d *Deployment) serveMetadata(account string) (string, error) {
	_, host, _ := strings.Cut(account, "@")
	server := &http.Server{Handler: d.Google.MetadataServer(strings.TrimSuffix(host, ".iam.gserviceaccount.com"), account)} //nolint:gosec // on this machine alone
	address, err := d.Internet.serve(server, false)
	return address, err
}

// startFunctions starts a process for each function, at the host of its service and
// behind the load balancer, if there is one.
func (d *Deployment) startFunctions(ctx context.Context) error {
	urls, _ := d.Plan.Outputs["function_urls"].(map[string]any)
	processes := map[string]http.Handler{}
	for _, name := range d.options.Functions {
		s, ok := d.services[name]
		if !ok {
			return fmt.Errorf("the plan has no function %s", name)
		}
		address, err := d.startFunction(ctx, s)
		if err != nil {
			return err
		}
		processes[name] = proxied(address, false, nil)
		own, _ := urls[name].(string)
		d.Internet.Serve(hostOf(own), processes[name])
	}
	for path, function := range d.Plan.Paths() {
		if processes[function] != nil {
			d.front.Handle(path, processes[function])
		}
	}
	if front, _ := d.Plan.Outputs["backend_url"].(string); len(d.Plan.Of("google_compute_url_map")) > 0 {
		d.Internet.Serve(hostOf(front), &d.front)
	}
	return nil
}

// startFunction starts a function's process and returns its address.
func (d *Deployment) startFunction(ctx context.Context, s Service) (string, error) {
	metadata, err := d.serveMetadata(s.Account)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, d.options.Program) //nolint:gosec // the program that is deployed
	cmd.Env = append(d.Internet.Environment(), "GCE_METADATA_HOST="+metadata, "PORT=0", "K_SERVICE="+s.Text("name"))
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", s.Function, err)
	}
	log := new(strings.Builder)
	d.mu.Lock()
	d.logs[s.Function] = log
	d.mu.Unlock()
	serving, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			d.mu.Lock()
			log.WriteString(lines.Text() + "\n")
			d.mu.Unlock()
			if _, rest, ok := strings.Cut(lines.Text(), `"message":"serving","address":"`); ok {
				address, _, _ := strings.Cut(rest, `"`)
				serving <- strings.Replace(address, "[::]", "127.0.0.1", 1)
			}
		}
		ended <- cmd.Wait()
	}()
	d.closers = append(d.closers, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	select {
	case address := <-serving:
		return address, nil
	case err := <-ended:
		return "", fmt.Errorf("%s does not start: %w\n%s", s.Function, errors.Join(err, ctx.Err()), d.Log(s.Function))
	}
}
