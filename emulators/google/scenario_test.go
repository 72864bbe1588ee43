package google

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

func TestScenariosAreValidated(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"empty":            {`{}`, ""},
		"not JSON":         {`{`, "unexpected EOF"},
		"text after":       {`{} {}`, "text after its end"},
		"unknown field":    {`{"projects": [{}, {"numbre": "1"}]}`, "scenario: projects[1].numbre: unknown field"},
		"wrong kind":       {`{"users": {}}`, "scenario: users: must be a list"},
		"bad duration":     {`{"latencies": {"read": "80"}}`, `scenario: latencies.read: "80" is not a duration`},
		"negative":         {`{"propagation": {"project": "-1s"}}`, "scenario: propagation.project: \"-1s\" is negative"},
		"number":           {`{"projects": [{"id": "project-1", "number": "x"}]}`, `scenario: projects[0].number: "x" is not a number`},
		"twice":            {`{"projects": [{"id": "project-1", "number": "1"}, {"id": "project-1", "number": "2"}]}`, `scenario: projects[1].id: "project-1" is taken by projects[0].id`},
		"parent":           {`{"projects": [{"id": "project-1", "number": "1", "parent": "folders/9"}]}`, `scenario: projects[0].parent: no organization or earlier folder is named "folders/9"`},
		"role":             {`{"projects": [{"id": "project-1", "number": "1", "bindings": [{"role": "roles/x", "members": ["me"]}]}]}`, `scenario: projects[0].bindings[0].role: "roles/x" is not a known role; declare it under roles`},
		"member":           {`{"projects": [{"id": "project-1", "number": "1", "bindings": [{"role": "roles/x", "members": ["me"]}]}]}`, `scenario: projects[0].bindings[0].members[0]: "me" is not a member`},
		"client's project": {`{"clients": [{"id": "c", "secret": "s", "redirectUris": [], "project": "none-here"}]}`, `scenario: clients[0].project: no project is named "none-here"`},
		"service":          {`{"projects": [{"id": "project-1", "number": "1", "enabledApis": ["x.googleapis.com"]}]}`, `scenario: projects[0].enabledApis[0]: "x.googleapis.com" is not a known service`},
		"constraint":       {`{"organizations": [{"id": "1", "domain": "d.example", "customerId": "C1", "orgPolicies": {"iam.nothing": {}}}]}`, `scenario: organizations[0].orgPolicies.iam.nothing: is not a known constraint`},
		"fault":            {`{"faults": [{"method": "nothing.*", "code": 500}]}`, `scenario: faults[0].method: "nothing.*" matches no method`},
		"generator":        {`{"generate": [{"count": 2, "project": {"id": "project-1", "number": "1"}}]}`, `scenario: generate[0].project: id and number need {n}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseScenario([]byte(test.text))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestDefaultScenarioSurvivesItsOwnFormat(t *testing.T) {
	t.Parallel()
	want := DefaultScenario()
	got, err := ParseScenario(must(json.Marshal(want))(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after writing and reading (-want +got):\n%s", diff)
	}
}

// TestServersNeverMeet: two servers in one process share no state, tokens,
// codes, faults, calls, quotas or keys, nor do they touch the scenario that
// they were made of.
func TestServersNeverMeet(t *testing.T) {
	t.Parallel()
	scenario := DefaultScenario()
	scenario.Latencies, scenario.Quotas = Latencies{}, true
	untouched := scenario.clone()
	rigs := [2]*rig{}
	for i := range rigs {
		clock := newClock()
		rigs[i] = serveRig(t, Options{Scenario: scenario, Clock: clock, Seed: 1}, clock)
	}
	a, b := rigs[0], rigs[1]
	before := b.Snapshot()
	if err := a.SetPolicy(shop, []Binding{{Role: "roles/viewer", Members: []string{"user:" + demo}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.SetRefreshError(demo, "invalid_rapt"); err != nil {
		t.Fatal(err)
	}
	if err := a.AddFault(Fault{Method: "cloudbilling.*", Code: 503}); err != nil {
		t.Fatal(err)
	}
	tokens := a.login(t, Answer{}, oauth2.AccessTypeOffline)
	code := must(a.Authorize(oauthConfig(a).AuthCodeURL("s"), Answer{}))(t).Query().Get("code")
	for range 241 {
		a.as(demo).v1.Projects.List().Do()
	}

	if diff := cmp.Diff(before, b.Snapshot()); diff != "" || len(b.Calls()) != 0 || len(b.Changes()) != 0 {
		t.Errorf("what is done to one server is done to the other, in %d calls:\n%s", len(b.Calls()), diff)
	}
	if diff := cmp.Diff(untouched, scenario); diff != "" {
		t.Errorf("the scenario that they share has changed:\n%s", diff)
	}
	must(b.as(demo).v1.Projects.List().Do())(t)
	must(b.as(demo).billing.Projects.GetBillingInfo("projects/" + shop).Do())(t)
	_, err := b.with(tokens.AccessToken).v1.Projects.List().Do()
	mustRefuse(t, err, refusal{Code: 401, Status: "UNAUTHENTICATED", Reason: "ACCESS_TOKEN_EXPIRED"})
	if got := b.refresh(t, oauthConfig(b), tokens.RefreshToken); got != "invalid_grant" {
		t.Errorf("the other's refresh token: %q", got)
	}
	if _, err := oauthConfig(b).Exchange(context.WithValue(t.Context(), oauth2.HTTPClient, b.http), code); err == nil {
		t.Error("the other's code is exchanged")
	}
	if cmp.Equal(a.keys.all()[0].id, b.keys.all()[0].id) {
		t.Error("both sign with one key")
	}
}

// TestParallelSetupsGiveTheSameEach: servers that are worked in parallel each
// end as they would alone.
func TestParallelSetupsGiveTheSameEach(t *testing.T) {
	t.Parallel()
	results := make(chan []string, 8)
	for range cap(results) {
		clock := newClock()
		r := serveRig(t, Options{Clock: clock, Seed: 3}, clock)
		user := r.as(demo)
		go func() {
			for n := range 5 {
				if _, err := user.create(shop, fmt.Sprintf("account-%d", n)); err != nil {
					t.Error(err)
				}
				if _, err := user.batch(shop, "run", "dns", "pubsub"); err != nil {
					t.Error(err)
				}
			}
			var lines []string
			for _, c := range r.Calls() {
				lines = append(lines, c.String())
			}
			results <- append(lines, r.Changes()...)
		}()
	}
	first := <-results
	for range cap(results) - 1 {
		if diff := cmp.Diff(first, <-results); diff != "" {
			t.Errorf("one run differs from another:\n%s", diff)
		}
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	admin := func(verb, path, body string) (int, map[string]any) {
		t.Helper()
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), verb, path, strings.NewReader(body)))
		out := map[string]any{}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%s %s: %v", verb, path, err)
		}
		return w.Code, out
	}
	ok := func(verb, path, body string) map[string]any {
		t.Helper()
		code, out := admin(verb, path, body)
		if code != http.StatusOK {
			t.Errorf("%s %s: %d %v", verb, path, code, out)
		}
		return out
	}
	ok("GET", "/admin/health", "")
	ok("PUT", "/admin/latencies", `{"latencies": {"read": "1s"}, "propagation": {"project": "never"}}`)
	if l := r.Scenario(); l.Latencies.Read != Duration(time.Second) || *l.Propagation.Project != Never {
		t.Errorf("latencies %+v", l.Latencies)
	}
	ok("PUT", "/admin/latencies", `{"latencies": {"read": "0s"}}`)
	ok("POST", "/admin/faults", `{"method": "cloudbilling.*", "code": 503, "count": 1}`)
	token := ok("POST", "/admin/tokens", `{"email": "`+demo+`"}`)["access_token"].(string)
	if code, _ := r.raw(t, "GET", "/cloudbilling/v1/projects/"+shop+"/billingInfo", token, ""); code != 503 {
		t.Errorf("the fault answers %d", code)
	}
	ok("POST", "/admin/faults", `{"method": "iam.*", "hang": true, "afterEffect": true}`)
	ok("POST", "/admin/faults", `{"method": "iam.*", "truncate": true}`)
	if faults := ok("GET", "/admin/faults", "")["faults"].([]any); len(faults) != 3 {
		t.Errorf("faults %v", faults)
	}
	ok("DELETE", "/admin/faults", "")
	counts := ok("GET", "/admin/calls?detail=true", "")
	if counts["total"] != 1.0 || len(counts["calls"].([]any)) != 1 {
		t.Errorf("calls %v", counts)
	}
	for skip, want := range map[string]int{"0": 1, "1": 0, "99": 0} { // a longer list has the first ones
		counts := ok("GET", "/admin/calls?detail=true&skip="+skip, "")
		if counts["total"] != 1.0 || len(counts["calls"].([]any)) != want {
			t.Errorf("calls but for the first %s: %v", skip, counts)
		}
	}
	ok("DELETE", "/admin/calls", "")
	ok("POST", "/admin/users/"+demo+"/rapt", "")
	if r.Scenario().Users[0].RefreshError != "invalid_rapt" {
		t.Error("rapt has no effect")
	}
	ok("POST", "/admin/users/"+demo+"/restore", "")
	ok("POST", "/admin/users/"+demo+"/revoke", "")
	if len(ok("GET", "/admin/snapshot", "")["projects"].([]any)) != 7 {
		t.Error("the snapshot lacks projects")
	}
	scenario, err := json.Marshal(DefaultScenario())
	if err != nil {
		t.Fatal(err)
	}
	ok("PUT", "/admin/scenario", string(scenario))
	ok("POST", "/admin/reset", "")
	for _, wrong := range []struct {
		verb, path, body string
		want             int
	}{
		{"GET", "/admin/nothing", "", 404}, {"PUT", "/admin/snapshot", "", 405}, {"POST", "/admin/users/x@example.com/revoke", "", 404},
		{"PUT", "/admin/scenario", `{"user": []}`, 400}, {"POST", "/admin/faults", `{"kode": 1}`, 400},
		{"POST", "/admin/faults", `{"hang": true, "reset": true}`, 400}, {"POST", "/admin/diff", `{"project": []}`, 400},
	} {
		if code, out := admin(wrong.verb, wrong.path, wrong.body); code != wrong.want || out["error"] == "" {
			t.Errorf("%s %s: %d %v, want %d", wrong.verb, wrong.path, code, out, wrong.want)
		}
	}
}

// FuzzParseScenario: whatever is accepted can be served and written again.
func FuzzParseScenario(f *testing.F) {
	data, err := os.ReadFile("default.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"generate": [{"count": 3, "project": {"id": "load-{n}", "number": "90{n}"}}], "latencies": {"read": "1ms"}}`))
	f.Add([]byte(`{"faults": [{"code": 503, "delay": "never"}], "roles": {"roles/x": ["a.b.*"]}}`))
	f.Add([]byte(`{"projects": [{"id": "project-1", "number": "1", "resources": [{"assetType": "x.googleapis.com/", "name": "n"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		scenario, err := ParseScenario(data)
		if err != nil {
			return
		}
		s, err := NewServer(Options{Scenario: scenario})
		if err != nil {
			t.Fatalf("a valid scenario is not served: %v", err)
		}
		s.Snapshot()
		for _, p := range s.world.sortedProjects() {
			s.world.assets(p)
		}
		again, err := ParseScenario(must(json.Marshal(s.Scenario()))(t))
		if err != nil {
			t.Fatalf("a scenario is not its own format: %v", err)
		}
		if _, err := NewServer(Options{Scenario: again}); err != nil {
			t.Fatal(err)
		}
	})
}
