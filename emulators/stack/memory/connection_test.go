package memory_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

func TestConnection_ShowsVerifiedAccount(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		type connection struct {
			Connected   bool     `json:"isConnected"`
			Email       *string  `json:"email"`
			Text        string   `json:"displayText"`
			AuthType    string   `json:"authType"`
			NeedsReauth bool     `json:"needsReauth"`
			Scopes      []string `json:"granted_scopes"`
			ConnectedAt *string  `json:"connected_at"`
		}
		get := func() (c connection) {
			y.Call(http.StatusOK, http.MethodGet, "/api/gcp/connection", nil, &c)
			return c
		}
		none := connection{Text: "Not connected", AuthType: "oauth", Scopes: []string{}}
		if diff := cmp.Diff(none, get()); diff != "" {
			t.Errorf("before (-want +got):\n%s", diff)
		}
		at := time.Now().UTC().Format(time.RFC3339)
		y.WantSuccess(y.Complete(), 1, 1)
		got := get()
		slices.Sort(got.Scopes)
		want := connection{
			Connected: true, Email: new(owner), Text: owner, AuthType: "oauth", ConnectedAt: &at,
			Scopes: []string{"https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email", "openid"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("connected (-want +got):\n%s", diff)
		}
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if diff := cmp.Diff(none, get()); diff != "" {
			t.Errorf("disconnected (-want +got):\n%s", diff)
		}
	})
}

func TestProjects_ListsGooglesProjects(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(3, func(s *google.Scenario) { googletest.Project(s, "project-003").BillingAccount = "" })
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.Call(http.StatusNotFound, http.MethodGet, "/api/gcp/projects", nil, nil)
		y.WantSuccess(y.Complete(), 2, 2)
		type listed struct {
			ID        string `json:"projectId"`
			Name      string `json:"name"`
			Number    string `json:"projectNumber"`
			State     string `json:"lifecycleState"`
			Billing   bool   `json:"billingEnabled"`
			Available bool   `json:"available"`
			Root      bool   `json:"isRootProject"`
		}
		var got struct {
			Projects []listed `json:"projects"`
			Count    int      `json:"count"`
			Billed   int      `json:"billing_enabled_count"`
			Root     string   `json:"root_project"`
		}
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/projects", nil, nil)
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/projects", nil, &got)
		if got.Count != 3 || got.Billed != 2 || got.Root != "project-001" {
			t.Errorf("answer = %s", stacktest.Show(got))
		}
		want := []listed{
			{"project-001", "Project 1", "200000000001", "ACTIVE", true, true, true},
			{"project-002", "Project 2", "200000000002", "ACTIVE", true, true, false},
			{"project-003", "Project 3", "200000000003", "ACTIVE", false, false, false},
		}
		if diff := cmp.Diff(want, got.Projects); diff != "" {
			t.Errorf("projects (-want +got):\n%s", diff)
		}
	})
}

func TestRootProject_ChangesWithinConnection(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(4, func(s *google.Scenario) {
		googletest.Project(s, "project-003").BillingAccount = "" // not part of the setup
		googletest.Project(s, "project-004").Bindings[0].Role = "roles/editor"
		googletest.Project(s, "project-004").Bindings = append(googletest.Project(s, "project-004").Bindings,
			google.Binding{Role: "roles/resourcemanager.projectIamAdmin", Members: []string{"user:" + owner}})
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 3, 3)
		post := func(want int, body any, into any) string {
			t.Helper()
			return y.Call(want, http.MethodPost, "/api/gcp/root-project", body, into)
		}
		post(http.StatusBadRequest, map[string]any{}, nil)
		post(http.StatusBadRequest, map[string]any{"project_id": "project-003"}, nil) // not one of the connection's
		post(http.StatusBadRequest, map[string]any{"project_id": "unknown"}, nil)
		if body := post(http.StatusBadRequest, map[string]any{"project_id": "project-004"}, nil); !strings.Contains(body, "iam.serviceAccounts.setIamPolicy") {
			t.Errorf("the reason is not named: %s", body)
		}
		before, _ := y.Google.Project("project-003")
		var accepted struct {
			Success bool   `json:"success"`
			Saved   bool   `json:"preference_saved"`
			Setup   string `json:"service_account_setup"`
			Root    string `json:"root_project"`
			TaskID  string `json:"task_id"`
			Message string `json:"message"`
		}
		post(http.StatusAccepted, map[string]any{"projectId": "project-002"}, &accepted)
		if !accepted.Success || !accepted.Saved || accepted.Setup != "pending" || accepted.Root != "project-002" || accepted.Message == "" {
			t.Errorf("answer = %s", stacktest.Show(accepted))
		}
		y.WantSuccess(y.Await(accepted.TaskID), 3, 3)
		var root struct {
			Root     string `json:"root_project"`
			Accounts struct {
				Root string `json:"root_project"`
				Full string `json:"full_access_sa"`
			} `json:"service_accounts"`
		}
		y.Call(http.StatusOK, http.MethodGet, "/api/gcp/root-project", nil, &root)
		if root.Root != "project-002" || root.Accounts.Root != "project-002" || !strings.HasSuffix(root.Accounts.Full, "@project-002.iam.gserviceaccount.com") {
			t.Errorf("root project = %s", stacktest.Show(root))
		}
		after, _ := y.Google.Project("project-003")
		if stacktest.Show(before) != stacktest.Show(after) {
			t.Error("a project that is not the connection's was changed")
		}
	})
}

