package connecttest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gcpconnect/shared/connect"
)

// newResource returns a resource with every field filled.
func newResource(id string) connect.Resource {
	r := filled[connect.Resource]("resource")
	r.ID = id
	return r
}

// inventoryOf returns n resources in three projects, of two types, seen by
// three runs (one without a name), in no order.
func inventoryOf(n int) []connect.Resource {
	var resources []connect.Resource
	for i := range n {
		r := newResource(fmt.Sprintf("//compute.googleapis.com/projects/p/zones/z/instances/%s", connect.Hash(fmt.Sprint(i))))
		r.ProjectID = []string{"alpha", "example.com:beta", "gamma"}[i%3]
		r.Type = []string{"vm", "gke_cluster"}[i/3%2]
		r.Name = fmt.Sprint("name-", i%7) // not unique
		r.Run = []string{"one", "two", ""}[i/6%3]
		resources = append(resources, r)
	}
	return resources
}

// inOrder orders resources as Resources does. The order of those that are the
// same in all three is the adapter's.
func inOrder(a, b connect.Resource) int {
	return cmp.Or(strings.Compare(a.ProjectID, b.ProjectID), strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
}

// wantResources checks that got is all of want but those that drop selects,
// each once, in order.
func wantResources(t *testing.T, what string, got, want []connect.Resource, drop func(connect.Resource) bool) {
	t.Helper()
	if !slices.IsSortedFunc(got, inOrder) {
		t.Errorf("%s are not in order", what)
	}
	equal(t, what, resourcesByID(got), resourcesByID(slices.DeleteFunc(slices.Clone(want), drop)))
}

func resourcesByID(resources []connect.Resource) []connect.Resource {
	return slices.SortedFunc(slices.Values(resources), func(a, b connect.Resource) int { return strings.Compare(a.ID, b.ID) })
}

func none(connect.Resource) bool { return false }

// readResources reads all pages of that size.
func readResources(t *testing.T, s connect.Store, userID string, q connect.ResourceQuery) []connect.Resource {
	t.Helper()
	return allPages(t, q.PageSize, func(token string) ([]connect.Resource, string, error) {
		q.PageToken = token
		return s.Resources(t.Context(), userID, q)
	})
}

var resourceCases = []storeCase{
	{"a new user has no resources and one page of them", func(t *testing.T, s connect.Store) {
		page, next, err := s.Resources(t.Context(), newUser(), connect.ResourceQuery{})
		ok(t, err)
		if len(page) != 0 || next != "" {
			t.Errorf("the page is %v, the next one %q", page, next)
		}
	}},
	{"every field of a resource survives", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		full, empty := newResource("full"), connect.Resource{ID: "empty"}
		ok(t, s.SaveResources(ctx, user, []connect.Resource{full, empty}))
		page, _, err := s.Resources(ctx, user, connect.ResourceQuery{})
		ok(t, err)
		wantResources(t, "the resources", page, []connect.Resource{empty, full}, none)
	}},
	{"labels may have any key that Google allows, and more", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		r := newResource("labels")
		r.Labels = map[string]string{"a.b/c-d_e": "1", "__name__": "2", "`": "3", "é": "4", ".": "5", " ": "6", "empty": "", "": "7"}
		ok(t, s.SaveResources(ctx, user, []connect.Resource{r}))
		page, _, err := s.Resources(ctx, user, connect.ResourceQuery{})
		ok(t, err)
		equal(t, "the resources", page, []connect.Resource{r})
	}},
	{"saving nothing is no error", func(t *testing.T, s connect.Store) {
		ok(t, s.SaveResources(t.Context(), newUser(), nil))
	}},
	{"an ID may be any text, and no two are taken for one", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		var resources []connect.Resource
		for _, id := range append(oddUsers(), ".", "..", "/", "//a/b", "//a/b/", "__a__", strings.Repeat("long/", 1000), strings.Repeat("long/", 1000)+"a") {
			resources = append(resources, newResource(id))
		}
		ok(t, s.SaveResources(ctx, user, resources))
		wantResources(t, "the resources", readResources(t, s, user, connect.ResourceQuery{PageSize: 4}), resources, none)
	}},
	{"a resource saved again under its ID replaces the one before, wherever it was", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(9)
		ok(t, s.SaveResources(ctx, user, resources))
		resources[4].Labels, resources[4].State = nil, "STOPPED"
		resources[5].ProjectID = "moved"
		resources[6].Name, resources[6].Run = "renamed", "two"
		ok(t, s.SaveResources(ctx, user, resources[4:7]))
		wantResources(t, "the resources", readResources(t, s, user, connect.ResourceQuery{PageSize: 4}), resources, none)
	}},
	{"1,201 resources are saved in one call, read over pages in order, each once, and deleted in one call", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(1201)
		ok(t, s.SaveResources(ctx, user, resources))
		large := readResources(t, s, user, connect.ResourceQuery{PageSize: 1000})
		wantResources(t, "the resources", large, resources, none)
		equal(t, "the resources in small pages", readResources(t, s, user, connect.ResourceQuery{PageSize: 150}), large)
		ok(t, s.DeleteResources(ctx, user, connect.ResourceFilter{}))
		equal(t, "the resources after deleting all", readResources(t, s, user, connect.ResourceQuery{PageSize: 100}), []connect.Resource{})
	}},
	{"a page has 100 entries unless another size is asked for, and the last has no next", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		ok(t, s.SaveResources(ctx, user, inventoryOf(200)))
		first, next, err := s.Resources(ctx, user, connect.ResourceQuery{})
		ok(t, err)
		second, end, err := s.Resources(ctx, user, connect.ResourceQuery{PageToken: next})
		ok(t, err)
		if len(first) != 100 || next == "" || len(second) != 100 || end != "" {
			t.Errorf("200 resources came as %d, next %q, and %d, next %q", len(first), next, len(second), end)
		}
	}},
	{"what is deleted between two pages, the last one read included, hides nothing else", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(40)
		for i := range resources {
			resources[i].Run, resources[i].Name = "other", fmt.Sprint("name-", i)
		}
		all := slices.SortedFunc(slices.Values(resources), inOrder)
		for i := range all[:7] {
			all[i].Run = "gone"
		}
		ok(t, s.SaveResources(ctx, user, all))
		got := allPages(t, 7, func(token string) ([]connect.Resource, string, error) {
			page, next, err := s.Resources(ctx, user, connect.ResourceQuery{PageSize: 7, PageToken: token})
			ok(t, s.DeleteResources(ctx, user, connect.ResourceFilter{Run: "gone"}))
			return page, next, err
		})
		equal(t, "the resources", got, all)
	}},
	{"the filters by project and by type select alone and together, over pages", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(60)
		ok(t, s.SaveResources(ctx, user, resources))
		for _, project := range []string{"", "alpha", "example.com:beta", "gamma", "other"} {
			for _, kind := range []string{"", "vm", "gke_cluster", "other"} {
				got := readResources(t, s, user, connect.ResourceQuery{ProjectID: project, Type: kind, PageSize: 4})
				wantResources(t, fmt.Sprintf("the resources of project %q and type %q", project, kind), got, resources, func(r connect.Resource) bool {
					return project != "" && r.ProjectID != project || kind != "" && r.Type != kind
				})
			}
		}
	}},
	{"an impossible page size or token is Invalid, and the message names it", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		ok(t, s.SaveResources(ctx, user, inventoryOf(3)))
		refusesBadPages(t, func(size int, token string) (string, error) {
			_, next, err := s.Resources(ctx, user, connect.ResourceQuery{PageSize: size, PageToken: token})
			return next, err
		})
	}},
	{"a caller may change what it saved and read", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(3)
		ok(t, s.SaveResources(ctx, user, resources))
		scramble(&resources)
		for range 2 {
			page, _, err := s.Resources(ctx, user, connect.ResourceQuery{})
			ok(t, err)
			wantResources(t, "the resources", page, inventoryOf(3), none)
			scramble(&page)
		}
	}},
}

