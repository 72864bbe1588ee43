package google

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// What only a real Google, or an unusual one, answers. The usual is tested
// over the wire.

func TestProjectsGoesThroughAllPages(t *testing.T) {
	t.Parallel()
	send, requests := answers(
		answering(200, `{"projects":[{"name":"projects/1","projectId":"a","displayName":"A","state":"ACTIVE","parent":"folders/7"}],"nextPageToken":"x"}`),
		answering(200, `{"nextPageToken":"y"}`), // short pages are normal, empty ones too
		answering(200, `{"projects":[{"name":"projects/2","projectId":"b","state":"DELETE_REQUESTED"}]}`),
	)
	got, err := as(t, send, nil).Projects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []setup.CloudProject{{ID: "a", Number: "1", Name: "A", State: "ACTIVE"}, {ID: "b", Number: "2", State: "DELETE_REQUESTED"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("projects (-want +got):\n%s", diff)
	}
	var pages []string
	for _, r := range *requests {
		pages = append(pages, r.URL.Query().Get("pageToken")+"/"+r.URL.Query().Get("pageSize"))
	}
	if diff := cmp.Diff([]string{"/500", "x/500", "y/500"}, pages); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

func TestProjectsEndsWhereTokensGoInCircles(t *testing.T) {
	t.Parallel()
	send, requests := answers(answering(200, `{"nextPageToken":"x"}`), answering(200, `{"nextPageToken":"y"}`), answering(200, `{"nextPageToken":"x"}`))
	if _, err := as(t, send, nil).Projects(t.Context()); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("got %v", err)
	}
	if len(*requests) != 3 {
		t.Errorf("asked for %d pages, want 3", len(*requests))
	}
}

func TestDisabledAPIs(t *testing.T) {
	t.Parallel()
	send, requests := answers(answering(200, `{"services":[
		{"name":"projects/348812907714/services/run.googleapis.com","state":"ENABLED","parent":"projects/348812907714"},
		{"name":"projects/348812907714/services/compute.googleapis.com","state":"DISABLED"}]}`))
	got, err := as(t, send, nil).DisabledAPIs(t.Context(), "p", []string{"sqladmin.googleapis.com", "run.googleapis.com", "compute.googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sqladmin.googleapis.com", "compute.googleapis.com"}, got); diff != "" {
		t.Errorf("disabled (-want +got):\n%s", diff)
	}
	names := url.Values{"names": {"projects/p/services/sqladmin.googleapis.com", "projects/p/services/run.googleapis.com", "projects/p/services/compute.googleapis.com"}}
	if diff := cmp.Diff(names["names"], (*requests)[0].URL.Query()["names"]); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestEnableAPIs(t *testing.T) {
	t.Parallel()
	two := []string{"run.googleapis.com", "compute.googleapis.com"}
	tests := []struct {
		name    string
		apis    []string
		answer  string
		want    string
		code    connect.Code
		message string
		path    string
	}{
		{"none", nil, ``, "", "", "", ""},
		{"one is not a batch", two[:1], `{"name":"operations/acf.p2-1-a"}`, "operations/acf.p2-1-a", "", "", "/serviceusage/v1/projects/p/services/run.googleapis.com:enable"},
		{"two are", two, `{"name":"operations/acat.p2-1-a"}`, "operations/acat.p2-1-a", "", "", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"all were enabled", two, `{"name":"operations/noop.DONE_OPERATION","done":true,"response":{"services":[]}}`, "", "", "", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"all were enabled, which is not to be polled", two, `{"name":"operations/noop.DONE_OPERATION"}`, "", "", "", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"it is done at once", two, `{"name":"operations/x","done":true,"response":{"services":[]}}`, "", "", "", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"it has failed at once", two, `{"name":"operations/x","done":true,"response":{"failures":[{"serviceId":"run.googleapis.com","errorMessage":"Not allowed"},{"serviceId":"compute.googleapis.com"}]}}`, "", connect.Precondition, "compute.googleapis.com (Google gave no reason.), run.googleapis.com (Not allowed.)", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"it is an error at once", two, `{"name":"operations/x","done":true,"error":{"code":9,"message":"Billing is off"}}`, "", connect.Precondition, "Billing is off.", "/serviceusage/v1/projects/p/services:batchEnable"},
		{"it has no name", two, `{}`, "", connect.Unavailable, "Google's answer names no operation.", "/serviceusage/v1/projects/p/services:batchEnable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			send, requests := answers(answering(200, test.answer))
			got, err := as(t, send, nil).EnableAPIs(t.Context(), "p", test.apis)
			if got != test.want || connect.CodeOf(err) != test.code {
				t.Errorf("got %q, %v; want %q, %q", got, err, test.want, test.code)
			}
			if test.code != "" && connect.MessageOf(err) != test.message {
				t.Errorf("says %q, want %q", connect.MessageOf(err), test.message)
			}
			var path string
			if len(*requests) > 0 {
				path = (*requests)[0].URL.Path
			}
			if path != test.path {
				t.Errorf("asked %q, want %q", path, test.path)
			}
		})
	}
}

func TestOperation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		want         setup.Operation
	}{
		{"under way", `{"name":"operations/x"}`, setup.Operation{}},
		{"done", `{"name":"operations/x","metadata":{"@type":"type.googleapis.com/google.api.serviceusage.v1.OperationMetadata"},"done":true,"response":{"@type":"type.googleapis.com/google.api.serviceusage.v1.BatchEnableServicesResponse","services":[{"name":"projects/1/services/x","state":"ENABLED"}]}}`, setup.Operation{Done: true}},
		{"failed in part", `{"done":true,"response":{"failures":[{"serviceId":"x.googleapis.com","errorMessage":"No. See https://console.cloud.google.com/x for more."}]}}`, setup.Operation{Done: true, Failed: map[string]string{"x.googleapis.com": "No."}}},
		{"failed", `{"done":true,"error":{"code":7,"message":"Permission denied"}}`, setup.Operation{Done: true, Message: "Permission denied."}},
		{"failed without a word", `{"done":true,"error":{"code":13}}`, setup.Operation{Done: true, Message: "The operation failed with code 13."}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			send, requests := answers(answering(200, test.answer))
			got, err := as(t, send, nil).Operation(t.Context(), "p", "operations/acat.p2-1-a")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("operation (-want +got):\n%s", diff)
			}
			if path := (*requests)[0].URL.Path; path != "/serviceusage/v1/operations/acat.p2-1-a" {
				t.Errorf("asked %q", path)
			}
		})
	}
}

