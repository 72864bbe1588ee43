package connecttest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gcpconnect/shared/connect"
)

// newChange returns a change with every field filled.
func newChange(userID, id string) connect.Change {
	c := filled[connect.Change]("change")
	c.ID, c.UserID = id, userID
	return c
}

// ledgerOf returns n changes, oldest first, three of each point in time, of
// two setups and three states.
func ledgerOf(userID string, n int) []connect.Change {
	var changes []connect.Change
	for i := range n {
		c := newChange(userID, connect.Hash(fmt.Sprint(i))[:40])
		c.PlannedAt = firstTime.Add(time.Duration(i/3) * time.Microsecond)
		c.SetupID = []string{"one", "two"}[i%2]
		c.ProjectID = []string{"red", "green", "blue", "white", "black"}[i%5]
		c.State = []connect.ChangeState{connect.ChangePlanned, connect.ChangeDone, connect.ChangeUndone}[i%3]
		changes = append(changes, c)
	}
	return changes
}

// wantLedger checks that got is all of want, each once, newest first. The
// order of changes of the same time is the adapter's.
func wantLedger(t *testing.T, got, want []connect.Change) {
	t.Helper()
	if !slices.IsSortedFunc(got, func(a, b connect.Change) int { return b.PlannedAt.Compare(a.PlannedAt) }) {
		t.Error("the ledger is not ordered newest first")
	}
	equal(t, "the ledger", byID(got), byID(want))
}

