package google

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"syscall"
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

// TestWhatFaultsDoToACall is each way in which a call can go wrong: what its
// caller gets, what stays behind at Google, and what the record says of it. A
// caller must take every one of them for "it may have happened".
func TestWhatFaultsDoToACall(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault    Fault
		want     string // what the caller gets
		created  bool   // what the call asked for is done
		recorded int
	}{
		"delayed":                       {Fault{Delay: Duration(time.Minute)}, "200", true, 200},
		"refused":                       {Fault{Code: 503}, "503", false, 503},
		"refused after a while":         {Fault{Code: 503, Delay: Duration(time.Minute)}, "503", false, 503},
		"refused after its effect":      {Fault{Code: 503, AfterEffect: true}, "503", true, 503},
		"reset":                         {Fault{Reset: true}, "connection reset", false, 0},
		"reset after its effect":        {Fault{Reset: true, AfterEffect: true}, "connection reset", true, 0},
		"hanging":                       {Fault{Hang: true}, "time is up", false, 499},
		"hanging after its effect":      {Fault{Hang: true, AfterEffect: true}, "time is up", true, 499},
		"cut in its answer":             {Fault{Truncate: true}, "half of 200", true, 200},
		"cut in its refusal":            {Fault{Truncate: true, Code: 429}, "half of 429", false, 429},
		"cut in its refusal afterwards": {Fault{Truncate: true, Code: 429, AfterEffect: true}, "half of 429", true, 429},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			server := httptest.NewServer(r.Server) // over TCP, where connections can be reset
			t.Cleanup(server.Close)
			test.fault.Method, test.fault.Count = "iam.serviceAccounts.create", 1
			if err := r.AddFault(test.fault); err != nil {
				t.Fatal(err)
			}
			token, began := must(r.MintToken(demo))(t), r.clock.Now()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.fault.Hang {
				go func() { // once it is known to hang, its caller gives up
					for len(r.Calls()) == 0 && ctx.Err() == nil {
						runtime.Gosched()
					}
					cancel()
				}()
			}
			req := must(http.NewRequestWithContext(ctx, "POST", server.URL+"/iam/v1/projects/"+shop+"/serviceAccounts", strings.NewReader(`{"accountId": "connect-agent"}`)))(t)
			req.Header.Set("Authorization", "Bearer "+token)
			if got := outcome(server.Client().Do(req)); got != test.want {
				t.Errorf("the caller gets %q, want %q", got, test.want)
			}
			project, _ := r.Project(shop)
			created := slices.ContainsFunc(project.ServiceAccounts, func(a AccountSnapshot) bool { return strings.HasPrefix(a.Email, "connect-agent@") })
			if created != test.created {
				t.Errorf("the account is created: %v", created)
			}
			calls := r.Calls()
			if len(calls) != 1 || calls[0].Status != test.recorded || calls[0].Fault != (test.fault.answers() || test.fault.Truncate) {
				t.Errorf("recorded %v", calls)
			}
			if took := r.clock.Now().Sub(began); took != time.Duration(test.fault.Delay) {
				t.Errorf("took %v", took)
			}
		})
	}
}

// outcome names what a caller gets.
func outcome(resp *http.Response, err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "time is up"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case err != nil:
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && int64(len(body)) == resp.ContentLength/2:
		return fmt.Sprintf("half of %d", resp.StatusCode)
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode)
}

func TestProbabilityIsThatOfTheSeed(t *testing.T) {
	t.Parallel()
	strikes := func(seed uint64) string {
		clock := newClock()
		r := serveRig(t, Options{Clock: clock, Seed: seed}, clock)
		if err := r.AddFault(Fault{Code: 503, Probability: 0.3}); err != nil {
			t.Fatal(err)
		}
		token := must(r.MintToken(demo))(t)
		var out strings.Builder
		for range 200 {
			out.WriteByte("0123456789"[r.status(t, shop, token)/100])
		}
		return out.String()
	}
	first := strikes(1)
	if n := strings.Count(first, "5"); n < 40 || n > 80 {
		t.Errorf("strikes %d of 200 calls, want about 60", n)
	}
	if first != strikes(1) || first == strikes(2) {
		t.Error("who is struck must follow from the seed")
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
		"does nothing": {Method: "iam.*"}, "matches nothing": {Method: "iam.nothing", Code: 500}, "is no error": {Code: 200}, "has no probability": {Code: 500, Probability: 2},
		"resets and answers": {Code: 500, Reset: true}, "hangs and resets": {Hang: true, Reset: true}, "cuts nothing": {Truncate: true, Hang: true},
		"loses no answer": {Delay: Duration(time.Second), AfterEffect: true}, "never ends": {Delay: Never},
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