// TestPoliciesAreWrittenAsTheyWereRead: version 3, etag, conditions, and what
// else stands in bindings that nobody touched.
func TestPoliciesAreWrittenAsTheyWereRead(t *testing.T) {
	t.Parallel()
	const bindings = `[{"role":"roles/owner","members":["user:a@example.com","deleted:user:b@example.com?uid=1"]},` +
		`{"role":"roles/run.admin","members":["group:g@example.com"],"condition":{"title":"t","description":"d","expression":"request.time < timestamp(\"2030-01-01T00:00:00Z\")","location":"l"}}]`
	const policy = `{"version":3,"etag":"BwYAAAAAAAA=","bindings":` + bindings + `}`
	tests := map[string]func(setup.Cloud) error{
		"of a project": func(c setup.Cloud) error {
			p, err := c.Policy(t.Context(), "p")
			if err != nil {
				return err
			}
			return c.SetPolicy(t.Context(), "p", p)
		},
		"of an account": func(c setup.Cloud) error {
			p, err := c.AccountPolicy(t.Context(), "p", "a@p.iam.gserviceaccount.com")
			if err != nil {
				return err
			}
			return c.SetAccountPolicy(t.Context(), "p", "a@p.iam.gserviceaccount.com", p)
		},
	}
	for name, readAndWrite := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bodies []string
			var queries []url.Values
			send := roundTrip(func(r *http.Request) (*http.Response, error) {
				var body []byte
				if r.Body != nil {
					body, _ = io.ReadAll(r.Body)
				}
				bodies, queries = append(bodies, string(body)), append(queries, r.URL.Query())
				return reply(200, policy)
			})
			if err := readAndWrite(as(t, send, nil)); err != nil {
				t.Fatal(err)
			}
			if asked := bodies[0] + queries[0].Encode(); !strings.Contains(asked, `requestedPolicyVersion":3`) && !strings.Contains(asked, "requestedPolicyVersion=3") {
				t.Errorf("asked for %s", asked)
			}
			var want, got any
			if err := json.Unmarshal([]byte(`{"policy":`+policy+`}`), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(bodies[1]), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("wrote (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPoliciesAreNotWrittenBlindly(t *testing.T) {
	t.Parallel()
	send, requests := answers(answering(200, `{}`))
	cloud := as(t, send, nil)
	blind := &setup.Policy{Bindings: []setup.Binding{{Role: "roles/viewer", Members: []string{"user:a@example.com"}}}}
	for _, err := range []error{cloud.SetPolicy(t.Context(), "p", blind), cloud.SetAccountPolicy(t.Context(), "p", "a", blind)} {
		if connect.CodeOf(err) != connect.Internal {
			t.Errorf("got %v", err)
		}
	}
	if len(*requests) > 0 {
		t.Error("Google was asked")
	}
}

func TestEffectivelyAllowsAll(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		code int
		body string
		want bool
		err  connect.Code
	}{
		{"a rule that allows all", 200, `{"spec":{"rules":[{"allowAll":true}]}}`, true, ""},
		{"values", 200, `{"spec":{"rules":[{"values":{"allowedValues":["is:C03demo42"]}}]}}`, false, ""},
		{"none", 200, `{"spec":{"rules":[{"denyAll":true}]}}`, false, ""},
		{"all, and values of another level that are denied", 200, `{"spec":{"rules":[{"allowAll":true},{"values":{"deniedValues":["is:C1"]}}]}}`, false, ""},
		{"no rule", 200, `{"spec":{}}`, true, ""},
		{"no spec", 200, `{}`, true, ""},
		{"a constraint that does not apply", 404, `{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}`, true, ""},
		{"a user who may not know", 403, refused, false, connect.Forbidden},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			send, _ := answers(answering(test.code, test.body))
			got, err := as(t, send, nil).EffectivelyAllowsAll(t.Context(), "p", "iam.allowedPolicyMemberDomains")
			if got != test.want || connect.CodeOf(err) != test.err {
				t.Errorf("got %v, %v; want %v, %q", got, err, test.want, test.err)
			}
		})
	}
}

func TestOrgPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       setup.OrgPolicy
	}{
		{"values", `{"etag":"outer","spec":{"etag":"inner","rules":[{"values":{"allowedValues":["is:C03demo42"]}}]}}`, setup.OrgPolicy{Etag: "inner", Spec: `{"etag":"inner","rules":[{"values":{"allowedValues":["is:C03demo42"]}}]}`}},
		{"all", `{"etag":"outer","spec":{"rules":[{"allowAll":true}]}}`, setup.OrgPolicy{Etag: "outer", Spec: `{"rules":[{"allowAll":true}]}`, AllowsAll: true}},
		{"all, under a condition", `{"etag":"e","spec":{"rules":[{"allowAll":true,"condition":{"expression":"x"}}]}}`, setup.OrgPolicy{Etag: "e", Spec: `{"rules":[{"allowAll":true,"condition":{"expression":"x"}}]}`}},
		{"all, and what the parents say", `{"etag":"e","spec":{"inheritFromParent":true,"rules":[{"allowAll":true}]}}`, setup.OrgPolicy{Etag: "e", Spec: `{"inheritFromParent":true,"rules":[{"allowAll":true}]}`}},
		{"the constraint's default", `{"etag":"e","spec":{"reset":true}}`, setup.OrgPolicy{Etag: "e", Spec: `{"reset":true}`}},
		{"a dry run alone", `{"etag":"e","dryRunSpec":{"rules":[{"allowAll":true}]}}`, setup.OrgPolicy{Etag: "e", Spec: `null`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			send, _ := answers(answering(200, test.body))
			got, err := as(t, send, nil).OrgPolicy(t.Context(), "p", "c")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllowAll(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, etag, want string }{
		{"where there is no policy", "", `POST /orgpolicy/v2/projects/p/policies {"name":"projects/p/policies/c","spec":{"rules":[{"allowAll":true}]}}`},
		{"in place of a policy", "abc=", `PATCH /orgpolicy/v2/projects/p/policies/c?updateMask=policy.spec {"name":"projects/p/policies/c","spec":{"etag":"abc=","rules":[{"allowAll":true}]}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got string
			send := roundTrip(func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				query := r.URL.Query()
				query.Del("alt")
				query.Del("prettyPrint")
				got = r.Method + " " + r.URL.Path
				if len(query) > 0 {
					got += "?" + query.Encode()
				}
				got += " " + strings.TrimSpace(string(body))
				return reply(200, `{}`)
			})
			if err := as(t, send, nil).AllowAll(t.Context(), "p", "c", test.etag); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImpersonateWantsATokenInTheAnswer(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `{"accessToken":"ya29.c.x"}`, `{"expireTime":"2026-03-01T13:00:00Z"}`, `{"accessToken":"ya29.c.x","expireTime":"soon"}`} {
		send, _ := answers(answering(200, body))
		token, err := as(t, send, nil).Impersonate(t.Context(), "a@p.iam.gserviceaccount.com")
		if connect.CodeOf(err) != connect.Unavailable || token != (connect.AccessToken{}) {
			t.Errorf("%s: %v", body, err)
		}
		if err != nil && strings.Contains(err.Error(), "ya29") {
			t.Errorf("the error holds the token: %v", err)
		}
	}
}

func TestAnswersThatCannotBeReadAreUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		send, _ := answers(answering(200, `{"email":`))
		_, err := as(t, send, nil).Account(t.Context(), "p", "a")
		if connect.CodeOf(err) != connect.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

func TestSearchResourcesNormalizes(t *testing.T) {
	t.Parallel()
	send, requests := answers(answering(200, `{"nextPageToken":"next","results":[
		{"name":"//container.googleapis.com/projects/p/zones/us-east1-b/clusters/tools","assetType":"container.googleapis.com/Cluster","displayName":"tools","location":"us-east1-b","state":"RUNNING","labels":{"team":"x"},"createTime":"2023-08-08T08:08:08Z","additionalAttributes":{"endpoint":"10.0.0.1","network":"projects/p/global/networks/default"}},
		{"name":"//quantum.googleapis.com/projects/p/processors/w","assetType":"quantum.googleapis.com/Processor","createTime":"unknown"}]}`))
	got, next, err := as(t, send, nil).SearchResources(t.Context(), "p", "here")
	if err != nil {
		t.Fatal(err)
	}
	want := []connect.Resource{
		{
			ID: "//container.googleapis.com/projects/p/zones/us-east1-b/clusters/tools", Type: "gke_cluster", AssetType: "container.googleapis.com/Cluster", Name: "tools",
			ProjectID: "p", Region: "us-east1", Zone: "us-east1-b", Labels: map[string]string{"team": "x"}, State: "RUNNING", Endpoint: "10.0.0.1", Network: "default",
			CreatedAt: time.Date(2023, 8, 8, 8, 8, 8, 0, time.UTC), Version: connect.SchemaVersion,
		},
		{ID: "//quantum.googleapis.com/projects/p/processors/w", Type: "quantum.googleapis.com/Processor", AssetType: "quantum.googleapis.com/Processor", Name: "w", ProjectID: "p", Version: connect.SchemaVersion},
	}
	if diff := cmp.Diff(want, got); diff != "" || next != "next" {
		t.Errorf("resources, next %q (-want +got):\n%s", next, diff)
	}
	q := (*requests)[0].URL.Query()
	if (*requests)[0].URL.Path != "/cloudasset/v1/projects/p:searchAllResources" || q.Get("pageSize") != "500" || q.Get("pageToken") != "here" || !strings.Contains(q.Get("readMask"), "additionalAttributes") {
		t.Errorf("asked %s", (*requests)[0].URL)
	}
}

func TestEndpointsUnderABase(t *testing.T) {
	t.Parallel()
	want := Endpoints{
		CloudResourceManager: "http://h/g/cloudresourcemanager/", CloudBilling: "http://h/g/cloudbilling/", ServiceUsage: "http://h/g/serviceusage/",
		IAM: "http://h/g/iam/", IAMCredentials: "http://h/g/iamcredentials/", OrgPolicy: "http://h/g/orgpolicy/", CloudAsset: "http://h/g/cloudasset/",
	}
	for _, base := range []string{"http://h/g", "http://h/g/"} {
		if diff := cmp.Diff(want, EndpointsUnder(base)); diff != "" {
			t.Errorf("under %s (-want +got):\n%s", base, diff)
		}
	}
}
