package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/stack"
	"gcpconnect/shared/connect"
)

// owner owns the projects of a scenario.
const owner = "user@example.com"

// contractLatencies are those under which the predecessor was measured. Its 60 s of propagation
// are part of the scenario.
var contractLatencies = google.Latencies{
	Read: milliseconds(80), IAMWrite: milliseconds(250), CreateAccount: milliseconds(500),
	BatchEnable: milliseconds(250), OAuth: milliseconds(80), Operation: milliseconds(15_000),
}

func milliseconds(n int) google.Duration {
	return google.Duration(time.Duration(n) * time.Millisecond)
}

// newScenario returns a Google with n projects project-001 and so on, of one owner in one
// organization. It takes the time that the predecessor was measured with.
func newScenario(n int) *google.Scenario {
	minute := milliseconds(60_000)
	s := &google.Scenario{
		Users: []google.User{
			{Email: owner, Sub: "100000000000000000001", Name: "User One", Domain: "example.com"},
		},
		Clients: []google.Client{{
			ID: "demo-client.apps.googleusercontent.com", Secret: "demo-secret", Name: "Aurora",
			RedirectURIs: []string{"http://127.0.0.1:8080/callback"}, AnyLoopbackPort: true,
			Project: "aurora-platform",
		}},
		Organizations: []google.Organization{
			{ID: "500000000001", Domain: "example.com", CustomerID: "C0example"},
		},
		Projects: []google.Project{{
			ID: "aurora-platform", Number: "900000000001", BillingAccount: "0A0A0A-0B0B0B-0C0C0C",
			EnabledAPIs: &[]string{
				"cloudasset.googleapis.com", "cloudbilling.googleapis.com",
				"cloudresourcemanager.googleapis.com", "iam.googleapis.com",
				"iamcredentials.googleapis.com", "orgpolicy.googleapis.com",
				"serviceusage.googleapis.com",
			},
		}},
		Latencies: contractLatencies,
		Propagation: google.Propagation{
			GrantDelays: google.GrantDelays{Project: &minute, Account: &minute},
		},
	}
	for i := 1; i <= n; i++ {
		p := newProject(fmt.Sprintf("project-%03d", i), fmt.Sprint(200_000_000_000+i), owner)
		p.Parent = "organizations/500000000001"
		p.Resources = []google.Resource{
			{AssetType: "compute.googleapis.com/Instance", Name: "vm", Location: "europe-west1-b"},
			{AssetType: "storage.googleapis.com/Bucket", Name: fmt.Sprint("bucket-", i), Location: "eu"},
		}
		s.Projects = append(s.Projects, p)
	}
	return s
}

// newProject returns a project in which two batches of APIs are to be enabled.
func newProject(id, number, email string) google.Project {
	return google.Project{
		ID: id, Number: number, Name: id, BillingAccount: "01A2B3-C4D5E6-F70819",
		Bindings:    []google.Binding{{Role: "roles/owner", Members: []string{"user:" + email}}},
		EnabledAPIs: &[]string{"serviceusage.googleapis.com"},
	}
}

// instantScenario returns newScenario of a Google that takes no time.
func instantScenario(n int) *google.Scenario {
	s := newScenario(n)
	s.Latencies, s.Propagation = google.Latencies{}, google.Propagation{}
	return s
}

// services are the real services that the measurements share.
type services struct {
	firestore *parts.Firestore
	vault     *parts.Vault
}

// start starts the services unless they run.
func (s *services) start(ctx context.Context, logs string) (err error) {
	if s.firestore == nil {
		if s.firestore, err = parts.StartFirestore(ctx, "", logs); err != nil {
			return err
		}
	}
	if s.vault == nil {
		s.vault, err = parts.StartVault(ctx, "", logs)
	}
	return err
}

func (s *services) stop() error {
	var errs []error
	if s.firestore != nil {
		errs = append(errs, s.firestore.Stop())
	}
	if s.vault != nil {
		errs = append(errs, s.vault.Stop())
	}
	return errors.Join(errs...)
}