func TestProjectAccess_TakesAndGives(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(3), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 3, 3)
		const path = "/api/gcp/sa-project-access"
		type access struct {
			ID            string `json:"projectId"`
			Enabled       bool   `json:"enabled"`
			HasPermission bool   `json:"hasPermission"`
			Root          bool   `json:"isRootProject"`
		}
		want := func(projects ...access) {
			t.Helper()
			var got struct {
				Projects []access `json:"projects"`
				Root     string   `json:"root_project"`
			}
			y.Call(http.StatusOK, http.MethodGet, path, nil, &got)
			if diff := cmp.Diff(projects, got.Projects); diff != "" || got.Root != "project-001" {
				t.Errorf("access (-want +got), root %q:\n%s", got.Root, diff)
			}
		}
		toggle := func(second, third bool) map[string]any {
			return map[string]any{"projects": []any{
				map[string]any{"projectId": "project-001", "enabled": true},
				map[string]any{"id": "project-002", "enabled": second},
				map[string]any{"projectId": "project-003", "enabled": third},
			}}
		}
		want(access{"project-001", true, true, true}, access{"project-002", true, true, false}, access{"project-003", true, true, false})
		y.Google.ClearCalls()
		y.Call(http.StatusOK, http.MethodPost, path, toggle(false, true), nil)
		if n := y.Google.CallCounts().Writes; n != 1 {
			t.Errorf("one toggle made %d writes", n)
		}
		want(access{"project-001", true, true, true}, access{"project-002", false, true, false}, access{"project-003", true, true, false})
		p, _ := y.Google.Project("project-002")
		if len(p.Bindings) != 1 || p.Bindings[0].Role != "roles/owner" {
			t.Errorf("the roles are still there: %s", stacktest.Show(p.Bindings))
		}

		// One project that refuses is told apart from the one that does not.
		if err := y.Google.SetPolicy("project-003", []google.Binding{{Role: "roles/viewer", Members: []string{"user:" + owner}}}); err != nil {
			t.Fatal(err)
		}
		var partly struct {
			Success  bool `json:"success"`
			Projects []struct {
				ID      string `json:"projectId"`
				Success bool   `json:"success"`
				Error   string `json:"error"`
				Code    string `json:"code"`
			} `json:"projects"`
		}
		y.Call(http.StatusMultiStatus, http.MethodPost, path, toggle(true, true), &partly)
		if partly.Success || len(partly.Projects) != 3 || !partly.Projects[1].Success || partly.Projects[2].Success || partly.Projects[2].Code != "forbidden" {
			t.Errorf("answer = %s", stacktest.Show(partly))
		}
		want(access{"project-001", true, true, true}, access{"project-002", true, true, false}, access{"project-003", false, false, false})
		y.Call(http.StatusBadRequest, http.MethodPost, path, map[string]any{"projects": []any{map[string]any{"id": "other", "enabled": true}}}, nil)
		y.Call(http.StatusBadRequest, http.MethodPost, path, map[string]any{}, nil)
	})
}