var deleteCases = []storeCase{
	{"deleting what is not there is no error", func(t *testing.T, s connect.Store) {
		ok(t, s.DeleteResources(t.Context(), newUser(), connect.ResourceFilter{ProjectID: "alpha", NotRun: "one"}))
	}},
	{"the filter's project, run and other runs select alone and together, and nothing else is deleted", func(t *testing.T, s connect.Store) {
		ctx := t.Context()
		for _, project := range []string{"", "alpha", "other"} {
			for _, run := range []string{"", "one", "other"} {
				for _, not := range []string{"", "one", "two", "other"} {
					user, resources := newUser(), inventoryOf(54)
					ok(t, s.SaveResources(ctx, user, resources))
					ok(t, s.DeleteResources(ctx, user, connect.ResourceFilter{ProjectID: project, Run: run, NotRun: not}))
					got := readResources(t, s, user, connect.ResourceQuery{PageSize: 100})
					wantResources(t, fmt.Sprintf("the resources left without project %q, run %q, not run %q", project, run, not), got, resources, func(r connect.Resource) bool {
						return (project == "" || r.ProjectID == project) && (run == "" || r.Run == run) && (not == "" || r.Run != not)
					})
				}
			}
		}
	}},
	{"a deleted resource can be saved again", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		resources := inventoryOf(3)
		ok(t, s.SaveResources(ctx, user, resources))
		ok(t, s.DeleteResources(ctx, user, connect.ResourceFilter{}))
		ok(t, s.SaveResources(ctx, user, resources[:1]))
		equal(t, "the resources", readResources(t, s, user, connect.ResourceQuery{PageSize: 10}), resources[:1])
	}},
}
