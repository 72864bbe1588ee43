package google

import (
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/cloudasset/v1"
	crmv1 "google.golang.org/api/cloudresourcemanager/v1"
	crmv3 "google.golang.org/api/cloudresourcemanager/v3"
)

func manyProjects(s *Scenario) {
	s.Generate = []Generator{{Count: 300, Project: Project{
		ID: "load-{n}", Number: "9000000{n}", Parent: "organizations/518204713966", BillingAccount: "0D4E5F-6A7B8C-9D0E1F",
		Bindings: []Binding{{Role: "roles/owner", Members: []string{"user:" + demo}}},
	}}}
}

// Fact (Resource Manager): pages may be short; the token says whether there is
// more.
func TestListsCoverEveryProjectOnShortPages(t *testing.T) {
	t.Parallel()
	r := newRig(t, manyProjects, func(s *Scenario) { s.Pages = Pages{Size: 20, Short: true} })
	user := r.as(demo)
	var v1, v3 []string
	pages, blank := 0, 0
	if err := user.v1.Projects.List().Pages(t.Context(), func(page *crmv1.ListProjectsResponse) error {
		for _, p := range page.Projects {
			v1 = append(v1, p.ProjectId)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := user.v3.Projects.Search().Pages(t.Context(), func(page *crmv3.SearchProjectsResponse) error {
		pages++
		if len(page.Projects) == 0 {
			blank++
		}
		for _, p := range page.Projects {
			v3 = append(v3, p.ProjectId)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(v1) != 306 || !cmp.Equal(v1, v3) {
		t.Errorf("list gives %d, search %d projects; want 306 of both", len(v1), len(v3))
	}
	if pages < 16 || blank == 0 {
		t.Errorf("%d pages, %d of them empty", pages, blank)
	}
}

// Fact (Resource Manager): loop on the token. One of another list, or of other
// parameters, is none.
func TestPageTokensAreOpaqueAndChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	user := r.as(demo)
	next := must(user.v1.Projects.List().PageSize(2).Do())(t).NextPageToken
	bad := refusal{Code: 400, Status: "INVALID_ARGUMENT"}
	_, err := user.v1.Projects.List().PageToken(next[:len(next)-2] + "xx").Do()
	mustRefuse(t, err, bad)
	_, err = user.v1.Projects.List().PageToken("2").Do()
	mustRefuse(t, err, bad)
	_, err = user.v1.Projects.List().Filter("lifecycleState:ACTIVE").PageToken(next).Do()
	mustRefuse(t, err, bad)
	_, err = user.v3.Projects.Search().PageToken(next).Do()
	mustRefuse(t, err, bad)
	must(user.v1.Projects.List().PageToken(next).Do())(t)
}

// Fact (Resource Manager): loop on the token, which is opaque. With any one
// letter changed it is refused, by every list that has pages.
func TestPageTokensBreakWhenAltered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := must(r.MintToken(demo))(t)
	grantRole(t, r.as(demo), shop, "roles/cloudasset.viewer", "user:"+demo)
	for _, path := range []string{
		"/cloudresourcemanager/v1/projects", "/cloudresourcemanager/v3/projects:search", "/serviceusage/v1/projects/" + shop + "/services",
		"/iam/v1/projects/" + shop + "/serviceAccounts", "/cloudasset/v1/projects/" + shop + ":searchAllResources",
	} {
		_, body := r.raw(t, "GET", path+"?pageSize=1", token, "")
		page := decoded[struct{ NextPageToken string }](t, []byte(body)).NextPageToken
		if page == "" {
			t.Errorf("%s has no second page: %s", path, body)
		}
		if code, body := r.raw(t, "GET", path+"?pageSize=1&pageToken="+page, token, ""); code != http.StatusOK {
			t.Errorf("%s refuses its own token: %s", path, body)
		}
		for i := range page {
			for _, c := range []string{"A", "B", "e", "Q", "0", "_"} {
				altered := page[:i] + c + page[i+1:]
				if altered == page {
					continue
				}
				w := httptest.NewRecorder()
				req := httptest.NewRequestWithContext(t.Context(), "GET", path+"?pageSize=1&pageToken="+altered, nil)
				req.Header.Set("Authorization", "Bearer "+token)
				if r.ServeHTTP(w, req); w.Code != http.StatusBadRequest {
					t.Errorf("%s takes %s for %s", path, altered, page)
				}
			}
		}
	}
}

func TestProjectFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		owner := []Binding{{Role: "roles/owner", Members: []string{"user:" + demo}}}
		s.Projects = append(s.Projects,
			Project{ID: "sys-12345678901234567890", Number: "11", Bindings: owner},
			Project{ID: "being-deleted", Number: "12", State: "DELETE_REQUESTED", Bindings: owner})
	})
	user := r.as(demo)
	for filter, want := range map[string]int{
		"": 8, "lifecycleState:ACTIVE": 7, "lifecycleState=ACTIVE AND NOT projectId:sys-*": 6, "-projectId:sys-*": 7,
		"labels.env:prod": 1, "parent.type:folder": 3, "parent.id:518204713966": 3, "name:Shop*": 2,
	} {
		if got := len(must(user.v1.Projects.List().Filter(filter).Do())(t).Projects); got != want {
			t.Errorf("filter %q: %d projects, want %d", filter, got, want)
		}
	}
	if got := len(must(user.v3.Projects.Search().Query("state:ACTIVE").Do())(t).Projects); got != 7 {
		t.Errorf("search finds %d", got)
	}
	for _, wrong := range []string{"colour:red", "state:ACTIVE OR id:x", "ACTIVE"} {
		_, err := user.v3.Projects.Search().Query(wrong).Do()
		mustRefuse(t, err, refusal{Code: 400, Status: "INVALID_ARGUMENT"})
	}
	old := must(user.v1.Projects.Get("being-deleted").Do())(t)
	new := must(user.v3.Projects.Get("projects/12").Do())(t)
	if old.LifecycleState != "DELETE_REQUESTED" || new.State != "DELETE_REQUESTED" || new.Name != "projects/12" || old.ProjectNumber != 12 {
		t.Errorf("v1 %+v, v3 %+v", old, new)
	}
}

// TestSearchFindsWhatCanBeRead: however somebody came to see a project, by
// itself or through a group, there or above, once or three times over, a
// search has it, once, in order and on whatever pages.
func TestSearchFindsWhatCanBeRead(t *testing.T) {
	t.Parallel()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 20 {
		someone := func() (out []Binding) {
			for _, member := range []string{"user:member@example.com", "group:team@example.com", "domain:example.com", "user:other@example.com"} {
				if random.IntN(8) == 0 {
					out = append(out, Binding{Role: []string{"roles/browser", "roles/run.invoker"}[random.IntN(2)], Members: []string{member}})
				}
			}
			return out
		}
		r := newRig(t, func(s *Scenario) {
			s.Users = append(s.Users, User{Email: "member@example.com", Sub: "80", Domain: "example.com"})
			s.Groups = []Group{{Email: "team@example.com", Members: []string{"member@example.com"}}}
			s.Organizations[1].Bindings = someone()
			s.Folders = append(s.Folders, Folder{ID: "111", Parent: "organizations/610933471258", Bindings: someone()}, Folder{ID: "222", Parent: "folders/111", Bindings: someone()})
			for n := range 30 {
				parent := []string{"", "folders/222", "folders/111", "folders/730018846125"}[random.IntN(4)]
				s.Projects = append(s.Projects, Project{ID: fmt.Sprintf("any-%02d", n), Number: fmt.Sprint(1000 + n), Parent: parent, Bindings: someone()})
			}
		})
		member := r.as("member@example.com")
		var want, got []string
		for _, p := range r.Snapshot().Projects {
			if _, err := member.v1.Projects.Get(p.ID).Do(); err == nil {
				want = append(want, p.ID)
			}
		}
		if err := member.v3.Projects.Search().PageSize(4).Pages(t.Context(), func(page *crmv3.SearchProjectsResponse) error {
			for _, p := range page.Projects {
				got = append(got, p.ProjectId)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("found (-can be read +found):\n%s", diff)
		}
	}
}

// Fact (Resource Manager): projects.list and projects:search are eventually
// consistent.
func TestListsRunBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Propagation.ProjectList = Duration(time.Minute) })
	listed := func() [2]int {
		v := r.as(runner)
		return [2]int{len(must(v.v1.Projects.List().Do())(t).Projects), len(must(v.v3.Projects.Search().Do())(t).Projects)}
	}
	grantRole(t, r.as(demo), shop, "roles/browser", "serviceAccount:"+runner)
	must(r.as(runner).v1.Projects.Get(shop).Do())(t)
	if got := listed(); got != [2]int{} {
		t.Errorf("list and search have %d at once", got)
	}
	r.clock.Advance(time.Minute)
	if got := listed(); got != [2]int{1, 1} {
		t.Errorf("list and search have %d later", got)
	}
	if err := r.SetPolicy(shop, nil); err != nil {
		t.Fatal(err)
	}
	_, err := r.as(runner).v1.Projects.Get(shop).Do()
	mustRefuse(t, err, denied)
	if got := listed(); got != [2]int{1, 1} {
		t.Errorf("list and search have %d when the grant has gone", got)
	}
	r.clock.Advance(time.Minute)
	if got := listed(); got != [2]int{} {
		t.Errorf("list and search have %d in the end", got)
	}
}

