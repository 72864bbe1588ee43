package google

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// few sees three projects of however many there are.
const few = "few@example.com"

// organizationOf is one organization with so many projects, in folders of a
// hundred, all of which demo owns and three of which few may see.
func organizationOf(tb testing.TB, projects int) *Server {
	tb.Helper()
	scenario := &Scenario{
		Users:         []User{{Email: demo, Sub: "1", Domain: "example.com"}, {Email: few, Sub: "2", Domain: "example.com"}},
		Clients:       DefaultScenario().Clients,
		Organizations: []Organization{{ID: "500000000001", Domain: "example.com", CustomerID: "C0example"}},
		Projects:      []Project{{ID: DefaultScenario().Clients[0].Project, Number: "400000000001", EnabledAPIs: DefaultScenario().Projects[0].EnabledAPIs}},
	}
	for i := range projects {
		folder := fmt.Sprint(600000000000 + i/100)
		if i%100 == 0 {
			scenario.Folders = append(scenario.Folders, Folder{ID: folder, Parent: "organizations/500000000001"})
		}
		p := Project{
			ID: fmt.Sprintf("project-%05d", i), Number: fmt.Sprint(200000000000 + i), Parent: "folders/" + folder,
			Bindings:        []Binding{{Role: "roles/owner", Members: []string{"user:" + demo}}},
			ServiceAccounts: []ServiceAccount{{AccountID: "existing"}},
		}
		if i >= projects-3 {
			p.Bindings = append(p.Bindings, Binding{Role: "roles/viewer", Members: []string{"user:" + few}})
		}
		scenario.Projects = append(scenario.Projects, p)
	}
	s, err := NewServer(Options{Scenario: scenario, Clock: newClock(), Seed: 1})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// A measured call is one whose cost must not depend on how many projects there
// are. What begin does is undone by end, so that it can be repeated.
type measured struct{ name, caller, verb, path, body, endVerb, end string }

func measuredCalls() []measured {
	const p5 = "/projects/project-00005"
	names := make([]string, 30)
	for i, name := range catalogNames()[:30] {
		names[i] = "names=projects/project-00005/services/" + name
	}
	return []measured{
		{name: "projects.search, a page of 500", caller: demo, verb: "GET", path: "/cloudresourcemanager/v3/projects:search"},
		{name: "projects.search, a page of 10", caller: demo, verb: "GET", path: "/cloudresourcemanager/v3/projects:search?pageSize=10"},
		{name: "projects.search, 3 visible", caller: few, verb: "GET", path: "/cloudresourcemanager/v3/projects:search"},
		{name: "projects.get", caller: demo, verb: "GET", path: "/cloudresourcemanager/v3" + p5},
		{name: "getIamPolicy", caller: demo, verb: "POST", path: "/cloudresourcemanager/v1" + p5 + ":getIamPolicy"},
		{name: "setIamPolicy", caller: demo, verb: "POST", path: "/cloudresourcemanager/v1" + p5 + ":setIamPolicy", body: `{"policy":{"bindings":[{"role":"roles/owner","members":["user:` + demo + `"]}]}}`},
		{name: "testIamPermissions", caller: demo, verb: "POST", path: "/cloudresourcemanager/v1" + p5 + ":testIamPermissions", body: `{"permissions":["resourcemanager.projects.get"]}`},
		{name: "services.batchGet of 30", caller: demo, verb: "GET", path: "/serviceusage/v1" + p5 + "/services:batchGet?" + strings.Join(names, "&")},
		{name: "serviceAccounts.list", caller: demo, verb: "GET", path: "/iam/v1" + p5 + "/serviceAccounts"},
		{name: "serviceAccounts.create, delete", caller: demo, verb: "POST", path: "/iam/v1" + p5 + "/serviceAccounts", body: `{"accountId":"connect-agent"}`,
			endVerb: "DELETE", end: "/iam/v1" + p5 + "/serviceAccounts/connect-agent@project-00005.iam.gserviceaccount.com"},
		{name: "searchAllResources of a project", caller: demo, verb: "GET", path: "/cloudasset/v1" + p5 + ":searchAllResources"},
	}
}

// perform makes a call and takes it back.
func (m measured) perform(tb testing.TB, s *Server, token string) {
	do := func(verb, path, body string) {
		r := httptest.NewRequestWithContext(tb.Context(), verb, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			tb.Fatalf("%s answered %d %s", m.name, w.Code, w.Body)
		}
	}
	do(m.verb, m.path, m.body)
	if m.end != "" {
		do(m.endVerb, m.end, "")
	}
}

// BenchmarkCalls is the cost of a call in a small and in a large organization.
// Only a page of projects may grow, up to its size.
func BenchmarkCalls(b *testing.B) {
	for _, projects := range []int{10, 10_000} {
		s := organizationOf(b, projects)
		for _, m := range measuredCalls() {
			token, err := s.MintToken(m.caller)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("projects=%d/%s", projects, strings.ReplaceAll(m.name, " ", "_")), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.perform(b, s, token)
				}
				s.ClearCalls()
			})
		}
	}
}

// TestCostDoesNotGrowWithProjects counts allocations, which load on the
// machine does not change. Going through all projects allocates for each of
// them, so that it would be seen.
func TestCostDoesNotGrowWithProjects(t *testing.T) {
	small, large := organizationOf(t, 20), organizationOf(t, 2000)
	for _, m := range measuredCalls() {
		cost := func(s *Server) float64 {
			token := must(s.MintToken(m.caller))(t)
			return testing.AllocsPerRun(10, func() { m.perform(t, s, token) })
		}
		a, b := cost(small), cost(large)
		if strings.HasSuffix(m.name, "page of 500") {
			a *= 500. / 20 // as far as a page goes
		}
		if b > 1.2*a {
			t.Errorf("%s: %.0f allocations with 20 projects, %.0f with 2,000", m.name, a, b)
		}
	}
}
