package google

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/parts/partstest"
)

// A terminal is where somebody uses Google's own command line against the
// emulated Google.
type terminal struct {
	*Server
	program string
	url     string
}

// A session has its own configuration, so that sessions may run at once.
type session struct {
	*terminal
	t   *testing.T
	env []string
}

// openTerminal serves over TCP, in real time and with short pages, some of
// them empty, as Google's are.
func openTerminal(t *testing.T) *terminal {
	t.Helper()
	program := partstest.Gcloud(t)
	scenario := DefaultScenario()
	scenario.Latencies, scenario.Propagation = Latencies{Operation: Duration(200 * time.Millisecond)}, Propagation{}
	scenario.Pages = Pages{Size: 5, Short: true}
	asPolicyAdmin(scenario)
	s, err := NewServer(Options{Scenario: scenario, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(inspect(t, s))
	t.Cleanup(server.Close)
	return &terminal{Server: s, program: program, url: server.URL}
}

// login opens a session of a user or service account. It takes nothing from
// the environment but where programs are: neither a proxy nor the
// configuration of the developer.
func (term *terminal) login(t *testing.T, email string) *session {
	t.Helper()
	dir, urls := t.TempDir(), Endpoints(term.url)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(must(term.MintToken(email))(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{
		"CONFIG": filepath.Join(dir, "config"), "AUTH_ACCESS_TOKEN_FILE": token, "CORE_DISABLE_PROMPTS": "1",
		"CORE_DISABLE_USAGE_REPORTING": "true", "CORE_DISABLE_FILE_LOGGING": "true", "COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
		"API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": urls.ResourceManager, "API_ENDPOINT_OVERRIDES_SERVICEUSAGE": urls.ServiceUsage,
		"API_ENDPOINT_OVERRIDES_IAM": urls.IAM, "API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": urls.IAMCredentials,
		"API_ENDPOINT_OVERRIDES_ORGPOLICY": urls.OrgPolicy, "API_ENDPOINT_OVERRIDES_CLOUDASSET": urls.CloudAsset,
		"API_ENDPOINT_OVERRIDES_CLOUDBILLING": urls.Billing,
	}
	path, _ := os.LookupEnv("PATH")
	env := []string{"HOME=" + dir, "PATH=" + path}
	for name, value := range settings {
		env = append(env, "CLOUDSDK_"+name+"="+value)
	}
	return &session{terminal: term, t: t, env: env}
}

// run runs one command line, split at blanks; further arguments stay whole.
func (s *session) run(line string, args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.program, slices.Concat(strings.Fields(line), args, []string{"--format=json"})...)
	var out, warnings bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &out, &warnings
	err = cmd.Run()
	return out.String(), warnings.String(), err
}

// must runs a command that has to succeed and returns what it prints.
func (s *session) must(line string, args ...string) string {
	s.t.Helper()
	stdout, stderr, err := s.run(line, args...)
	if err != nil {
		s.t.Fatalf("gcloud %s: %v\n%s", line, err, stderr)
	}
	return stdout
}

// prints runs a command and compares what it prints, which want gives in full
// but for "*", any text.
func (s *session) prints(want, line string, args ...string) {
	s.t.Helper()
	stdout := s.must(line, args...)
	var got, wanted any
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		s.t.Fatalf("gcloud %s prints %q: %v", line, stdout, err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		s.t.Fatalf("gcloud %s is to print %q: %v", line, want, err)
	}
	if diff := cmp.Diff(wanted, mask(wanted, got)); diff != "" {
		s.t.Errorf("gcloud %s (-want +got):\n%s", line, diff)
	}
}

// mask replaces what of got the wanted value leaves open.
func mask(want, got any) any {
	switch w := want.(type) {
	case string:
		if text, ok := got.(string); ok && w == "*" && text != "" {
			return w
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			for name := range g {
				g[name] = mask(w[name], g[name])
			}
		}
	case []any:
		if g, ok := got.([]any); ok {
			for i := range min(len(g), len(w)) {
				g[i] = mask(w[i], g[i])
			}
		}
	}
	return got
}

// fails runs a command that has to fail, saying so.
func (s *session) fails(want, line string, args ...string) {
	s.t.Helper()
	stdout, stderr, err := s.run(line, args...)
	if err == nil || !strings.Contains(stderr, want) {
		s.t.Errorf("gcloud %s: %v\n%s%s\nwant failure with %q", line, err, stdout, stderr, want)
	}
}

// column returns one field of everything that a command lists.
func (s *session) column(field, line string, args ...string) []string {
	s.t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal([]byte(s.must(line, args...)), &rows); err != nil {
		s.t.Fatalf("gcloud %s: %v", line, err)
	}
	var out []string
	for _, row := range rows {
		out = append(out, fmt.Sprint(row[field]))
	}
	return out
}

// state is what the emulator has of a project.
func (s *session) state(project string) ProjectSnapshot {
	s.t.Helper()
	p, ok := s.Project(project)
	if !ok {
		s.t.Fatalf("there is no project %s", project)
	}
	return p
}

// bound returns the members of a role.
func bound(bindings []Binding, role string) []string {
	for _, b := range bindings {
		if b.Role == role {
			return b.Members
		}
	}
	return nil
}

func (s *session) same(what string, want, got any) {
	s.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestGcloud drives the emulator by a client that was not written with it in
// mind, and whose ways of calling (versions, wildcards, masks, polling) are
// not those of this module's clients.
func TestGcloud(t *testing.T) {
	t.Parallel()
	term := openTerminal(t)
	for name, use := range map[string]func(*session){
		"projects": gcloudProjects, "services": gcloudServices, "accounts": gcloudAccounts,
		"policies": gcloudPolicies, "organization policies": gcloudOrgPolicies, "refusals": gcloudRefusals,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			use(term.login(t, demo))
		})
	}
}

func gcloudProjects(s *session) {
	s.same("projects", []string{"dana-playground", "data-warehouse", "internal-tools", "ml-research-7", shop, staging},
		s.column("projectId", "projects list --sort-by projectId"))
	s.prints(`{"createTime": "2022-03-14T09:26:53.589Z", "labels": {"env": "prod"}, "lifecycleState": "ACTIVE", "name": "Shop production",
		"parent": {"id": "730018846125", "type": "folder"}, "projectId": "shop-production", "projectNumber": "210448675301"}`,
		"projects describe shop-production")
	s.prints(`{"billingAccountName": "billingAccounts/0D4E5F-6A7B8C-9D0E1F", "billingEnabled": true,
		"name": "projects/shop-production/billingInfo", "projectId": "shop-production"}`,
		"billing projects describe shop-production")
	s.prints(`{"billingAccountName": "", "billingEnabled": false, "name": "projects/dana-playground/billingInfo", "projectId": "dana-playground"}`,
		"billing projects describe dana-playground")
	s.same("assets of two types", []string{
		"//compute.googleapis.com/projects/shop-production/zones/europe-west1-b/instances/bastion",
		"//compute.googleapis.com/projects/shop-production/zones/europe-west1-b/instances/gke-shop-pool-1",
		"//compute.googleapis.com/projects/shop-production/zones/europe-west1-b/instances/gke-shop-pool-2",
		"//compute.googleapis.com/projects/shop-production/zones/europe-west1-b/instances/gke-shop-pool-3",
		"//storage.googleapis.com/shop-production-media",
	}, s.column("name", "asset search-all-resources --scope projects/shop-production --asset-types compute.googleapis.com/Instance,storage.googleapis.com/Bucket"))
	s.prints(`[{"assetType": "bigquery.googleapis.com/Table", "createTime": "2022-06-01T00:10:00Z", "displayName": "orders",
		"location": "EU", "name": "//bigquery.googleapis.com/projects/data-warehouse/datasets/sales/tables/orders",
		"organization": "organizations/518204713966", "parentAssetType": "bigquery.googleapis.com/Dataset",
		"parentFullResourceName": "//bigquery.googleapis.com/projects/data-warehouse/datasets/sales", "project": "projects/348812907714"}]`,
		"asset search-all-resources --scope projects/348812907714", "--query=displayName:orders assetType:Table")
}

func gcloudServices(s *session) {
	const project = "ml-research-7"
	before := s.state(project).EnabledAPIs
	var names []string
	for _, full := range s.column("name", "services list --enabled --project "+project) {
		names = append(names, strings.TrimPrefix(full, "projects/590227164833/services/"))
	}
	slices.Sort(names)
	s.same("enabled services", before, names)

	_, said, err := s.run("services enable run.googleapis.com --project " + project)
	if err != nil || !strings.Contains(said, `Operation "operations/acf.p2-590227164833-`) || !strings.Contains(said, "finished successfully.") {
		s.t.Errorf("enable says %q, %v", said, err)
	}
	want := append([]string{"run.googleapis.com"}, before...)
	slices.Sort(want)
	s.same("after enabling", want, s.state(project).EnabledAPIs)
	_, said, err = s.run("services enable pubsub.googleapis.com dns.googleapis.com --project " + project)
	if err != nil || !strings.Contains(said, `Operation "operations/acat.p2-590227164833-`) {
		s.t.Errorf("enable of two says %q, %v", said, err)
	}
	// here the call falls to another project than its subject
	s.prints(`[{"name": "projects/590227164833/services/dns.googleapis.com", "parent": "projects/590227164833", "state": "ENABLED"}]`,
		"services list --enabled --filter dns --billing-project shop-production --project "+project)
	s.must("services disable run.googleapis.com --project " + project)
	want = append([]string{"dns.googleapis.com", "pubsub.googleapis.com"}, before...)
	slices.Sort(want)
	s.same("after disabling", want, s.state(project).EnabledAPIs)
}

func gcloudAccounts(s *session) {
	const email = "connect-agent@shop-staging.iam.gserviceaccount.com"
	s.env = append(s.env, "CLOUDSDK_CORE_PROJECT="+staging)
	s.prints(`{"description": "Connects this project", "displayName": "Connect agent", "email": "`+email+`", "etag": "*", "oauth2ClientId": "*",
		"name": "projects/shop-staging/serviceAccounts/`+email+`", "projectId": "shop-staging", "uniqueId": "*"}`,
		"iam service-accounts create connect-agent --display-name", "Connect agent", "--description=Connects this project")
	made := s.state(staging).ServiceAccounts[0]
	s.same("created", AccountSnapshot{Email: email, UniqueID: made.UniqueID, DisplayName: "Connect agent", Description: "Connects this project"}, made)
	s.same("described", fmt.Sprintf(`["%s" "%s"]`, email, made.UniqueID), s.fields("iam service-accounts describe "+email, "email", "uniqueId"))
	s.same("listed", []string{email}, s.column("email", "iam service-accounts list"))
	s.must("iam service-accounts update "+email, "--display-name=Renamed")
	s.must("iam service-accounts disable " + email)
	renamed := s.state(staging).ServiceAccounts[0]
	s.same("updated and disabled", []any{"Renamed", "Connects this project", true}, []any{renamed.DisplayName, renamed.Description, renamed.Disabled})
	s.must("iam service-accounts enable " + email)

	s.fails("Permission 'iam.serviceAccounts.getAccessToken' denied on resource", "auth print-access-token --impersonate-service-account="+email)
	const creator = "roles/iam.serviceAccountTokenCreator"
	s.prints(`{"bindings": [{"members": ["user:demo@example.com"], "role": "`+creator+`"}], "etag": "*", "version": 1}`,
		"iam service-accounts add-iam-policy-binding "+email+" --member user:demo@example.com --role "+creator)
	s.prints(`{"bindings": [{"members": ["user:demo@example.com"], "role": "`+creator+`"}], "etag": "*", "version": 1}`,
		"iam service-accounts get-iam-policy "+email)
	s.same("token creators", []string{"user:" + demo}, bound(s.state(staging).ServiceAccounts[0].Bindings, creator))
	s.must("projects add-iam-policy-binding shop-staging --condition None --role roles/browser --member serviceAccount:" + email)
	s.prints(`{"token": "*"}`, "auth print-access-token --impersonate-service-account="+email)
	s.fails("reason: SERVICE_DISABLED", "projects list --impersonate-service-account="+email) // in the account's own project
	s.must("services enable cloudresourcemanager.googleapis.com")
	s.same("seen by the account", []string{staging}, s.column("projectId", "projects list --impersonate-service-account="+email))

	s.must("iam service-accounts delete " + email)
	gone := "deleted:serviceAccount:" + email + "?uid=" + made.UniqueID
	s.same("accounts after deletion", 0, len(s.state(staging).ServiceAccounts))
	s.same("browsers after deletion", []string{gone}, bound(s.state(staging).Bindings, "roles/browser"))
	s.fails("Unknown service account", "iam service-accounts disable "+email)
	s.fails("Permission 'iam.serviceAccounts.get' denied on resource (or it may not exist)", "iam service-accounts describe "+email) // asks under projects/-
	s.prints(`{"restoredAccount": {"description": "Connects this project", "displayName": "Renamed", "email": "`+email+`", "etag": "*", "oauth2ClientId": "*",
		"name": "projects/shop-staging/serviceAccounts/`+email+`", "projectId": "shop-staging", "uniqueId": "*"}}`,
		"iam service-accounts undelete "+made.UniqueID)
	s.same("restored", made.UniqueID, s.state(staging).ServiceAccounts[0].UniqueID)
	s.same("browsers after undeletion", []string{"serviceAccount:" + email}, bound(s.state(staging).Bindings, "roles/browser"))
	s.must("projects remove-iam-policy-binding shop-staging --condition None --role roles/browser --member serviceAccount:" + email)
	s.same("browsers at the end", []string(nil), bound(s.state(staging).Bindings, "roles/browser"))
}

func gcloudPolicies(s *session) {
	s.prints(`{"bindings": [{"members": ["user:demo@example.com"], "role": "roles/owner"}], "etag": "*", "version": 1}`,
		"projects get-iam-policy data-warehouse")
	s.prints(`{"bindings": [{"members": ["user:demo@example.com"], "role": "roles/owner"},
		{"members": ["serviceAccount:etl-runner@data-warehouse.iam.gserviceaccount.com"], "role": "roles/viewer"}], "etag": "*", "version": 1}`,
		"projects add-iam-policy-binding data-warehouse --role roles/viewer --member serviceAccount:etl-runner@data-warehouse.iam.gserviceaccount.com")
	s.prints(`{"bindings": [{"members": ["user:demo@example.com"], "role": "roles/owner"},
		{"condition": {"expression": "request.time < timestamp('2027-01-01T00:00:00Z')", "title": "this year"}, "members": ["group:data@example.com"], "role": "roles/run.viewer"},
		{"members": ["serviceAccount:etl-runner@data-warehouse.iam.gserviceaccount.com"], "role": "roles/viewer"}], "etag": "*", "version": 3}`,
		"projects add-iam-policy-binding data-warehouse --role roles/run.viewer --member group:data@example.com",
		"--condition=expression=request.time < timestamp('2027-01-01T00:00:00Z'),title=this year")
	s.same("kept", []Binding{
		{Role: "roles/owner", Members: []string{"user:" + demo}},
		{Role: "roles/run.viewer", Members: []string{"group:data@example.com"}, Condition: &Condition{Title: "this year", Expression: "request.time < timestamp('2027-01-01T00:00:00Z')"}},
		{Role: "roles/viewer", Members: []string{"serviceAccount:etl-runner@data-warehouse.iam.gserviceaccount.com"}},
	}, s.state("data-warehouse").Bindings)
	s.must("projects remove-iam-policy-binding data-warehouse --all --role roles/run.viewer --member group:data@example.com")
	s.same("removed", []string(nil), bound(s.state("data-warehouse").Bindings, "roles/run.viewer"))
}

func gcloudOrgPolicies(s *session) {
	const enforce, relax = `{"name": "projects/internal-tools/policies/iam.disableServiceAccountCreation", "spec": {"rules": [{"enforce": true}]}}`,
		`{"name": "projects/internal-tools/policies/iam.disableServiceAccountCreation", "spec": {"rules": [{"enforce": false}]}}`
	file := filepath.Join(s.t.TempDir(), "policy.json")
	set := func(policy string) {
		s.t.Helper()
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.prints(`{"etag": "*", "name": "projects/672910038456/policies/iam.disableServiceAccountCreation", "spec": {"etag": "*", "updateTime": "*",
			"rules": `+policy[strings.Index(policy, "["):len(policy)-2]+`}}`, "org-policies set-policy", file)
	}
	s.prints(`[]`, "org-policies list --project internal-tools")
	s.fails("NOT_FOUND: Requested entity was not found.", "org-policies describe iam.disableServiceAccountCreation --project internal-tools")
	set(enforce)
	s.same("set", map[string]PolicySpec{noNewAccounts: {Rules: []PolicyRule{{Enforce: true}}}}, s.state("internal-tools").OrgPolicies)
	s.fails("constraints/iam.disableServiceAccountCreation", "iam service-accounts create connect-agent --project internal-tools")
	s.prints(`[{"booleanPolicy": "SET", "constraint": "iam.disableServiceAccountCreation", "etag": "*", "listPolicy": "-"}]`,
		"org-policies list --project internal-tools")
	all := s.column("constraint", "org-policies list --show-unset --project internal-tools")
	if len(all) != len(constraints) {
		s.t.Errorf("lists %d constraints", len(all))
	}
	set(relax)
	s.prints(`{"etag": "*", "name": "projects/672910038456/policies/iam.disableServiceAccountCreation", "spec": {"etag": "*", "rules": [{"enforce": false}], "updateTime": "*"}}`,
		"org-policies describe iam.disableServiceAccountCreation --project internal-tools")
	s.must("iam service-accounts create connect-agent --project internal-tools")
	s.must("org-policies delete iam.disableServiceAccountCreation --project internal-tools")
	s.prints(`{"name": "projects/672910038456/policies/iam.disableServiceAccountCreation", "spec": {"rules": [{"enforce": false}]}}`,
		"org-policies describe iam.disableServiceAccountCreation --effective --project internal-tools")
	s.same("deleted", map[string]PolicySpec(nil), s.state("internal-tools").OrgPolicies)
}

// gcloudRefusals sees whether gcloud finds in the emulator's errors what it
// looks for in Google's.
func gcloudRefusals(s *session) {
	s.fails("does not have permission to access projects instance [no-such-project] (or it may not exist): The caller does not have permission",
		"projects describe no-such-project")
	s.fails("Resource in projects [shop-production] is the subject of a conflict: Service account ID already exists",
		"iam service-accounts create checkout --project shop-production")
	s.fails("reason: UREQ_PROJECT_BILLING_NOT_FOUND", "services enable run.googleapis.com --project dana-playground")
	s.fails("reason: SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "services enable no-such.googleapis.com --project shop-production")
	s.fails("FAILED_PRECONDITION: Service redis.googleapis.com is not enabled.", "services disable redis.googleapis.com --project shop-production")
	s.fails("INVALID_ARGUMENT: Service account nobody@shop-production.iam.gserviceaccount.com does not exist.",
		"projects add-iam-policy-binding shop-production --role roles/viewer --member serviceAccount:nobody@shop-production.iam.gserviceaccount.com")
	s.fails("reason: SERVICE_DISABLED", "billing projects describe shop-production --billing-project shop-production")
	s.fails("reason: USER_PROJECT_DENIED", "projects list --billing-project gcpconnect-platform")
}

// fields picks from the object that a command prints.
func (s *session) fields(line string, names ...string) string {
	s.t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(s.must(line)), &object); err != nil {
		s.t.Fatalf("gcloud %s: %v", line, err)
	}
	var out []string
	for _, name := range names {
		out = append(out, fmt.Sprint(object[name]))
	}
	return fmt.Sprintf("%q", out)
}