func byID(changes []connect.Change) []connect.Change {
	return slices.SortedFunc(slices.Values(changes), func(a, b connect.Change) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
}

// readLedger reads all pages of that size.
func readLedger(t *testing.T, s connect.Store, userID string, q connect.ChangeQuery) []connect.Change {
	t.Helper()
	return allPages(t, q.PageSize, func(token string) ([]connect.Change, string, error) {
		q.PageToken = token
		return s.Changes(t.Context(), userID, q)
	})
}

var changeCases = []storeCase{
	{"a new user's ledger is empty and has one page", func(t *testing.T, s connect.Store) {
		page, next, err := s.Changes(t.Context(), newUser(), connect.ChangeQuery{})
		ok(t, err)
		if len(page) != 0 || next != "" {
			t.Errorf("the page is %v, the next one %q", page, next)
		}
	}},
	{"every field of a change survives", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		full, empty := newChange(user, "full"), connect.Change{ID: "empty", UserID: user}
		ok(t, s.SaveChanges(ctx, user, []connect.Change{full, empty}))
		page, _, err := s.Changes(ctx, user, connect.ChangeQuery{})
		ok(t, err)
		equal(t, "the ledger", page, []connect.Change{full, empty})
	}},
	{"changes are read by their IDs, those that there are", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 300)
		ok(t, s.SaveChanges(ctx, user, changes))
		ok(t, s.SaveChanges(ctx, newUser(), []connect.Change{newChange("another", "theirs")}))
		ids := []string{"missing", "theirs"}
		for _, c := range changes[20:270] {
			ids = append(ids, c.ID)
		}
		got, err := s.ChangesByID(ctx, user, ids)
		ok(t, err)
		equal(t, "the changes", byID(got), byID(changes[20:270]))
		odd := changes[0]
		odd.ID = "a/b é"
		ok(t, s.SaveChanges(ctx, user, []connect.Change{odd}))
		got, err = s.ChangesByID(ctx, user, []string{odd.ID, "none"})
		ok(t, err)
		equal(t, "the change of an odd ID", got, []connect.Change{odd})
		none, err := s.ChangesByID(ctx, user, nil)
		ok(t, err)
		if len(none) != 0 {
			t.Errorf("no IDs are %d changes", len(none))
		}
	}},
	{"changes are counted by setup, project and state, on all pages", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 12)
		for i := range changes {
			changes[i].SetupID, changes[i].ProjectID, changes[i].State = "one", "a", connect.ChangeDone
			if i%2 == 1 {
				changes[i].SetupID = "other"
			}
			if i%3 == 1 {
				changes[i].ProjectID = "b"
			}
			if i < 4 {
				changes[i].State = connect.ChangePlanned
			}
		}
		ok(t, s.SaveChanges(ctx, user, changes))
		for q, want := range map[connect.ChangeQuery]int{
			{}: 12, {PageSize: 5}: 12, {SetupID: "one"}: 6, {ProjectID: "b"}: 4, {State: connect.ChangePlanned}: 4,
			{SetupID: "one", State: connect.ChangeDone}: 4, {SetupID: "one", ProjectID: "b", State: connect.ChangeDone}: 2, {SetupID: "none"}: 0,
		} {
			n, err := s.CountChanges(ctx, user, q)
			ok(t, err)
			if n != want {
				t.Errorf("%+v counts %d, want %d", q, n, want)
			}
		}
		n, err := s.CountChanges(ctx, newUser(), connect.ChangeQuery{})
		ok(t, err)
		if n != 0 {
			t.Errorf("a new user has %d", n)
		}
	}},
	{"saving nothing is no error", func(t *testing.T, s connect.Store) {
		ok(t, s.SaveChanges(t.Context(), newUser(), nil))
	}},
	{"a change saved again under its ID replaces the one before", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 9)
		ok(t, s.SaveChanges(ctx, user, changes))
		changes[4].State, changes[4].UndoneAt = connect.ChangeUndone, firstTime.Add(time.Hour)
		changes[5].Role = ""
		changes[6].PlannedAt = firstTime.Add(time.Hour) // moves to the top
		ok(t, s.SaveChanges(ctx, user, changes[4:7]))
		wantLedger(t, readLedger(t, s, user, connect.ChangeQuery{PageSize: 4}), changes)
	}},
	{"1,201 changes are saved in one call, and read over pages, newest first, each once", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 1201)
		ok(t, s.SaveChanges(ctx, user, changes))
		large := readLedger(t, s, user, connect.ChangeQuery{PageSize: 1000})
		wantLedger(t, large, changes)
		equal(t, "the ledger in small pages", readLedger(t, s, user, connect.ChangeQuery{PageSize: 150}), large)
	}},
	{"a page has 100 entries unless another size is asked for, and the last has no next", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		ok(t, s.SaveChanges(ctx, user, ledgerOf(user, 200)))
		first, next, err := s.Changes(ctx, user, connect.ChangeQuery{})
		ok(t, err)
		second, end, err := s.Changes(ctx, user, connect.ChangeQuery{PageToken: next})
		ok(t, err)
		if len(first) != 100 || next == "" || len(second) != 100 || end != "" {
			t.Errorf("200 changes came as %d, next %q, and %d, next %q", len(first), next, len(second), end)
		}
	}},
	{"what is added between two pages neither repeats nor hides an entry", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 20)
		ok(t, s.SaveChanges(ctx, user, changes))
		added := false
		got := allPages(t, 7, func(token string) ([]connect.Change, string, error) {
			page, next, err := s.Changes(ctx, user, connect.ChangeQuery{PageSize: 7, PageToken: token})
			if !added {
				added = true
				newer := newChange(user, "newer")
				newer.PlannedAt = firstTime.Add(time.Hour)
				ok(t, s.SaveChanges(ctx, user, []connect.Change{newer}))
			}
			return page, next, err
		})
		wantLedger(t, got, changes)
	}},
	{"entries can be marked while the ledger is read", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 20)
		ok(t, s.SaveChanges(ctx, user, changes))
		got := allPages(t, 7, func(token string) ([]connect.Change, string, error) {
			page, next, err := s.Changes(ctx, user, connect.ChangeQuery{PageSize: 7, PageToken: token})
			undone := slices.Clone(page)
			for i := range undone {
				undone[i].State = connect.ChangeUndone
			}
			ok(t, s.SaveChanges(ctx, user, undone))
			return page, next, err
		})
		wantLedger(t, got, changes)
	}},
	{"entries that leave a filter while it is read do not hide others", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 30)
		ok(t, s.SaveChanges(ctx, user, changes))
		got := allPages(t, 4, func(token string) ([]connect.Change, string, error) {
			page, next, err := s.Changes(ctx, user, connect.ChangeQuery{State: connect.ChangeDone, PageSize: 4, PageToken: token})
			undone := slices.Clone(page)
			for i := range undone {
				undone[i].State = connect.ChangeUndone
			}
			ok(t, s.SaveChanges(ctx, user, undone))
			return page, next, err
		})
		wantLedger(t, got, slices.DeleteFunc(changes, func(c connect.Change) bool { return c.State != connect.ChangeDone }))
	}},
	{"the filters by setup, by project and by state select alone and together, over pages", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 60)
		ok(t, s.SaveChanges(ctx, user, changes))
		for _, setup := range []string{"", "one", "other"} {
			for _, state := range []connect.ChangeState{"", connect.ChangeDone, "other"} {
				for _, project := range []string{"", "green"} {
					got := readLedger(t, s, user, connect.ChangeQuery{SetupID: setup, ProjectID: project, State: state, PageSize: 5})
					want := slices.DeleteFunc(slices.Clone(changes), func(c connect.Change) bool {
						return setup != "" && c.SetupID != setup || state != "" && c.State != state || project != "" && c.ProjectID != project
					})
					wantLedger(t, got, want)
				}
			}
		}
	}},
	{"an impossible page size or token is Invalid, and the message names it", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		ok(t, s.SaveChanges(ctx, user, ledgerOf(user, 3)))
		refusesBadPages(t, func(size int, token string) (string, error) {
			_, next, err := s.Changes(ctx, user, connect.ChangeQuery{PageSize: size, PageToken: token})
			return next, err
		})
	}},
	{"a caller may change what it saved and read", func(t *testing.T, s connect.Store) {
		ctx, user := t.Context(), newUser()
		changes := ledgerOf(user, 3)
		ok(t, s.SaveChanges(ctx, user, changes))
		scramble(&changes)
		page, _, err := s.Changes(ctx, user, connect.ChangeQuery{})
		ok(t, err)
		wantLedger(t, page, ledgerOf(user, 3))
		scramble(&page)
		page, _, err = s.Changes(ctx, user, connect.ChangeQuery{})
		ok(t, err)
		wantLedger(t, page, ledgerOf(user, 3))
	}},
}
