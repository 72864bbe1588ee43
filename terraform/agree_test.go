package terraform_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/deployment"
	"gcpconnect/functions"
	"gcpconnect/functions/app"
	"gcpconnect/shared/config"
	"gcpconnect/shared/connect"
)

// services returns the services of a plan by function.
func services(t *testing.T, p *deployment.Plan) map[string]deployment.Service {
	t.Helper()
	found, err := p.Services()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// read reads the configuration that a service would.
func read(s deployment.Service) (*config.Config, error) {
	env := maps.Clone(s.Environment)
	env["K_SERVICE"], env["PORT"] = s.Text("name"), "8080" // as Cloud Run sets them
	return config.Read(context.Background(), config.Environment{
		Lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		Secret: func(_ context.Context, version string) (connect.Secret, string, error) {
			if strings.Contains(version, "login-key") {
				return "bG9naW4ta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTI=", "1", nil
			}
			return "very-secret", "1", nil
		},
		Functions: app.Functions(),
	})
}

// Every registered function has a service, which reaches what the function needs,
// and whose environment the program accepts.
func TestServicesAreTheFunctions(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		p := planned(t, example)
		found := services(t, p)
		invokers := map[string][]string{}
		for _, r := range p.Of("google_cloud_run_v2_service_iam_member") {
			name, _ := r.Values["name"].(string)
			invokers[name] = append(invokers[name], r.Text("role")+" "+r.Text("member"))
		}
		platform := "aurora-platform@aurora-connector.iam.gserviceaccount.com"
		runs := map[string]string{}
		for _, f := range functions.Table() {
			s, ok := found[f.Name]
			if !ok {
				t.Errorf("%s: %s has no service", example, f.Name)
				continue
			}
			delete(found, f.Name)
			c, err := read(s)
			if err != nil {
				t.Errorf("%s: the program refuses what %s would have: %v", example, f.Name, err)
				continue
			}
			memory := map[string]string{"512Mi": "384MiB", "1Gi": "768MiB"}[s.Text("template", "containers", "resources", "limits", "memory")]
			if s.Environment["GOGC"] != "400" || memory == "" || s.Environment["GOMEMLIMIT"] != memory {
				t.Errorf("%s: the collector of %s has GOGC=%s and GOMEMLIMIT=%s", example, f.Name, s.Environment["GOGC"], s.Environment["GOMEMLIMIT"])
			}
			_, tokens := s.Environment["VAULT_ADDR"]
			_, secret := s.Environment["CLIENT_SECRET"]
			_, key := s.Environment["LOGIN_KEY"]
			_, queue := s.Environment["CLOUD_TASKS_QUEUE"]
			account := s.Text("template", "service_account")
			if tokens != f.Needs.Tokens || secret != f.Needs.Tokens || key != f.Needs.LoginKey || queue != f.Needs.Queue || account == platform != f.Needs.Platform {
				t.Errorf("%s: %s needs %+v and has vault %v, client's secret %v, login key %v, queue %v, account %s", example, f.Name, f.Needs, tokens, secret, key, queue, account)
			}
			if other := runs[account]; other != "" && account != platform {
				t.Errorf("%s: %s and %s run as one account", example, f.Name, other)
			}
			runs[account] = f.Name
			if f.Needs.Tokens && c.VaultServiceAccount != account || c.PlatformAccount != platform {
				t.Errorf("%s: %s runs as %s and takes itself for %s, and the platform for %s", example, f.Name, account, c.VaultServiceAccount, c.PlatformAccount)
			}
			open := s.Values["invoker_iam_disabled"] == true
			ingress := s.Text("ingress")
			public := f.Caller == functions.CallerUser || f.Caller == functions.CallerBrowser
			reached := "INGRESS_TRAFFIC_INTERNAL_ONLY"
			switch {
			case f.Caller == functions.CallerService: // from other projects
				reached = "INGRESS_TRAFFIC_ALL"
			case public:
				reached = map[string]string{"minimal": "INGRESS_TRAFFIC_ALL", "production": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"}[example]
			}
			if public != open || ingress != reached || open == c.InvokerCheck {
				t.Errorf("%s: %s is called by %s, its invoker check is off: %v, it believes it: %v, and its ingress is %s", example, f.Name, f.Caller, open, c.InvokerCheck, ingress)
			}
			var want []string
			switch f.Caller {
			case functions.CallerQueue:
				want = []string{"roles/run.invoker serviceAccount:" + c.TaskServiceAccount}
			case functions.CallerScheduler:
				want = []string{"roles/run.invoker serviceAccount:" + c.Scheduler()}
			case functions.CallerService:
				for _, account := range c.InternalAccounts {
					want = append(want, "roles/run.invoker serviceAccount:"+account)
				}
			}
			if got := invokers[s.Text("name")]; !slices.Equal(got, want) {
				t.Errorf("%s: %s may be invoked by %q, want %q", example, f.Name, got, want)
			}
			delete(invokers, s.Text("name"))
		}
		if len(found) > 0 || len(invokers) > 0 {
			t.Errorf("%s: services %v and invokers %v are of no function", example, slices.Collect(maps.Keys(found)), invokers)
		}
	}
}

// Tasks, the scheduler and Aurora's services reach each function at its address,
// with a token that it takes.
func TestAddressesAndAudiencesMeet(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		p := planned(t, example)
		urls, _ := p.Outputs["function_urls"].(map[string]any)
		found := services(t, p)
		sweep, err := read(found["sweep"])
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range found {
			c, err := read(s)
			if err != nil {
				t.Fatal(err)
			}
			address := fmt.Sprintf("https://%s-123456789012.europe-west1.run.app", s.Text("name")) // as Cloud Run gives it
			if urls[name] != address {
				t.Errorf("%s: %s is at %s, taken for %v", example, name, address, urls[name])
			}
			if functions.Table()[slices.IndexFunc(functions.Table(), func(f functions.Function) bool { return f.Name == name })].Caller == functions.CallerQueue {
				if sweep.TaskURL(name) != address || c.TaskAudienceOf(name) != address {
					t.Errorf("%s: tasks for %s go to %s, which takes tokens for %s, and it is at %s", example, name, sweep.TaskURL(name), c.TaskAudienceOf(name), address)
				}
			}
			if c.RedirectURL() != p.Outputs["redirect_uri"] || c.BackendURL != p.Outputs["backend_url"] {
				t.Errorf("%s: %s redirects to %s, told to the engineer: %v", example, name, c.RedirectURL(), p.Outputs["redirect_uri"])
			}
			if name == "token" && !slices.Equal(c.InternalAudiences(), []string{address}) {
				t.Errorf("%s: token takes tokens for %v; Cloud Run for %s", example, c.InternalAudiences(), address)
			}
		}
		job := p.Of("google_cloud_scheduler_job")[0]
		if uri, audience := job.Text("http_target", "uri"), job.Text("http_target", "oidc_token", "audience"); uri != urls["sweep"] || audience != sweep.TaskAudienceOf("sweep") || job.Text("http_target", "oidc_token", "service_account_email") != sweep.Scheduler() {
			t.Errorf("%s: the scheduler calls %s as %s for %s", example, uri, job.Text("http_target", "oidc_token", "service_account_email"), audience)
		}
	}
}