func TestDiscovery_FindsAndForgetsResources(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) {
		s.Pages.Size = 40
		googletest.Project(s, "project-002").Resources = []google.Resource{
			{AssetType: "container.googleapis.com/Cluster", Name: "prod", Location: "europe-west1", State: "RUNNING", Labels: map[string]string{"env": "prod"}, AdditionalAttributes: map[string]any{"endpoint": "198.51.100.7", "network": "main"}},
			{AssetType: "compute.googleapis.com/Instance", Name: "vm", Location: "europe-west1-b", Count: 150},
		}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 2, 2)
		y.WantDiscovered("project-001", "project-002")
		type page struct {
			Resources []struct {
				ID       string            `json:"id"`
				Type     string            `json:"type"`
				Name     string            `json:"name"`
				Project  string            `json:"projectId"`
				Region   string            `json:"region"`
				Zone     string            `json:"zone"`
				State    string            `json:"state"`
				Endpoint string            `json:"endpoint"`
				Network  string            `json:"network"`
				Labels   map[string]string `json:"labels"`
			} `json:"resources"`
			Next string `json:"next_page_token"`
		}
		list := func(query string) page {
			t.Helper()
			var p page
			y.Call(http.StatusOK, http.MethodGet, "/api/gcp/resources"+query, nil, &p)
			return p
		}
		clusters := list("?type=gke_cluster").Resources
		if len(clusters) != 1 || clusters[0].Name != "prod" || clusters[0].Project != "project-002" || clusters[0].Region != "europe-west1" ||
			clusters[0].Endpoint != "198.51.100.7" || clusters[0].Network != "main" || clusters[0].State != "RUNNING" || clusters[0].Labels["env"] != "prod" {
			t.Errorf("clusters = %s", stacktest.Show(clusters))
		}
		seen := map[string]bool{}
		pages := 0
		for token := ""; pages == 0 || token != ""; pages++ {
			p := list("?project=project-002&type=compute_instance&page_size=60&page_token=" + token)
			for _, r := range p.Resources {
				seen[r.ID] = true
			}
			token = p.Next
		}
		if len(seen) != 150 || pages != 3 {
			t.Errorf("%d instances in %d pages, want 150 in 3", len(seen), pages)
		}
		for _, bad := range []string{"?page_size=0", "?page_size=x", "?page_token=x"} {
			y.Call(http.StatusBadRequest, http.MethodGet, "/api/gcp/resources"+bad, nil, nil)
		}

		// Discovered again: what is gone is forgotten.
		y.Call(http.StatusAccepted, http.MethodPost, "/api/gcp/discover", nil, nil)
		y.WantDiscovered("project-001", "project-002")
		if n := len(list("?type=gke_cluster").Resources); n != 1 {
			t.Errorf("%d clusters after a second discovery", n)
		}
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
		if n := len(list("").Resources); n != 0 {
			t.Errorf("%d resources are left after the disconnect", n)
		}
		y.Call(http.StatusNotFound, http.MethodPost, "/api/gcp/discover", nil, nil)
	})
}

func TestRequests_ErrorsNameTheField(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		for _, tt := range []struct {
			method, path string
			body         any
			status       int
			words        string
		}{
			{"GET", "/login", nil, 405, "POST"},
			{"DELETE", "/api/gcp/connection", nil, 405, "GET"},
			{"GET", "/nowhere", nil, 404, ""},
			{"POST", "/login", []string{"x"}, 400, "JSON object"},
			{"POST", "/login", map[string]any{"userId": 7}, 400, "userId must be a string"},
			{"POST", "/login", map[string]any{"userId": "somebody-else"}, 403, "userId"},
			{"POST", "/gcp/post-auth-retry", map[string]any{"selected_project_ids": []int{1}}, 400, "selected_project_ids[0]"},
			{"POST", "/api/gcp/force-disconnect", map[string]any{"cleanup": "yes"}, 400, "cleanup must be true or false"},
			{"POST", "/tasks/enable-apis", map[string]any{}, 401, "service of the platform"},
			{"POST", "/tasks/sweep", nil, 401, "service of the platform"},
			{"POST", "/gcp/setup/confirm", map[string]any{}, 400, "task_id is missing"},
			{"POST", "/gcp/setup/confirm", map[string]any{"task_id": "x"}, 404, "Connect again"},
			{"POST", "/api/gcp/force-disconnect", map[string]any{"disable_apis": true}, 400, "disable_apis goes with cleanup"},
		} {
			body := y.Call(tt.status, tt.method, tt.path, tt.body, nil)
			if !strings.Contains(body, tt.words) || !strings.Contains(body, `"code":"`) {
				t.Errorf("%s %s answered %s, want words %q and a code", tt.method, tt.path, body, tt.words)
			}
		}
		y.User = y.NewUser("")
		y.Call(401, "GET", "/api/gcp/connection", nil, nil)
		for _, id := range []string{strings.Repeat("x", 300), "J\xf6rg"} {
			y.User = y.NewUser(id)
			y.Call(400, "GET", "/api/gcp/connection", nil, nil)
		}
		y.User = y.NewUser("user-1")
		many := make([]string, 40_000)
		for i := range many {
			many[i] = "project-x"
		}
		y.Call(413, "POST", "/gcp/post-auth-retry", map[string]any{"selected_project_ids": many}, nil)
	})
}

func TestReconnect_OtherAccountSeesNothingOfFormer(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) {
		s.Users = append(s.Users, google.User{Email: "second@example.com", Sub: "100000000000000000002", Domain: "example.com"})
		googletest.Project(s, "project-002").Bindings[0].Members = []string{"user:second@example.com"}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		connect := func(account string) {
			t.Helper()
			login, task, err := y.User.Connect(y.T.Context(), demo.Choice{Account: account})
			if err != nil || login != "gcp_setup_pending" {
				t.Fatal(login, err)
			}
			y.WantSuccess(y.Await(task), 1, 1)
			if err := y.Idle(y.T.Context()); err != nil {
				t.Fatal(err)
			}
		}
		connect(owner)
		y.WantDiscovered("project-001")
		connect("second@example.com")
		y.WantDiscovered("project-002")
		if body := y.Call(200, "GET", "/api/gcp/resources?page_size=1000", nil, nil); strings.Contains(body, "project-001") {
			t.Errorf("resources of the former account are shown: %s", body)
		}
	})
}
