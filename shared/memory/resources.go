package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"gcpconnect/shared/connect"
)

// inventory is a user's resources, one shelf per project: discovery saves and
// deletes project by project, and must not pay for all the others each time.
type inventory struct {
	projects map[string]*shelf[connect.Resource]
	home     map[string]string // resource ID -> project: an ID is there once
}

// inOrder orders resources by project, type, name and ID.
func inOrder(a, b *connect.Resource) int {
	return cmp.Or(cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
}

func (i *inventory) put(r connect.Resource) {
	if i.projects == nil {
		i.projects, i.home = map[string]*shelf[connect.Resource]{}, map[string]string{}
	}
	if home, found := i.home[r.ID]; found && home != r.ProjectID {
		i.remove(home, r.ID)
	}
	if i.projects[r.ProjectID] == nil {
		i.projects[r.ProjectID] = &shelf[connect.Resource]{compare: inOrder}
	}
	i.projects[r.ProjectID].put(r.ID, r)
	i.home[r.ID] = r.ProjectID
}

func (i *inventory) remove(project, id string) {
	i.projects[project].remove(id)
	delete(i.home, id)
	if len(i.projects[project].byID) == 0 {
		delete(i.projects, project)
	}
}

// from returns the names of the projects, in order: the one that is asked for
// or all, without those before first.
func (i *inventory) from(asked, first string) []string {
	var names []string
	for name := range maps.Keys(i.projects) {
		if name >= first && (asked == "" || name == asked) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// SaveResources writes discovered resources. Of two with the same ID the
// later stands.
func (s *Store) SaveResources(ctx context.Context, userID string, resources []connect.Resource) error {
	if err := alive(ctx); err != nil {
		return err
	}
	for _, r := range resources {
		if r.ID == "" {
			return connect.Errorf(connect.Internal, "A resource without an ID cannot be stored.")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inventory := &s.user(userID).inventory
	for _, r := range resources {
		inventory.put(r.Clone())
	}
	s.counts.Writes += int64(len(resources))
	return nil
}

// Resources returns a page of the user's resources.
func (s *Store) Resources(ctx context.Context, userID string, q connect.ResourceQuery) (page []connect.Resource, next string, err error) {
	if err := alive(ctx); err != nil {
		return nil, "", err
	}
	size, err := connect.PageSize(q.PageSize)
	if err != nil {
		return nil, "", err
	}
	position, err := connect.ParseCursor("resources", q.PageToken)
	if err != nil {
		return nil, "", err
	}
	var last connect.Resource
	if position != nil {
		last = connect.Resource{ProjectID: position.ProjectID, Type: position.Type, Name: position.Name, ID: position.ID}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inventory := &s.user(userID).inventory
	for _, project := range inventory.from(q.ProjectID, last.ProjectID) {
		for _, r := range inventory.projects[project].after(start(project, q.Type, &last)) {
			if q.Type != "" && r.Type != q.Type {
				break // they are ordered by type
			}
			if len(page) == size {
				end := page[size-1]
				next, err = connect.Cursor{Of: "resources", ProjectID: end.ProjectID, Type: end.Type, Name: end.Name, ID: end.ID}.Token()
				s.counts.Reads += int64(len(page))
				return page, next, err
			}
			page = append(page, r.Clone())
		}
	}
	s.counts.Reads += int64(len(page))
	return page, "", nil
}

// start is the position in a project's shelf after which a page begins: where
// the page before ended, or where the type that is asked for begins.
func start(project, kind string, last *connect.Resource) *connect.Resource {
	begin := &connect.Resource{ProjectID: project, Type: kind}
	if inOrder(begin, last) < 0 {
		return last
	}
	return begin
}

// DeleteResources deletes the user's resources that the filter selects.
func (s *Store) DeleteResources(ctx context.Context, userID string, f connect.ResourceFilter) error {
	if err := alive(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inventory := &s.user(userID).inventory
	for _, project := range inventory.from(f.ProjectID, "") {
		for id, r := range inventory.projects[project].byID {
			if f.Run != "" && r.Run != f.Run || f.NotRun != "" && r.Run == f.NotRun {
				continue
			}
			inventory.remove(project, id)
			s.counts.Deletes++
		}
	}
	return nil
}