// environment returns the variables that name the services, with a project of its own.
func (s *services) environment() map[string]string {
	return map[string]string{
		"FIRESTORE_EMULATOR_HOST": s.firestore.Address,
		"GOOGLE_CLOUD_PROJECT":    "bench-" + strings.ToLower(connect.NewID()),
		"VAULT_ADDR":              s.vault.Address,
		"VAULT_ROLE_ID":           s.vault.RoleID,
		"VAULT_SECRET_ID":         s.vault.SecretID.Reveal(),
		"VERIFY_INTERVAL":         "1s",
	}
}

// system is a running stack with one user.
type system struct {
	*stack.Stack
	user *demo.User
}

// startSystem starts a stack. Stop it.
func startSystem(ctx context.Context, opts stack.Options) (*system, error) {
	started, err := stack.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	y := &system{Stack: started}
	if y.user, err = y.newUser("user-1"); err != nil {
		return nil, errors.Join(err, started.Stop(ctx))
	}
	return y, nil
}

func (y *system) newUser(id string) (*demo.User, error) {
	return demo.NewUser(id, y.URL, y.Client())
}

// login logs a user in and returns the setup that follows. An empty account is the owner's.
func login(ctx context.Context, user *demo.User, account string) (task string, err error) {
	ending, task, err := user.Connect(ctx, demo.Choice{Account: account})
	if err != nil {
		return "", err
	}
	if ending != "gcp_setup_pending" || task == "" {
		return "", fmt.Errorf("%s: the login ended with %q and setup %q", user.ID, ending, task)
	}
	return task, nil
}

// awaitFull polls a setup until all n projects are verified. Another ending is an error.
func awaitFull(
	ctx context.Context, user *demo.User, task string, n int, poll time.Duration,
) (*demo.Status, error) {
	final, err := user.Await(ctx, task, poll, nil)
	if err != nil {
		return nil, err
	}
	r := final.Result
	if r == nil || r.Status != "SUCCESS" || r.Propagation != "FULL" || r.Verified != n {
		return nil, fmt.Errorf("%s: the setup of %d projects ended with %s: %+v",
			user.ID, n, final.Status, r)
	}
	return final, nil
}

// finished returns when the last step of a setup ended.
func finished(s *demo.Status) (time.Time, error) {
	if len(s.Steps) == 0 || s.Steps[len(s.Steps)-1].Finished == nil {
		return time.Time{}, errors.New("the status does not say when the last step ended")
	}
	return *s.Steps[len(s.Steps)-1].Finished, nil
}

// setUp connects n projects and awaits the end of the setup and of discovery.
func (y *system) setUp(ctx context.Context, n int, poll time.Duration) (*demo.Status, error) {
	task, err := login(ctx, y.user, "")
	if err != nil {
		return nil, err
	}
	final, err := awaitFull(ctx, y.user, task, n, poll)
	if err != nil {
		return nil, err
	}
	return final, y.Idle(ctx)
}

// interceptor is a TCP network whose requests pass through change.
type interceptor struct {
	transport *http.Transport
	change    func(next http.RoundTripper, r *http.Request) (*http.Response, error)
}

func newInterceptor(
	change func(next http.RoundTripper, r *http.Request) (*http.Response, error),
) *interceptor {
	return &interceptor{&http.Transport{MaxIdleConnsPerHost: 100}, change}
}

// Listen implements stack.Network.
func (*interceptor) Listen(ctx context.Context, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// Transport implements stack.Network.
func (i *interceptor) Transport() http.RoundTripper { return i }

// RoundTrip implements http.RoundTripper.
func (i *interceptor) RoundTrip(r *http.Request) (*http.Response, error) {
	return i.change(i.transport, r)
}

// CloseIdleConnections is called when the stack stops.
func (i *interceptor) CloseIdleConnections() { i.transport.CloseIdleConnections() }