// The program gives up, then Cloud Run, then the queue and the scheduler.
func TestEachOutlastsTheOneBefore(t *testing.T) {
	t.Parallel()
	const answer = functions.MaxTimeout + 5*time.Second // when the program's server cuts an answer off
	p := planned(t, "production")
	for name, s := range services(t, p) {
		timeout, err := time.ParseDuration(s.Text("template", "timeout"))
		if err != nil || timeout <= answer || timeout >= app.DispatchDeadline {
			t.Errorf("%s is cut off after %v (%v): the program's server does after %v, and the queue delivers again after %v", name, timeout, err, answer, app.DispatchDeadline)
		}
	}
	deadline, err := time.ParseDuration(p.Of("google_cloud_scheduler_job")[0].Text("attempt_deadline"))
	if err != nil || deadline != app.DispatchDeadline {
		t.Errorf("the scheduler waits %v, the queue %v, %v", deadline, app.DispatchDeadline, err)
	}
}

func TestDiscoveriesShareAnInstanceAsItsMemoryAllows(t *testing.T) {
	t.Parallel()
	for example, lines := range map[string][]string{"production": nil, "minimal": {`scaling = { discover-project = { memory = "2Gi", concurrency = 64 } }`}} {
		for name, s := range services(t, planned(t, example, lines...)) {
			want := 80.
			switch {
			case name == "discover-project" && lines == nil:
				want = 16
			case name == "discover-project":
				want = 64
			}
			if got := deployment.Dig(s.Values, "template", "max_instance_request_concurrency"); got != want {
				t.Errorf("%s: %s takes %v requests at once, want %v", example, name, got, want)
			}
		}
	}
}

