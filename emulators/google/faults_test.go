package google

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/serviceusage/v1"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault Fault
		want  []int // codes of five reads of one project, two of another
	}{
		"storm of 429":                      {Fault{Method: "cloudresourcemanager.*", Code: 429, Count: 3}, []int{429, 429, 429, 200, 200, 200, 200}},
		"storm of 503, later":               {Fault{Code: 503, Skip: 1, Count: 2}, []int{200, 503, 503, 200, 200, 200, 200}},
		"one project forbidden":             {Fault{Project: staging, Code: 403}, []int{200, 200, 200, 200, 200, 403, 403}},
		"another method":                    {Fault{Method: "iam.*", Code: 500}, []int{200, 200, 200, 200, 200, 200, 200}},
		"another caller":                    {Fault{Caller: "*@example.org", Code: 500}, []int{200, 200, 200, 200, 200, 200, 200}},
		"this caller":                       {Fault{Caller: "demo@*", Code: 500, Count: 1}, []int{500, 200, 200, 200, 200, 200, 200}},
		"one text":                          {Fault{Text: "staging", Code: 412}, []int{200, 200, 200, 200, 200, 412, 412}},
		"connection reset":                  {Fault{Reset: true, Skip: 5, Count: 1}, []int{200, 200, 200, 200, 200, 0, 200}},
		"an answer that is cut":             {Fault{Truncate: true, Skip: 5, Count: 1}, []int{200, 200, 200, 200, 200, cut, 200}},
		"never, with almost no probability": {Fault{Code: 500, Probability: 1e-9}, []int{200, 200, 200, 200, 200, 200, 200}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *Scenario) { s.Faults = []Fault{test.fault} })
			token := must(r.MintToken(demo))(t)
			var got []int
			for _, project := range []string{shop, shop, shop, shop, shop, staging, staging} {
				got = append(got, r.status(t, project, token))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("codes (-want +got):\n%s", diff)
			}
		})
	}
}

// status reads a project and returns the code, 0 for no answer. It uses a
// POST, which the transport does not repeat by itself.
func (r *rig) status(t *testing.T, project, token string) int {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), "POST", r.base+"/cloudresourcemanager/v1/projects/"+project+":getIamPolicy", strings.NewReader("{}")))(t)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return cut
	}
	return resp.StatusCode
}

// cut stands for an answer that broke off.
const cut = -1

func TestACallThatHangsEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Faults = []Fault{{Hang: true, AfterEffect: true, Method: "iam.serviceAccounts.create", Count: 1}}
	})
	token := must(r.MintToken(demo))(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req := must(http.NewRequestWithContext(ctx, "POST", r.base+"/iam/v1/projects/"+shop+"/serviceAccounts", strings.NewReader(`{"accountId": "connect-agent"}`)))(t)
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, err := r.http.Do(req); err == nil {
		resp.Body.Close()
		t.Fatalf("a call that hangs answered %d", resp.StatusCode)
	}
	_, err := r.as(demo).create(shop, "connect-agent") // the effect took place
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
	if calls := r.Calls(); calls[0].Status != statusGone || !calls[0].Fault {
		t.Errorf("the call is recorded as %+v", calls[0])
	}
}

func TestAnswerLostAfterEffect(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Faults = []Fault{{Method: "iam.serviceAccounts.create", Code: 503, AfterEffect: true, Count: 1, RetryAfter: Duration(2 * time.Second)}}
	})
	_, err := r.as(demo).create(shop, "connect-agent")
	mustRefuse(t, err, refusal{503, "UNAVAILABLE", "", "The service is currently unavailable."})
	_, err = r.as(demo).create(shop, "connect-agent")
	mustRefuse(t, err, refusal{Code: 409, Status: "ALREADY_EXISTS"})
}

func TestFaultOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Faults = []Fault{{Method: "oauth.token", OAuthError: "invalid_grant", OAuthSubtype: "invalid_rapt"}}
	})
	status, body := r.post(t, "/token", nil)
	if status != 400 || body["error"] != "invalid_grant" || body["error_subtype"] != "invalid_rapt" {
		t.Errorf("answers %d %v", status, body)
	}
}

func TestFaultsAreChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, f := range map[string]Fault{
		"does nothing": {Method: "iam.*"}, "matches nothing": {Method: "iam.nothing", Code: 500}, "no error": {Code: 200}, "no probability": {Code: 500, Probability: 2},
	} {
		if err := r.AddFault(f); err == nil {
			t.Errorf("a fault that %s is accepted", name)
		}
	}
}

func TestLatencyIsWaitedOutsideTheLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scenario := DefaultScenario()
		r := serveRig(t, Options{Scenario: scenario}, nil)
		token := must(r.MintToken(demo))(t)
		started := time.Now()
		codes := make(chan int)
		for range 10 {
			go func() { codes <- r.status(t, shop, token) }()
		}
		for range 10 {
			if code := <-codes; code != 200 {
				t.Errorf("answers %d", code)
			}
		}
		if took := time.Since(started); took != 80*time.Millisecond {
			t.Errorf("ten reads at once took %v, want 80ms", took)
		}
	})
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	must(user.v1.Projects.List().Do())(t)
	must(user.v3.Projects.Get("projects/210448675301").Do())(t)
	must(user.usage.Services.Enable("projects/"+shop+"/services/run.googleapis.com", &serviceusage.EnableServiceRequest{}).Do())(t)
	user.v1.Projects.Get("no-such-project").Do()
	r.login(t, Answer{})
	want := Counts{
		Total: 5, Writes: 1, Errors: 1,
		ByMethod: map[string]int{
			"cloudresourcemanager.projects.list": 1, "cloudresourcemanager.projects.get": 2, "serviceusage.services.enable": 1, "oauth.token": 1,
		},
		ByProject: map[string]int{shop: 2, "no-such-project": 1},
	}
	if diff := cmp.Diff(want, r.CallCounts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	last := r.Calls()[4]
	if last.Caller != demo || last.Status != 200 {
		t.Errorf("the exchange is recorded as %+v", last)
	}
	r.ClearCalls()
	if got := r.CallCounts().Total; got != 0 {
		t.Errorf("%d calls after clearing", got)
	}
}

func TestUnknownPathsAndVerbs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, want := range map[string]int{"/": 404, "/iam/v1/projects/p/serviceAccounts/a/keys": 404, "/token": 405, "/cloudresourcemanager/v1/projects/p:getIamPolicy": 405} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if w.Code != want {
			t.Errorf("GET %s: %d, want %d", path, w.Code, want)
		}
	}
}

// TestErrorBodies holds two errors against their recordings, to the byte but
// for order: one API has errors[], the other has not.
func TestErrorBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := must(r.MintToken(demo))(t)
	for _, test := range []struct{ verb, path, body, want string }{
		{"POST", "/iam/v1/projects/" + shop + "/serviceAccounts", `{"accountId": "checkout"}`,
			`{"error": {"code": 409, "message": "Service account ID already exists within project projects/shop-production.", "status": "ALREADY_EXISTS",
			"errors": [{"message": "Service account ID already exists within project projects/shop-production.", "domain": "global", "reason": "alreadyExists"}],
			"details": [{"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceName": "projects/shop-production/serviceAccounts/checkout@shop-production.iam.gserviceaccount.com", "resourceType": ""}]}}`},
		{"GET", "/orgpolicy/v2/" + shopDomains, "",
			`{"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}`},
	} {
		_, got := r.raw(t, test.verb, test.path, token, test.body)
		var want, have any
		if err := errors.Join(json.Unmarshal([]byte(test.want), &want), json.Unmarshal([]byte(got), &have)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.path, diff)
		}
	}
}

func TestTimingChangesForWhatComesNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.SetLatencies(Latencies{Read: Duration(3 * time.Second)})
	r.SetPropagation(Propagation{GrantDelays: GrantDelays{Project: seconds60()}})
	before := r.clock.Now()
	must(r.as(demo).v1.Projects.Get(shop).Do())(t)
	if took := r.clock.Now().Sub(before); took != 3*time.Second {
		t.Errorf("a read takes %v", took)
	}
	grantRole(t, r.as(demo), shop, "roles/browser", "serviceAccount:"+runner)
	_, err := r.as(runner).v1.Projects.Get(shop).Do()
	mustRefuse(t, err, denied)
	r.Reset()
	if got := r.Scenario().Latencies; got != (Latencies{}) {
		t.Errorf("after a reset: %+v", got)
	}
}
