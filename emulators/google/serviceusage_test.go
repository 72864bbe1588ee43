package google

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/serviceusage/v1"
)

func full(services ...string) []string {
	for i := range services {
		services[i] += ".googleapis.com"
	}
	return services
}

func (v *view) batch(project string, services ...string) (*serviceusage.Operation, error) {
	return v.usage.Services.BatchEnable("projects/"+project, &serviceusage.BatchEnableServicesRequest{ServiceIds: full(services...)}).Do()
}

func (v *view) state(t *testing.T, project, service string) string {
	t.Helper()
	return must(v.usage.Services.Get("projects/" + project + "/services/" + service + ".googleapis.com").Do())(t).State
}

// Fact (Service Usage): batchEnable is atomic and long-running, with names
// that are opaque and failures[] in part.
func TestBatchEnable(t *testing.T) {
	t.Parallel()
	fails := func(f ServiceFailure) func(*Scenario) {
		return func(s *Scenario) {
			f.Service = "run.googleapis.com"
			s.Projects[1].ServiceFailures = []ServiceFailure{f}
		}
	}
	tests := map[string]struct {
		project  string
		services []string
		change   func(*Scenario)
		want     refusal
		failed   []string // failures[] of the operation
		opCode   int64    // error of the operation
	}{
		"succeeds":                 {project: shop, services: []string{"run", "pubsub"}},
		"refuses one":              {project: shop, services: []string{"run"}, want: refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"refuses none":             {project: shop, want: refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"refuses 21":               {project: shop, services: strings.Fields(strings.Repeat("run ", 21)), want: refusal{Code: 400, Status: "INVALID_ARGUMENT"}},
		"fails for one unknown":    {project: shop, services: []string{"run", "nonsense"}, want: refusal{403, "PERMISSION_DENIED", "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "Not found or permission denied for service(s): nonsense.googleapis.com."}},
		"fails without billing":    {project: unpaid, services: []string{"run", "pubsub"}, want: refusal{Code: 400, Status: "FAILED_PRECONDITION", Reason: "UREQ_PROJECT_BILLING_NOT_FOUND"}},
		"fails for one refused":    {project: shop, services: []string{"run", "pubsub"}, change: fails(ServiceFailure{}), want: refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "AUTH_PERMISSION_DENIED"}},
		"lists what failed within": {project: shop, services: []string{"run", "pubsub"}, change: fails(ServiceFailure{At: "failures", Message: "no"}), failed: []string{"run.googleapis.com: no"}},
		"ends in an error":         {project: shop, services: []string{"run", "pubsub"}, change: fails(ServiceFailure{At: "operation", Code: 500}), opCode: 13},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) {
				s.Latencies.Operation = Duration(15 * time.Second)
				if test.change != nil {
					test.change(s)
				}
			})
			user := r.as(demo)
			before := r.Snapshot()
			op, err := user.batch(test.project, test.services...)
			mustRefuse(t, err, test.want)
			if err != nil {
				if diff := cmp.Diff(before.Projects, r.Snapshot().Projects); diff != "" {
					t.Errorf("a refused call changed something:\n%s", diff)
				}
				return
			}
			if !regexp.MustCompile(`^operations/acat\.p2-210448675301-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(op.Name) {
				t.Errorf("operation is named %q", op.Name)
			}
			r.clock.Advance(15*time.Second - 1)
			if op = must(user.usage.Operations.Get(op.Name).Do())(t); op.Done || user.state(t, shop, "run") != "DISABLED" {
				t.Error("done too early")
			}
			r.clock.Advance(1)
			op = must(user.usage.Operations.Get(op.Name).Do())(t)
			if !op.Done {
				t.Fatal("not done")
			}
			if test.opCode != 0 {
				if op.Error == nil || op.Error.Code != test.opCode || user.state(t, shop, "pubsub") != "DISABLED" {
					t.Errorf("error %+v", op.Error)
				}
				return
			}
			var response serviceusage.BatchEnableServicesResponse
			if err := json.Unmarshal(op.Response, &response); err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, f := range response.Failures {
				failed = append(failed, f.ServiceId+": "+f.ErrorMessage)
			}
			if diff := cmp.Diff(test.failed, failed); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
			last := response.Services[len(response.Services)-1]
			want := &serviceusage.GoogleApiServiceusageV1Service{Name: "projects/210448675301/services/pubsub.googleapis.com", Parent: "projects/210448675301", State: "ENABLED"}
			if diff := cmp.Diff(want, last); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
			again := must(user.batch(shop, "pubsub", "logging"))(t)
			if again.Name != "operations/noop.DONE_OPERATION" || !again.Done || len(again.Response) == 0 {
				t.Errorf("all enabled: %+v", again)
			}
		})
	}
}

// Fact (Service Usage): batchGet takes up to 30 names; a DISABLED service is
// its name and state, an ENABLED one has a parent too, and names carry the
// project's number.
func TestServiceStates(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	parent := "projects/" + shop
	got := must(user.usage.Services.BatchGet(parent).Names(parent+"/services/run.googleapis.com", parent+"/services/compute.googleapis.com").Do())(t)
	want := []*serviceusage.GoogleApiServiceusageV1Service{
		{Name: "projects/210448675301/services/run.googleapis.com", State: "DISABLED"},
		{Name: "projects/210448675301/services/compute.googleapis.com", Parent: "projects/210448675301", State: "ENABLED"},
	}
	if diff := cmp.Diff(want, got.Services); diff != "" {
		t.Errorf("batchGet (-want +got):\n%s", diff)
	}
	names := make([]string, 31)
	for i := range names {
		names[i] = parent + "/services/run.googleapis.com"
	}
	_, err := user.usage.Services.BatchGet(parent).Names(names...).Do()
	mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})

	enabled := 0
	err = user.usage.Services.List(parent).Filter("state:ENABLED").PageSize(4).Pages(t.Context(), func(page *serviceusage.ListServicesResponse) error {
		enabled += len(page.Services)
		return nil
	})
	if err != nil || enabled != 11 {
		t.Errorf("lists %d enabled services, %v; want 11", enabled, err)
	}
	must(user.usage.Services.Disable(parent+"/services/compute.googleapis.com", &serviceusage.DisableServiceRequest{}).Do())(t)
	if state := user.state(t, shop, "compute"); state != "DISABLED" {
		t.Errorf("after disabling: %s", state)
	}
}

// Fact (Service Usage): "another activation is in progress" is answered with
// 400 and can be retried.
func TestOneOperationAtATime(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.ExclusiveOperations = true; s.Latencies.Operation = Duration(time.Second) })
	user := r.as(demo)
	must(user.batch(shop, "run", "pubsub"))(t)
	_, err := user.batch(shop, "dns", "redis")
	mustRefuse(t, err, refusal{400, "FAILED_PRECONDITION", "", "Another activation or deactivation is in progress"})
	r.clock.Advance(time.Second)
	must(user.batch(shop, "dns", "redis"))(t)
}

func TestOperationsOfOthersAreHidden(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := must(r.as(demo).batch(shop, "run", "pubsub"))(t)
	_, err := r.as(runner).usage.Operations.Get(op.Name).Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "AUTH_PERMISSION_DENIED"})
	_, err = r.as(demo).usage.Operations.Get("operations/acat.p2-1-nothing").Do()
	mustRefuse(t, err, refusal{Code: 403, Status: "PERMISSION_DENIED", Reason: "AUTH_PERMISSION_DENIED"})
}

// Fact (Service Usage): quota is counted by minute and consumer project, and
// batchEnable as five writes.
func TestQuotasFallOnTheConsumerProject(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Quotas = true })
	user := r.as(demo)
	pairs := func(n int) (string, string) { return catalogNames()[2*n], catalogNames()[2*n+1] }
	for n := range 12 {
		a, b := pairs(n)
		if _, err := user.usage.Services.BatchEnable("projects/"+shop, &serviceusage.BatchEnableServicesRequest{ServiceIds: []string{a, b}}).Do(); err != nil {
			t.Fatalf("batch %d: %v", n, err)
		}
	}
	_, err := user.batch(staging, "run", "pubsub")
	mustRefuse(t, err, refusal{Code: 429, Status: "RESOURCE_EXHAUSTED", Reason: "RATE_LIMIT_EXCEEDED"})
	must(r.as(demo, staging).batch(staging, "run", "pubsub"))(t)
	r.clock.Advance(time.Minute)
	must(user.batch(staging, "run", "dns"))(t)
}

// Fact (Service Usage, Resource Manager, Cloud Asset): calls a minute and
// consumer project, and an organization's searches for assets.
func TestQuotasAreThosePublished(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		verb, path, body string
		calls            int
	}{
		"services: reads":              {"GET", "/serviceusage/v1/projects/P/services/run.googleapis.com", "", 240},
		"services: writes":             {"POST", "/serviceusage/v1/projects/P/services/run.googleapis.com:enable", "{}", 60},
		"services: batchEnable is 5":   {"POST", "/serviceusage/v1/projects/P/services:batchEnable", `{"serviceIds":["run.googleapis.com","dns.googleapis.com"]}`, 12},
		"projects: search":             {"GET", "/cloudresourcemanager/v3/projects:search", "", 240},
		"projects: list":               {"GET", "/cloudresourcemanager/v1/projects", "", 240},
		"projects: reads":              {"GET", "/cloudresourcemanager/v1/projects/P", "", 600},
		"projects: writes":             {"POST", "/cloudresourcemanager/v1/projects/P:setIamPolicy", `{"policy":{"bindings":[{"role":"roles/owner","members":["user:` + demo + `"]}]}}`, 600},
		"assets: searches of projects": {"GET", "/cloudasset/v1/projects/P:searchAllResources", "", 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) { s.Quotas = true })
			token := must(r.MintToken(demo))(t)
			call := func(project, consumer string) *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				req := httptest.NewRequestWithContext(t.Context(), test.verb, strings.ReplaceAll(test.path, "/P", "/"+project), strings.NewReader(test.body))
				req.Header.Set("Authorization", "Bearer "+token)
				if consumer != "" {
					req.Header.Set("X-Goog-User-Project", consumer)
				}
				r.ServeHTTP(w, req)
				return w
			}
			for n := range test.calls {
				if w := call(shop, ""); w.Code != http.StatusOK {
					t.Fatalf("call %d: %d %s", n+1, w.Code, w.Body)
				}
			}
			// The platform's minute is used up, in whatever project.
			for _, project := range []string{shop, staging} {
				if w := call(project, ""); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), `"consumer": "projects/401827365910"`) {
					t.Errorf("one more in %s: %d %s", project, w.Code, w.Body)
				}
			}
			if !strings.Contains(test.path, "cloudasset") { // not enabled there
				if w := call(shop, shop); w.Code != http.StatusOK {
					t.Errorf("at the customer's expense: %d %s", w.Code, w.Body)
				}
			}
			r.clock.Advance(time.Minute)
			if w := call(shop, ""); w.Code != http.StatusOK {
				t.Errorf("a minute later: %d %s", w.Code, w.Body)
			}
		})
	}
}

// Fact (Cloud Asset): 1,500 searches a minute and organization, whichever of
// its projects are the consumers.
func TestSearchesForAssetsAreLimitedInTheOrganizationToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyProjects, func(s *Scenario) {
		s.Quotas = true
		s.Generate[0].Count = 5
		s.Generate[0].Project.EnabledAPIs = &[]string{"cloudasset.googleapis.com"}
	})
	token := must(r.MintToken(demo))(t)
	codes := map[int]int{}
	for n := range 1600 { // 320 in each of the five
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("/cloudasset/v1/projects/load-%03d:searchAllResources", n%5+1), nil)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Goog-User-Project", fmt.Sprintf("load-%03d", n%5+1))
		r.ServeHTTP(w, req)
		codes[w.Code]++
	}
	if diff := cmp.Diff(map[int]int{200: 1500, 429: 100}, codes); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// Fact (Service Usage): the response may list failures[] of single services;
// and one that failed is named, so that it can be tried again by itself.
func TestAnOperationThatFailsInPartEnablesTheRest(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Latencies.Operation = Duration(10 * time.Second)
		s.Projects[1].ServiceFailures = []ServiceFailure{{Service: "run.googleapis.com", At: "failures", Message: "try again", Times: 1}}
	})
	user := r.as(demo)
	op := must(user.batch(shop, "run", "pubsub", "dns"))(t)
	r.clock.Advance(10 * time.Second)
	op = must(user.usage.Operations.Get(op.Name).Do())(t)
	got := decoded[serviceusage.BatchEnableServicesResponse](t, op.Response)
	if len(got.Services) != 2 || len(got.Failures) != 1 || got.Failures[0].ServiceId != "run.googleapis.com" || got.Failures[0].ErrorMessage != "try again" {
		t.Errorf("the operation ends with %+v", got)
	}
	states := func() string {
		return strings.Join([]string{user.state(t, shop, "run"), user.state(t, shop, "pubsub"), user.state(t, shop, "dns")}, " ")
	}
	if states() != "DISABLED ENABLED ENABLED" {
		t.Errorf("after the operation: %s", states())
	}
	must(user.usage.Services.Enable("projects/"+shop+"/services/run.googleapis.com", &serviceusage.EnableServiceRequest{}).Do())(t)
	r.clock.Advance(10 * time.Second)
	if states() != "ENABLED ENABLED ENABLED" {
		t.Errorf("after another try: %s", states())
	}
}

func catalogNames() []string { return sortedKeys(catalog) }