// Fact (Cloud Billing): empty and false fields of billingInfo are emitted.
func TestBillingInfoEmitsEmptyAndFalse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) { s.Projects[2].BillingClosed = true })
	token := must(r.MintToken(demo))(t)
	for project, want := range map[string]string{
		unpaid:  "{\n  \"name\": \"projects/dana-playground/billingInfo\",\n  \"projectId\": \"dana-playground\",\n  \"billingAccountName\": \"\",\n  \"billingEnabled\": false\n}\n",
		staging: "{\n  \"name\": \"projects/shop-staging/billingInfo\",\n  \"projectId\": \"shop-staging\",\n  \"billingAccountName\": \"billingAccounts/0D4E5F-6A7B8C-9D0E1F\",\n  \"billingEnabled\": false\n}\n",
	} {
		_, got := r.raw(t, "GET", "/cloudbilling/v1/projects/"+project+"/billingInfo", token, "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", project, diff)
		}
	}
}

func TestSearchAllResources(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *Scenario) {
		s.Projects[1].Resources = append(s.Projects[1].Resources, Resource{AssetType: "pubsub.googleapis.com/Topic", Name: "t", Count: 1200})
	})
	user := r.as(demo)
	search := func(call *cloudasset.V1SearchAllResourcesCall) (sizes []int, all []*cloudasset.ResourceSearchResult) {
		t.Helper()
		if err := call.Pages(t.Context(), func(page *cloudasset.SearchAllResourcesResponse) error {
			sizes = append(sizes, len(page.Results))
			all = append(all, page.Results...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return sizes, all
	}
	sizes, _ := search(user.asset.V1.SearchAllResources("projects/" + shop).PageSize(2000).AssetTypes("pubsub.googleapis.com/Topic"))
	if diff := cmp.Diff([]int{500, 500, 200}, sizes); diff != "" {
		t.Errorf("page sizes (-want +got):\n%s", diff)
	}
	_, clusters := search(user.asset.V1.SearchAllResources("projects/" + shop).AssetTypes("container.googleapis.com.*"))
	if len(clusters) != 1 {
		t.Fatalf("finds %d clusters", len(clusters))
	}
	c := clusters[0]
	got := fmt.Sprint(c.Name, c.Project, c.Folders, c.Organization, c.DisplayName, c.Location, c.State, c.Labels, c.ParentFullResourceName)
	want := "//container.googleapis.com/projects/shop-production/locations/europe-west1/clusters/shopprojects/210448675301[folders/730018846125]organizations/518204713966shopeurope-west1RUNNINGmap[env:prod]//cloudresourcemanager.googleapis.com/projects/shop-production"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
	if _, found := search(user.asset.V1.SearchAllResources("projects/" + shop).Query("state:RUNNING bastion")); len(found) != 1 {
		t.Errorf("the query finds %d", len(found))
	}
	_, err := user.asset.V1.SearchAllResources("organizations/518204713966").Do()
	mustRefuse(t, err, denied)
}