// notDeployed are the variables that no deployment sets, and why.
var notDeployed = map[string]string{
	"CALL_TIMEOUT":              "other timing is for tests",
	"CLOUD_TASKS_EMULATOR_HOST": "an emulator is refused on Cloud Run",
	"FIRESTORE_EMULATOR_HOST":   "an emulator is refused on Cloud Run",
	"GOOGLE_ENDPOINT":           "an emulated Google is for one machine",
	"HOST":                      "Cloud Run wants all addresses",
	"K_SERVICE":                 "Cloud Run sets it",
	"OPERATION_GRACE":           "other timing is for tests",
	"PORT":                      "Cloud Run sets it",
	"STEP_BUDGET":               "other timing is for tests",
	"STEP_DEADLINE":             "other timing is for tests",
	"STEP_LEASE":                "other timing is for tests",
	"TASK_AUDIENCE":             "each function's tasks are for it alone",
	"VAULT_ROLE_ID":             "accounts log in as what they are",
	"VAULT_SECRET_ID":           "accounts log in as what they are",
	"VAULT_TOKEN":               "accounts log in as what they are",
}

func TestVariablesAreThoseThatTheProgramReads(t *testing.T) {
	t.Parallel()
	read := map[string]bool{}
	for i := range reflect.TypeFor[config.Config]().NumField() {
		if name, _, _ := strings.Cut(reflect.TypeFor[config.Config]().Field(i).Tag.Get("env"), ","); name != "" {
			read[name] = true
		}
	}
	source, err := os.ReadFile("environment.tf")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{"FUNCTION_TARGET": true} // by the module
	for _, m := range regexp.MustCompile(`(?m)\b([A-Z][A-Z0-9_]+)\s*=[^=>]`).FindAllStringSubmatch(string(source), -1) {
		set[m[1]] = true
	}
	for name := range set {
		if !read[name] && name != "VAULT_CACERT_BYTES" { // which Vault's client reads
			t.Errorf("Terraform sets %s, which the program does not read", name)
		}
	}
	for name := range read {
		if _, not := notDeployed[name]; set[name] == not {
			t.Errorf("the program reads %s: set it in environment.tf, or say in notDeployed why not", name)
		}
	}
}

// The load balancer leads each public path of the contract to its function, and no
// other path to any.
func TestTheLoadBalancerHasTheContractsPaths(t *testing.T) {
	t.Parallel()
	var want []string
	for _, f := range functions.Table() {
		if f.Caller == functions.CallerUser || f.Caller == functions.CallerBrowser {
			want = append(want, balancerPaths(f)...)
		}
	}
	// A plan does not know what a rule refers to, so that is read in the source.
	source := mustRead(t, "loadbalancer.tf")
	if !strings.Contains(source, "paths   = path_rule.value.paths\n        service = google_compute_backend_service.function[path_rule.key].id") {
		t.Error("a path rule must lead to its own function's backend")
	}
	if !strings.Contains(source, "service = module.function[each.key].name") || !strings.Contains(source, "group = google_compute_region_network_endpoint_group.function[each.key].id") ||
		!strings.Contains(source, "security_policy       = google_compute_security_policy.front[0].id") {
		t.Error("a function's backend must lead to its own service, and stand behind the rates")
	}
	var ruled []string
	for _, r := range planned(t, "production").Of("google_compute_url_map") {
		matchers, _ := r.Values["path_matcher"].([]any)
		for _, m := range matchers {
			rules, _ := deployment.Dig(m, "path_rule").([]any)
			for _, rule := range rules {
				paths, _ := deployment.Dig(rule, "paths").([]any)
				for _, path := range paths {
					ruled = append(ruled, path.(string))
				}
			}
		}
	}
	slices.Sort(ruled)
	slices.Sort(want)
	if !slices.Equal(ruled, want) {
		t.Errorf("the load balancer has the paths\n%q, the contract\n%q", ruled, want)
	}
}

// A route counts by what it costs, not by its method: one that has the tokens may
// ask Google.
func TestCostlyRoutesHaveTheLowerRate(t *testing.T) {
	t.Parallel()
	var costly *regexp.Regexp
	for _, r := range planned(t, "production").Of("google_compute_security_policy") {
		rules, _ := r.Values["rule"].([]any)
		for _, rule := range rules {
			expression, _ := deployment.Dig(rule, "match", "expr", "expression").(string)
			if pattern, ok := strings.CutPrefix(expression, "request.method != 'OPTIONS' && request.path.matches('"); ok {
				costly = regexp.MustCompile(strings.TrimSuffix(pattern, "')"))
			}
		}
	}
	if costly == nil {
		t.Fatal("no rule is for costly paths")
	}
	cheap := map[string]bool{}
	for _, f := range functions.Table() {
		for _, r := range f.Routes {
			path := strings.NewReplacer("{", "", "}", "").Replace(r.Path)
			public := f.Caller == functions.CallerUser || f.Caller == functions.CallerBrowser
			switch {
			case public && (f.Needs.Tokens || r.Method == http.MethodPost) && !costly.MatchString(path):
				t.Errorf("%s %s may ask Google or change something, and counts as a read", r.Method, r.Path)
			case public && !costly.MatchString(path):
				cheap[path] = true
			}
		}
	}
	if !cheap["/gcp/setup/status/task_id"] || !cheap["/api/gcp/resources"] || costly.MatchString("/callback/x") {
		t.Errorf("polls and reads have the lower rate: reads are %v", cheap)
	}
}

