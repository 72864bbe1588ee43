package google

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkCalls is the cost of a call in a small and in a large organization.
// Only a list may grow with the number of projects, and by its page only.
func BenchmarkCalls(b *testing.B) {
	for _, projects := range []int{10, 10_000} {
		scenario := &Scenario{
			Users:         []User{{Email: demo, Sub: "100000000000000000001", Name: "Demo User", Domain: "example.com"}},
			Clients:       DefaultScenario().Clients,
			Organizations: []Organization{{ID: "500000000001", Domain: "example.com", CustomerID: "C0example"}},
		}
		for _, p := range DefaultScenario().Projects {
			if p.ID == scenario.Clients[0].Project {
				p.Parent = "organizations/500000000001"
				scenario.Projects = append(scenario.Projects, p)
			}
		}
		for i := range projects {
			scenario.Projects = append(scenario.Projects, Project{
				ID: fmt.Sprintf("project-%05d", i), Number: fmt.Sprint(200000000000 + i), Parent: "organizations/500000000001",
				Bindings: []Binding{{Role: "roles/owner", Members: []string{"user:" + demo}}},
			})
		}
		s, err := NewServer(Options{Scenario: scenario})
		if err != nil {
			b.Fatal(err)
		}
		token, err := s.MintToken(demo)
		if err != nil {
			b.Fatal(err)
		}
		for _, call := range []struct{ name, verb, path, body string }{
			{"projects.search", "GET", "/cloudresourcemanager/v3/projects:search?pageSize=10", ""},
			{"projects.get", "GET", "/cloudresourcemanager/v3/projects/project-00005", ""},
			{"getIamPolicy", "POST", "/cloudresourcemanager/v1/projects/project-00005:getIamPolicy", "{}"},
			{"setIamPolicy", "POST", "/cloudresourcemanager/v1/projects/project-00005:setIamPolicy", `{"policy":{"bindings":[{"role":"roles/owner","members":["user:` + demo + `"]}]}}`},
			{"testIamPermissions", "POST", "/cloudresourcemanager/v1/projects/project-00005:testIamPermissions", `{"permissions":["resourcemanager.projects.get"]}`},
			{"services.batchGet", "GET", "/serviceusage/v1/projects/project-00005/services:batchGet?names=projects/project-00005/services/run.googleapis.com", ""},
		} {
			b.Run(fmt.Sprintf("projects=%d/%s", projects, call.name), func(b *testing.B) {
				for b.Loop() {
					r := httptest.NewRequestWithContext(b.Context(), call.verb, call.path, strings.NewReader(call.body))
					r.Header.Set("Authorization", "Bearer "+token)
					w := httptest.NewRecorder()
					s.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatalf("%s answered %d %s", call.name, w.Code, w.Body)
					}
				}
				s.ClearCalls()
			})
		}
	}
}
