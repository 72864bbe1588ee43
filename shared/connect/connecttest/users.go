package connecttest

import (
	"fmt"
	"strings"
	"testing"

	"gcpconnect/shared/connect"
)

// oddUsers returns new user IDs of every shape that an identity provider's
// subject may have. Some differ in nothing but what a careless encoding drops.
func oddUsers() []string {
	id := connect.NewID()
	return []string{
		id, strings.ToLower(id), id + "/", "/" + id, id + "/a", id + "_a", id + "-a", id + ".a", id + "%2Fa", id + "%252Fa", id + "//a",
		id + " a", id + "+a", " " + id, id + " ", id + "|a", id + ":a", id + "@example.com", "../" + id, "./" + id, "__" + id + "__",
		id + "ü", id + "u\u0308", id + "☁", id + "\"'`\\<>{}[]#?&=*~\t\n", strings.Repeat(id, 80), strings.Repeat(id, 80) + "2",
	}
}

var userCases = []storeCase{
	{"a user's ID may be any text, and no two share anything", func(t *testing.T, s connect.Store) {
		ctx, users := t.Context(), oddUsers()
		for i, user := range users {
			_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				equal(t, fmt.Sprintf("the new connection of %.60q", user), c, &connect.Connection{UserID: user})
				c.Generation, c.Version = int64(i+1), connect.SchemaVersion
				return nil, nil
			})
			ok(t, err)
			ok(t, s.SaveChanges(ctx, user, []connect.Change{newChange(user, fmt.Sprint("change", i))}))
			ok(t, s.SaveResources(ctx, user, []connect.Resource{newResource(fmt.Sprint("resource", i))}))
			_, _, err = s.UpdateDiscovery(ctx, user, "project", func(_ *connect.Connection, d *connect.Discovery) error {
				d.Run = fmt.Sprint("run", i)
				return nil
			})
			ok(t, err)
		}
		for i, user := range users {
			c, err := s.Connection(ctx, user)
			ok(t, err)
			equal(t, "the connection", c, &connect.Connection{UserID: user, Generation: int64(i + 1), Version: connect.SchemaVersion})
			changes, _, err := s.Changes(ctx, user, connect.ChangeQuery{})
			ok(t, err)
			equal(t, "the ledger", changes, []connect.Change{newChange(user, fmt.Sprint("change", i))})
			resources, _, err := s.Resources(ctx, user, connect.ResourceQuery{})
			ok(t, err)
			equal(t, "the resources", resources, []connect.Resource{newResource(fmt.Sprint("resource", i))})
			discoveries, err := s.Discoveries(ctx, user)
			ok(t, err)
			equal(t, "the discoveries", discoveries, []connect.Discovery{{UserID: user, ProjectID: "project", Run: fmt.Sprint("run", i)}})
		}
	}},
	{"things with the same ID of two users are two things", func(t *testing.T, s connect.Store) {
		ctx, mine, theirs := t.Context(), newUser(), newUser()
		for _, user := range []string{mine, theirs} {
			ok(t, s.SaveChanges(ctx, user, []connect.Change{newChange(user, "same")}))
			r := newResource("same")
			r.Name = user
			ok(t, s.SaveResources(ctx, user, []connect.Resource{r}))
			_, _, err := s.UpdateDiscovery(ctx, user, "same", func(_ *connect.Connection, d *connect.Discovery) error {
				d.Run = user
				return nil
			})
			ok(t, err)
		}
		ok(t, s.DeleteResources(ctx, mine, connect.ResourceFilter{}))
		ok(t, s.DeleteDiscoveries(ctx, mine, 1))

		changes, _, err := s.Changes(ctx, mine, connect.ChangeQuery{})
		ok(t, err)
		equal(t, "my ledger", changes, []connect.Change{newChange(mine, "same")})
		resources, _, err := s.Resources(ctx, theirs, connect.ResourceQuery{})
		ok(t, err)
		if len(resources) != 1 || resources[0].Name != theirs {
			t.Errorf("another user's resources are %v after mine were deleted", resources)
		}
		discoveries, err := s.Discoveries(ctx, theirs)
		ok(t, err)
		equal(t, "another user's discoveries", discoveries, []connect.Discovery{{UserID: theirs, ProjectID: "same", Run: theirs}})
	}},
	{"a page token of one user shows nothing of them to another", func(t *testing.T, s connect.Store) {
		ctx, mine, theirs := t.Context(), newUser(), newUser()
		ok(t, s.SaveResources(ctx, theirs, []connect.Resource{newResource("a"), newResource("b"), newResource("c")}))
		_, next, err := s.Resources(ctx, theirs, connect.ResourceQuery{PageSize: 1})
		ok(t, err)
		page, _, err := s.Resources(ctx, mine, connect.ResourceQuery{PageSize: 1, PageToken: next})
		if err == nil && len(page) > 0 {
			t.Errorf("the page is %v", page)
		}
	}},
}