func TestTheDatabaseHasTheIndexesOfTheQueries(t *testing.T) {
	t.Parallel()
	var want struct {
		Indexes []struct {
			Group  string `json:"collectionGroup"`
			Scope  string `json:"queryScope"`
			Fields []struct {
				Path  string `json:"fieldPath"`
				Order string
			}
		}
		Overrides []struct {
			Group   string `json:"collectionGroup"`
			Path    string `json:"fieldPath"`
			TTL     bool
			Indexes []struct {
				Order string
				Scope string `json:"queryScope"`
			}
		} `json:"fieldOverrides"`
	}
	content, err := os.ReadFile("../shared/firestore/indexes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	var wanted, got []string
	for _, i := range want.Indexes {
		text := i.Group + " " + i.Scope
		for _, f := range i.Fields {
			text += " " + f.Path + ":" + f.Order
		}
		wanted = append(wanted, text)
	}
	for _, o := range want.Overrides {
		var orders []string
		for _, i := range o.Indexes {
			orders = append(orders, i.Order+":"+i.Scope)
		}
		slices.Sort(orders)
		wanted = append(wanted, fmt.Sprintf("field %s.%s ttl %v %v", o.Group, o.Path, o.TTL, orders))
	}
	p := planned(t, "minimal")
	for _, r := range p.Of("google_firestore_index") {
		text := r.Text("collection") + " " + r.Text("query_scope")
		fields, _ := r.Values["fields"].([]any)
		for _, f := range fields {
			text += fmt.Sprintf(" %v:%v", deployment.Dig(f, "field_path"), deployment.Dig(f, "order"))
		}
		got = append(got, text)
	}
	for _, r := range p.Of("google_firestore_field") {
		var orders []string
		indexes, _ := deployment.Dig(r.Values, "index_config", "indexes").([]any)
		for _, i := range indexes {
			orders = append(orders, fmt.Sprintf("%v:%v", deployment.Dig(i, "order"), deployment.Dig(i, "query_scope")))
		}
		slices.Sort(orders)
		ttl, _ := r.Values["ttl_config"].([]any)
		got = append(got, fmt.Sprintf("field %s.%s ttl %v %v", r.Text("collection"), r.Text("field"), len(ttl) > 0, orders))
	}
	slices.Sort(wanted)
	slices.Sort(got)
	if !slices.Equal(got, wanted) {
		t.Errorf("the database would have\n%s\nthe program wants\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}

func TestQueuesTryAsOftenAsTheProgramCounts(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		p := planned(t, example)
		c, err := read(services(t, p)["sweep"])
		if err != nil {
			t.Fatal(err)
		}
		var settings map[string]struct {
			Rates map[string]float64                      `json:"rateLimits"`
			Retry struct{ MinBackoff, MaxBackoff string } `json:"retryConfig"`
		}
		if err := json.Unmarshal([]byte(mustRead(t, "../shared/cloudtasks/queues.json")), &settings); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(c.TaskQueue, "/queues/aurora-setups") || !strings.HasSuffix(c.DiscoveryQueue, "/queues/aurora-discoveries") {
			t.Errorf("%s: setups go to %s, discoveries to %s", example, c.TaskQueue, c.DiscoveryQueue)
		}
		names := map[string]bool{}
		for _, q := range p.Of("google_cloud_tasks_queue") {
			of := settings[q.Index.(string)]
			if deployment.Dig(q.Values, "rate_limits", "max_dispatches_per_second") != of.Rates["maxDispatchesPerSecond"] || deployment.Dig(q.Values, "rate_limits", "max_concurrent_dispatches") != of.Rates["maxConcurrentDispatches"] ||
				q.Text("retry_config", "min_backoff") != of.Retry.MinBackoff || q.Text("retry_config", "max_backoff") != of.Retry.MaxBackoff {
				t.Errorf("%s: %s is %v, %v, want %v", example, q.Text("name"), q.Values["rate_limits"], q.Values["retry_config"], of)
			}
			if n := deployment.Dig(q.Values, "retry_config", "max_attempts"); n != float64(c.TaskMaxAttempts) {
				t.Errorf("%s: %s tries %v times, the program counts to %d", example, q.Text("name"), n, c.TaskMaxAttempts)
			}
			if d := deployment.Dig(q.Values, "retry_config", "max_retry_duration"); d != nil && d != "" {
				t.Errorf("%s: %s has a duration beside its attempts: %v", example, q.Text("name"), d)
			}
			names[fmt.Sprintf("projects/%s/locations/%s/queues/%s", q.Text("project"), q.Text("location"), q.Text("name"))] = true
		}
		if !names[c.TaskQueue] || !names[c.DiscoveryQueue] || len(names) != 2 {
			t.Errorf("%s: the program uses %s and %s, there are %v", example, c.TaskQueue, c.DiscoveryQueue, names)
		}
	}
}

// grants are the roles that the deployment gives, by what gives them: each has its
// reason there. What is not here may not be given.
var grants = map[string][]string{
	"google_project_iam_member.database":                    {"roles/datastore.user"},
	"google_project_iam_member.telemetry":                   {"roles/telemetry.writer", "roles/serviceusage.serviceUsageConsumer"},
	"google_service_account_iam_member.signs_for_itself":    {"roles/iam.serviceAccountTokenCreator"},
	"google_service_account_iam_member.delivers_as_tasks":   {"roles/iam.serviceAccountUser"},
	"google_service_account_iam_member.seen_by_vault":       {"roles/iam.serviceAccountViewer"},
	"google_secret_manager_secret_iam_member.client_secret": {"roles/secretmanager.secretAccessor"},
	"google_secret_manager_secret_iam_member.login_key":     {"roles/secretmanager.secretAccessor"},
	"google_cloud_tasks_queue_iam_member.enqueuer":          {"roles/cloudtasks.enqueuer"},
	"google_cloud_run_v2_service_iam_member.invoker":        {"roles/run.invoker"},
	// Releases: the builder reads, the deployer writes what Terraform makes.
	"google_project_iam_member.builder": {
		"roles/artifactregistry.reader", "roles/cloudbuild.builds.viewer", "roles/cloudscheduler.viewer", "roles/cloudtasks.viewer",
		"roles/compute.viewer", "roles/iam.securityReviewer", "roles/logging.logWriter", "roles/monitoring.viewer", "roles/run.viewer",
		"roles/secretmanager.viewer", "roles/serviceusage.serviceUsageConsumer", "roles/serviceusage.serviceUsageViewer",
	},
	"google_project_iam_member.deployer": {
		"roles/artifactregistry.admin", "roles/cloudbuild.builds.viewer", "roles/cloudscheduler.admin", "roles/cloudtasks.admin",
		"roles/compute.loadBalancerAdmin", "roles/compute.networkAdmin", "roles/compute.securityAdmin", "roles/containeranalysis.notes.attacher",
		"roles/containeranalysis.notes.editor", "roles/containeranalysis.occurrences.editor", "roles/iam.securityReviewer",
		"roles/iam.serviceAccountAdmin", "roles/logging.configWriter", "roles/logging.logWriter", "roles/monitoring.editor", "roles/run.admin",
		"roles/serviceusage.serviceUsageAdmin", "roles/serviceusage.serviceUsageConsumer",
	},
	"google_project_iam_member.settings":                     {"projects/aurora-connector/roles/aurora_settings_read", "projects/aurora-connector/roles/aurora_settings_write"},
	"google_project_iam_member.grants":                       {"roles/resourcemanager.projectIamAdmin"}, // of three roles, see below
	"google_project_iam_member.approver":                     {"roles/cloudbuild.builds.approver"},
	"google_service_account_iam_member.deploys_as":           {"roles/iam.serviceAccountUser"},
	"google_artifact_registry_repository_iam_member.builder": {"roles/artifactregistry.writer"},
	"google_storage_bucket_iam_member.builder_reads":         {"roles/storage.objectViewer"},
	"google_storage_bucket_iam_member.builder_adds":          {"roles/storage.objectCreator"},
	"google_storage_bucket_iam_member.deployer":              {"roles/storage.objectUser"},
}

func TestNobodyMayMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		p := planned(t, example)
		held := map[string]map[string]bool{}
		for _, r := range p.Resources {
			if !strings.Contains(r.Type, "_iam_") || r.Type == "google_project_iam_custom_role" {
				continue
			}
			role, member := r.Text("role"), r.Text("member")
			if !slices.Contains(grants[r.Type+"."+r.Name], role) {
				t.Errorf("%s: %s gives %s to %s: say why, and list it", example, r.Address, role, member)
			}
			if member == "" || strings.Contains(member, "allUsers") || strings.Contains(member, "allAuthenticatedUsers") || strings.HasPrefix(member, "serviceAccount:") == (r.Name == "approver") {
				t.Errorf("%s: %s gives %s to %q", example, r.Address, role, member)
			}
			email := strings.TrimPrefix(member, "serviceAccount:")
			switch r.Name {
			case "signs_for_itself":
				if !strings.HasSuffix(r.Text("service_account_id"), "/"+email) {
					t.Errorf("%s: %s may sign for %s", example, email, r.Text("service_account_id"))
				}
			case "delivers_as_tasks":
				if !strings.HasSuffix(r.Text("service_account_id"), "/aurora-tasks@aurora-connector.iam.gserviceaccount.com") {
					t.Errorf("%s: %s may act as %s", example, email, r.Text("service_account_id"))
				}
			case "grants":
				want := "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/datastore.user', 'roles/serviceusage.serviceUsageConsumer', 'roles/telemetry.writer'])"
				if r.Text("condition", "expression") != want {
					t.Errorf("%s: the deployer may give roles where %s", example, r.Text("condition", "expression"))
				}
			case "seen_by_vault":
				if email != "vault-server@aurora-vault.iam.gserviceaccount.com" {
					t.Errorf("%s: %s sees accounts as Vault", example, email)
				}
			case "deploys_as":
				if _, name, _ := strings.Cut(r.Text("service_account_id"), "/serviceAccounts/"); !strings.HasPrefix(name, "aurora-") || name == "aurora-tasks@aurora-connector.iam.gserviceaccount.com" {
					t.Errorf("%s: the deployer may act as %s", example, name)
				}
				if strings.Contains(r.Text("service_account_id"), "-builder@") || strings.Contains(r.Text("service_account_id"), "-deployer@") || !strings.HasPrefix(email, "aurora-deployer@") {
					t.Errorf("%s: %s may act as %s", example, email, r.Text("service_account_id"))
				}
			case "database":
				if !strings.Contains(r.Text("condition", "expression"), "projects/aurora-connector/databases/(default)") {
					t.Errorf("%s: %s may use any database", example, email)
				}
			}
			if r.Type == "google_secret_manager_secret_iam_member" {
				role += " on " + r.Text("secret_id")
			}
			if held[email] == nil {
				held[email] = map[string]bool{}
			}
			held[email][role] = true
		}
		for _, email := range slices.Sorted(maps.Keys(held)) {
			t.Logf("%s: %s has %s", example, email, strings.Join(slices.Sorted(maps.Keys(held[email])), ", "))
		}
		for role := range held["aurora-builder@aurora-connector.iam.gserviceaccount.com"] { // it runs what a commit says
			if strings.Contains(role, "dmin") || strings.Contains(role, "ditor") || role == "roles/iam.serviceAccountUser" || role == "roles/viewer" {
				t.Errorf("%s: the builder has %s", example, role)
			}
		}
		for _, r := range p.Of("google_project_iam_custom_role") {
			permissions, _ := r.Values["permissions"].([]any)
			for _, permission := range permissions {
				if text := permission.(string); strings.Contains(text, "entities") || strings.Contains(text, "versions.access") {
					t.Errorf("%s: %s has contents: %s", example, r.Address, text)
				}
			}
		}
		for _, f := range functions.Table() {
			roles := held["aurora-"+f.Name+"@aurora-connector.iam.gserviceaccount.com"]
			if f.Needs.Platform {
				continue // they share an account
			}
			want := 3 // the database, and telemetry's two
			for secret, needed := range map[string]bool{"aurora-login-key": f.Needs.LoginKey, "aurora-oauth-client-secret": f.Needs.Tokens} {
				if has := roles["roles/secretmanager.secretAccessor on "+secret]; has != needed {
					t.Errorf("%s: %s reads %s: %v, needs it: %v", example, f.Name, secret, has, needed)
				}
				if needed {
					want++
				}
			}
			if f.Needs.Tokens {
				want++ // it signs for itself
			}
			if f.Needs.Queue {
				want += 2 // it enqueues, and acts as the tasks account
			}
			if len(roles) != want || !roles["roles/datastore.user"] {
				t.Errorf("%s: %s needs %+v and has %v", example, f.Name, f.Needs, roles)
			}
		}
	}
}

// Triggers start the builds with what they ask for, each as its own account, and
// the one that deploys waits for an approval.
func TestTriggersGiveTheBuildsWhatTheyAskFor(t *testing.T) {
	t.Parallel()
	triggers := planned(t, "production").Of("google_cloudbuild_trigger")
	if len(triggers) != 2 || len(planned(t, "minimal").Of("google_cloudbuild_trigger")) != 0 {
		t.Fatalf("%d triggers", len(triggers))
	}
	accounts := map[string]bool{}
	for _, r := range triggers {
		given, _ := r.Values["substitutions"].(map[string]any)
		build := parse(t, filepath.Join("..", r.Text("filename")))
		if !slices.Equal(slices.Sorted(maps.Keys(given)), slices.Sorted(maps.Keys(build.Substitutions))) {
			t.Errorf("%s gives %v, and %s asks for %v", r.Address, given, r.Text("filename"), build.Substitutions)
		}
		for name, value := range given {
			if value == "" || value == nil {
				t.Errorf("%s gives nothing for %s", r.Address, name)
			}
		}
		account, _ := given["_SERVICE_ACCOUNT"].(string)
		if r.Text("service_account") != "projects/aurora-connector/serviceAccounts/"+account {
			t.Errorf("%s runs as %s and says %s", r.Address, r.Text("service_account"), account)
		}
		accounts[account] = true
		if deploys := r.Text("filename") == "terraform/deploy.yaml"; deployment.Dig(r.Values, "approval_config", "approval_required") != deploys {
			t.Errorf("%s: approval %v", r.Address, deployment.Dig(r.Values, "approval_config", "approval_required"))
		}
	}
	if len(accounts) != 2 {
		t.Errorf("both run as %v", accounts)
	}
}

// Each variable of the deployment is the program's own of that name, and no
// other's.
func TestVariablesHaveTheirOwnValues(t *testing.T) {
	t.Parallel()
	p := planned(t, "minimal", `settings = {
  agent_roles = ["roles/run.admin"]
  ask_roles = ["roles/run.viewer=run.services.get"]
  include_sys_projects = true
  log_level = "DEBUG"
  max_auto_projects = 7
  max_selected_projects = 8
  platform_quota = 3
  setup_give_up_after = "9h"
  task_max_attempts = 11
  trace_ratio = 0.5
  update_org_policies = false
  verify_attempts = 12
  verify_interval = "13s"
}
cors_origins = ["https://cors.example.com"]
firestore = { database = "own" }
load_balancer = { domain = "own.example.com" }
login_binding = "confirm"`, `vault = {
  address = "https://own-vault.example.com"
  namespace = "own-namespace"
  mount = "own-mount"
  auth_mount = "own-auth"
  role = "own-role"
  ca_certificate = "own-certificate"
}`)
	s := services(t, p)["sweep"]
	c, err := read(s)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.TrimSpace(fmt.Sprintln(c.AgentRoles, c.AskRoles, c.IncludeSysProjects, c.LogLevel, c.MaxAutoProjects, c.MaxSelected, c.PlatformQuota, c.GiveUpAfter, c.TaskMaxAttempts, c.TraceRatio,
		c.UpdateOrgPolicies, c.VerifyAttempts, c.VerifyInterval, c.Origins, c.FirestoreDatabase, c.BackendURL, c.FrontURL, c.LoginBinding,
		c.VaultAddress, c.VaultNamespace, c.VaultMount, c.VaultAuthMount, c.VaultRole, s.Environment["VAULT_CACERT_BYTES"], c.ClientID, c.Auth, c.BackendAccounts, c.TelemetryEndpoint))
	want := "[roles/run.admin] [roles/run.viewer=run.services.get] true DEBUG 7 8 3 9h0m0s 11 0.5" +
		" false 12 13s [https://cors.example.com] own https://own.example.com https://aurora.example.com/chat confirm" +
		" https://own-vault.example.com own-namespace own-mount own-auth own-role own-certificate 123456789012-abc.apps.googleusercontent.com backend [backend@aurora-app.iam.gserviceaccount.com] https://telemetry.googleapis.com"
	if got != want {
		t.Errorf("the program reads\n%s, want\n%s", got, want)
	}
	var tokens []string // accounts of functions that use them
	for _, f := range functions.Table() {
		if name := "aurora-" + f.Name; f.Needs.Tokens && !f.Needs.Platform {
			tokens = append(tokens, name+"@aurora-connector.iam.gserviceaccount.com")
		}
	}
	tokens = append(tokens, "aurora-platform@aurora-connector.iam.gserviceaccount.com")
	slices.Sort(tokens)
	commands, _ := planned(t, "minimal").Outputs["vault_commands"].(string)
	if !strings.Contains(commands, "bound_service_accounts="+strings.Join(tokens, ",")+" ") {
		t.Errorf("Vault is told\n%s\nwant the accounts %s", commands, tokens)
	}
}

// Open to all by a role is each of users' functions, where that is chosen, and
// nothing else.
func TestAllUsersMayInvokeUsersFunctionsWhereThatIsChosen(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, f := range functions.Table() {
		if f.Caller == functions.CallerUser || f.Caller == functions.CallerBrowser {
			want["aurora-"+f.Name] = true
		}
	}
	got := map[string]bool{}
	p := planned(t, "minimal", `public_access = "all_users"`)
	for _, r := range p.Of("google_cloud_run_v2_service_iam_member") {
		if r.Text("member") == "allUsers" {
			got[r.Text("name")] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("open to all are %v, want %v", got, want)
	}
	for name, s := range services(t, p) {
		if s.Values["invoker_iam_disabled"] == true {
			t.Errorf("%s is not checked at all", name)
		}
	}
}

// Lines that are counted and alerted about are lines that the program writes.
func TestCountedLinesAreWritten(t *testing.T) {
	t.Parallel()
	written := map[string]bool{}
	for _, room := range []string{"../functions", "../shared"} {
		out, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "--include=*.go", "--exclude=*_test.go", `"[a-z][^"]*"`, room).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(out), "\n") {
			written[strings.Trim(line, `"`)] = true
		}
	}
	metrics := planned(t, "minimal").Of("google_logging_metric")
	if len(metrics) < 5 {
		t.Fatalf("%d metrics", len(metrics))
	}
	for _, m := range metrics {
		_, message, _ := strings.Cut(m.Text("filter"), "jsonPayload.message=")
		quoted := regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(message, -1)
		if len(quoted) == 0 {
			t.Errorf("%s counts no lines: %s", m.Text("name"), m.Text("filter"))
		}
		for _, text := range quoted {
			if !written[text[1]] {
				t.Errorf("%s counts %q, which the program does not write", m.Text("name"), text[1])
			}
		}
	}
	attributes := map[string]bool{}
	for name := range written {
		attributes[name] = true
	}
	for _, m := range metrics {
		extractors, _ := m.Values["label_extractors"].(map[string]any)
		for label, from := range extractors {
			if from != "EXTRACT(jsonPayload."+label+")" || !attributes[label] {
				t.Errorf("%s takes %s from %v, which the program does not write", m.Text("name"), label, from)
			}
		}
	}
	for _, code := range regexp.MustCompile(`labels\.code=\\"([a-z_]+)`).FindAllStringSubmatch(mustRead(t, "observability.tf"), -1) {
		if !written[code[1]] {
			t.Errorf("an alert looks for the code %q, which no setup ends with", code[1])
		}
	}
}

