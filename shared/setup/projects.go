package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// ListedProject is a project as its user sees it.
type ListedProject struct {
	CloudProject
	BillingEnabled bool
	Root           bool
}

// Available reports whether Aurora can be set up in the project.
func (p ListedProject) Available() bool { return p.State == "ACTIVE" && p.BillingEnabled }

// Projects lists the projects that the user sees at Google, ordered by ID,
// and the connection's root project.
func (s *Service) Projects(ctx context.Context, userID string) (projects []ListedProject, root string, err error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return nil, "", err
	}
	cloud := s.as(c)
	all, err := cloud.Projects(ctx)
	if err != nil {
		return nil, "", s.noted(ctx, c, err)
	}
	active := activeProjects(all, s.Settings.IncludeSysProjects)
	billing, err := readBilling(ctx, cloud, active, map[string]bool{})
	if err != nil {
		return nil, "", s.noted(ctx, c, err)
	}
	for _, p := range active {
		projects = append(projects, ListedProject{p, billing[p.ID].enabled, p.ID == c.Accounts.RootProject})
	}
	return projects, c.Accounts.RootProject, nil
}

// ProjectAccess is whether Aurora's accounts have access to a project.
type ProjectAccess struct {
	ID, Name      string
	Enabled       bool // both accounts hold all their roles, at Google
	HasPermission bool // the user may change the project's access policy
	Root          bool
}

// Access reads the access of Aurora's accounts to each of the connection's
// projects.
func (s *Service) Access(ctx context.Context, userID string) ([]ProjectAccess, string, error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return nil, "", err
	}
	cloud := s.as(c)
	grants := grantsOf(c.Accounts, &s.Settings)
	projects := make([]ProjectAccess, len(c.Projects))
	err = concurrently(ctx, len(projects), func(ctx context.Context, i int) error {
		known := c.Projects[i]
		p := &projects[i]
		*p = ProjectAccess{ID: known.ID, Name: known.Name, Root: known.ID == c.Accounts.RootProject}
		policy, err := cloud.Policy(ctx, known.ID)
		if connect.CodeOf(err) == connect.Forbidden {
			p.Enabled = known.Enabled // as far as is known: the user may no longer look
			return nil
		}
		if err != nil {
			return wrap(err, "read the policy of %s", known.ID)
		}
		p.Enabled = holds(policy, grants)
		granted, err := cloud.TestPermissions(ctx, known.ID, []string{"resourcemanager.projects.setIamPolicy"})
		p.HasPermission = len(granted) == 1
		return wrap(err, "test permissions in %s", known.ID)
	})
	if err != nil {
		return nil, "", s.noted(ctx, c, err)
	}
	slices.SortFunc(projects, func(a, b ProjectAccess) int { return strings.Compare(a.ID, b.ID) })
	return projects, c.Accounts.RootProject, nil
}

// AccessChange asks for a project's access to be as Enabled says, and holds
// its outcome.
type AccessChange struct {
	ID      string
	Enabled bool
	Err     error // why it is not so
}

// accessTimeout bounds changes to the access of projects, and accessHold is for
// how long after their beginning setups and removals that are made meanwhile
// wait. It is longer, as a lease is: no call is at work any more when another
// begins. Both are shorter than the function's own limit.
const (
	accessTimeout = 70 * time.Second
	accessHold    = 80 * time.Second
)

// SetAccess gives or takes the roles of Aurora's accounts in the connection's
// projects. What stands already is not written. It returns each change with
// its own outcome; the error is of what kept all of them from being tried.
func (s *Service) SetAccess(ctx context.Context, userID string, changes []AccessChange) ([]AccessChange, error) {
	held := time.Now().Add(accessHold).Truncate(time.Microsecond) // as a store keeps it
	working, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	var before time.Time // until when another change like this may be at work
	c, err := s.Store.UpdateConnection(working, userID, func(now *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		switch {
		case !now.Connected:
			return nil, errNotConnected()
		case running(current):
			return nil, errRunning()
		}
		for i, change := range changes {
			if now.Project(change.ID) == nil {
				return nil, connect.Errorf(connect.Invalid, "projects[%d].projectId %q is not one of the connection's projects. Select it first.", i, change.ID)
			}
		}
		before = now.BusyUntil
		now.WaitUntil(held)
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	worked := s.changeAccess(working, c, changes)
	// What it came to is recorded even when its own time is up.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	_, err = s.Store.UpdateConnection(ctx, userID, func(now *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		if now.Generation != c.Generation {
			return nil, errNotConnected()
		}
		if now.BusyUntil.Equal(held) {
			now.BusyUntil = before
		}
		now.NeedsReauth = now.NeedsReauth || connect.CodeOf(worked) == connect.NeedsReauth
		for _, change := range changes {
			if p := now.Project(change.ID); p != nil && worked == nil && change.Err == nil {
				p.Enabled = change.Enabled
			}
		}
		return nil, nil
	})
	switch {
	case worked != nil:
		return nil, worked
	case err != nil:
		return nil, fmt.Errorf("record access: %w", err)
	}
	return changes, nil
}

// changeAccess makes changes at Google, and notes in each why it could not be
// made. It fails when that is the user's tokens.
func (s *Service) changeAccess(ctx context.Context, c *connect.Connection, changes []AccessChange) error {
	cloud := s.as(c)
	grants := grantsOf(c.Accounts, &s.Settings)
	book := &ledger{store: s.Store, userID: c.UserID, salt: connect.NewID(), last: true}
	return concurrently(ctx, len(changes), func(ctx context.Context, i int) error {
		change := &changes[i]
		_, err := projectPolicy(cloud, book, change.ID).ensure(ctx, access(c.UserID, grants, change.Enabled))
		if connect.CodeOf(err) == connect.NeedsReauth {
			return err
		}
		change.Err = s.noted(ctx, c, accessError(change.ID, err)) // kept beside its project
		return nil
	})
}