func mustRead(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Every alert leads to a section of the playbook.
func TestAlertsLeadToThePlaybook(t *testing.T) {
	t.Parallel()
	sections := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(mustRead(t, "README.md"), -1) {
		slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading[1]), "") // as GitHub makes it
		sections[strings.ReplaceAll(slug, " ", "-")] = true
	}
	source := mustRead(t, "observability.tf") // who is told is not known to a plan
	if made, told := strings.Count(source, `resource "google_monitoring_alert_policy"`), strings.Count(source, "notification_channels = local.channels\n"); made != told {
		t.Errorf("%d of %d kinds of alerts tell the channels", told, made)
	}
	policies := planned(t, "production").Of("google_monitoring_alert_policy")
	if len(policies) < 8 {
		t.Errorf("%d alerts", len(policies))
	}
	for _, r := range policies {
		_, anchor, ok := strings.Cut(r.Text("documentation", "content"), "terraform/README.md#")
		if !ok || !sections[anchor] {
			t.Errorf("%s leads to #%s, which the playbook does not have", r.Text("display_name"), anchor)
		}
		if r.Text("severity") == "" {
			t.Errorf("%s has no severity", r.Text("display_name"))
		}
		if _, words, _ := strings.Cut(r.Text("documentation", "content"), "What to do:"); len(r.Text("documentation", "content"))-len(words) < 60 {
			t.Errorf("%s gives no reason: %s", r.Text("display_name"), r.Text("documentation", "content"))
		}
		threshold, _ := deployment.Dig(r.Values, "conditions", "condition_threshold", "threshold_value").(float64)
		if ratio := r.Text("conditions", "condition_threshold", "denominator_filter") != ""; ratio && (threshold <= 0 || threshold > 0.5) {
			t.Errorf("%s alarms at a ratio of %v", r.Text("display_name"), threshold)
		}
	}
}

// The README says which variables there are, and the module has no others.
func TestVariablesAreDescribed(t *testing.T) {
	t.Parallel()
	readme := mustRead(t, "README.md")
	source := mustRead(t, "variables.tf")
	for _, m := range regexp.MustCompile(`(?m)^variable "([a-z_]+)" \{\n  description`).FindAllStringSubmatch(source, -1) {
		if !strings.Contains(readme, "`"+m[1]+"`") {
			t.Errorf("README.md does not say what %s is for", m[1])
		}
	}
	if all, described := strings.Count(source, "\nvariable "), strings.Count(source, "  description = "); all+1 > described {
		t.Errorf("%d variables have no description", all-described)
	}
}
