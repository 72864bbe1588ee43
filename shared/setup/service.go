package setup

import (
	"cmp"
	"context"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// Service is what users ask of their connection. Methods return errors with
// messages for people.
type Service struct{ Parts }

// errNotConnected says what to do about a missing connection.
func errNotConnected() error {
	return connect.Errorf(connect.NotFound, "Google Cloud is not connected. Connect it first.")
}

func errRunning() error {
	return connect.Errorf(connect.Conflict, "A setup is running. Wait until it has ended, or disconnect.")
}

// newSetup makes a setup of a kind for c and points c at it. It runs in
// transactions' closures.
func newSetup(c *connect.Connection, id string, kind connect.Kind, now time.Time) *connect.Setup {
	made := &connect.Setup{
		ID: id, UserID: c.UserID, Generation: c.Generation, Kind: kind,
		State: connect.StatePending, Step: Chain(kind)[0].Name, CreatedAt: now,
		ExpireAt: now.Add(connect.SetupLifetime),
	}
	if c.BusyUntil.After(now) {
		made.DueAt = c.BusyUntil
	}
	made.Move(now)
	c.SetupID = made.ID
	return made
}

// lookTimeout bounds a second look after a time-out, and startTimeout what
// starting a setup may take beyond the caller's time.
const (
	lookTimeout  = 5 * time.Second
	startTimeout = 15 * time.Second
)

// stands reports whether a setup was made although the answer was that the
// store is unavailable: the answer came too late, or not at all. Then it must
// be started, or its user waits for nothing.
func (s *Service) stands(ctx context.Context, made *connect.Setup, err error) bool {
	if made == nil || connect.CodeOf(err) != connect.Unavailable {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	_, failed := s.Store.Setup(ctx, made.ID)
	return failed == nil
}

// start enqueues the first task of a setup. Where the queue is down the setup
// stands all the same, and the next sweep enqueues it.
func (s *Service) start(ctx context.Context, made *connect.Setup) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	enqueuing, cancel := context.WithTimeout(ctx, startTimeout/2)
	defer cancel()
	err := s.enqueue(enqueuing, made)
	if err == nil {
		return
	}
	s.Log.WarnContext(ctx, "setup waits for the sweep to start it", "setup", made.ID, "error", err)
	_, _, err = s.Store.UpdateSetup(ctx, made.ID, func(_ *connect.Connection, x *connect.Setup) error {
		if x.State == connect.StatePending {
			x.StallsAt = time.Now()
		}
		return nil
	})
	if err != nil { // then it stalls when all do
		s.Log.WarnContext(ctx, "setup that was not enqueued could not be marked", "setup", made.ID, "error", err)
	}
}

// connection returns the user's connection if it stands.
func (s *Service) connection(ctx context.Context, userID string) (*connect.Connection, error) {
	c, err := s.Store.Connection(ctx, userID)
	if connect.CodeOf(err) == connect.NotFound || err == nil && !c.Connected {
		return nil, errNotConnected()
	}
	return c, err
}

// as returns Google as the user sees it.
func (s *Service) as(c *connect.Connection) Cloud { return s.Google.As(s.Tokens.User(c.Tokens)) }

// Restart starts a setup of the selected projects, or, with none selected, of
// those that did not succeed in the last one. Conflict: a setup is running.
func (s *Service) Restart(ctx context.Context, userID string, selected []string) (*connect.Setup, error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return nil, err
	}
	if err := s.checkSize(selected); err != nil {
		return nil, err
	}
	if err := s.idle(ctx, c); err != nil {
		return nil, err // before Google is asked for anything
	}
	billing := map[string]bool{} // what is read now is not read again by the first step
	if len(selected) > 0 {
		if _, err := s.find(ctx, c, selected); err != nil {
			return nil, err
		}
		for _, id := range selected {
			billing[id] = true // or find had refused it
		}
	}
	return s.begin(ctx, c, func(_ *connect.Connection, made, current *connect.Setup) error {
		made.Selected, made.Billing = selected, billing
		if len(selected) > 0 {
			return nil
		}
		var err error
		made.Selected, err = unfinished(current)
		return err
	})
}

// idle fails with Conflict while a setup of c is running.
func (s *Service) idle(ctx context.Context, c *connect.Connection) error {
	current, err := s.Store.Setup(ctx, c.SetupID)
	switch {
	case connect.CodeOf(err) == connect.NotFound:
		return nil
	case err != nil:
		return err
	case running(current):
		return errRunning()
	}
	return nil
}

// running reports whether a setup is under way, and not stalled.
func running(s *connect.Setup) bool {
	return s != nil && !s.State.Ended() && !s.Stalled(time.Now())
}

// begin makes a setup for the connection as c was read, unless one is running
// or the connection is another by now.
func (s *Service) begin(ctx context.Context, c *connect.Connection, fill func(now *connect.Connection, made, current *connect.Setup) error) (*connect.Setup, error) {
	var made, over *connect.Setup
	_, err := s.Store.UpdateConnection(ctx, c.UserID, func(now *connect.Connection, current *connect.Setup) (*connect.Setup, error) {
		at := time.Now()
		over = nil
		if current != nil && current.Stalled(at) { // its task is lost, and the user is here first
			current.End(connect.StateFailed, CodeBroken, textStalled, at)
			over = current
		}
		switch {
		case !now.Connected || now.Generation != c.Generation:
			return nil, errNotConnected()
		case now.NeedsReauth:
			return nil, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
		case current != nil && !current.State.Ended():
			return nil, errRunning()
		}
		made = newSetup(now, connect.NewID(), connect.KindSetup, at)
		return made, fill(now, made, current)
	})
	if err != nil && !s.stands(ctx, made, err) {
		return nil, err
	}
	s.Measures.ended(ctx, over)
	s.start(ctx, made)
	return made, nil
}

// unfinished are the projects that did not succeed in a setup.
func unfinished(s *connect.Setup) ([]string, error) {
	switch {
	case s == nil:
		return nil, nil // nothing is known of it any more: all eligible ones
	case s.State == connect.StateNeedsSelection:
		return nil, connect.Errorf(connect.Invalid, "selected_project_ids is required: choose the projects that Aurora may manage.")
	case s.State == connect.StateFailed && len(s.Projects) == 0:
		return s.Selected, nil
	}
	var all, failed []string
	for _, p := range s.Projects {
		all = append(all, p.ID)
		if !p.Verified || len(p.Errors) > 0 {
			failed = append(failed, p.ID)
		}
	}
	switch {
	case len(failed) > 0:
		return failed, nil
	case s.State != connect.StateSucceeded: // it broke after the projects' own work
		return all, nil
	}
	return nil, connect.Errorf(connect.Invalid, "Every project of the last setup succeeded: there is nothing to retry. Name projects in selected_project_ids to add some.")
}

// checkSize refuses more projects than may be selected.
func (s *Service) checkSize(selected []string) error {
	if len(selected) > s.Settings.MaxSelected {
		return connect.Errorf(connect.Invalid, "selected_project_ids holds %d projects; at most %d may be selected.", len(selected), s.Settings.MaxSelected)
	}
	return nil
}

// find finds the projects that a setup can be made of. Those that are selected
// must all be visible, active and billed.
func (s *Service) find(ctx context.Context, c *connect.Connection, selected []string) (*foundProjects, error) {
	found, busy, err := findProjects(ctx, s.as(c), &s.Settings, selected, map[string]bool{})
	if err = cmp.Or(err, busy); err != nil {
		return nil, s.noted(ctx, c, err)
	}
	var bad []string
	for _, id := range selected {
		switch {
		case !found.isActive(id):
			bad = append(bad, id+" (not visible or not active)")
		case !found.isEligible(id):
			bad = append(bad, id+" (no active billing)")
		}
	}
	if len(bad) > 0 {
		return nil, connect.Errorf(connect.Invalid, "selected_project_ids holds projects that cannot be set up: %s.", strings.Join(bad, ", "))
	}
	return found, nil
}

// noted says what an error of Google's means for the user who asked: that Google
// did not take a token does not make them unauthenticated here, nor is what
// Google misses or takes for wrong something that they had sent. If it says that
// they must consent again, that is recorded on the connection.
func (s *Service) noted(ctx context.Context, c *connect.Connection, err error) error {
	switch connect.CodeOf(err) {
	case connect.Unauthenticated, connect.Conflict: // which pass, see retryable
		return connect.Errorf(connect.Unavailable, "%s", connect.MessageOf(err)).Because(err)
	case connect.Invalid, connect.NotFound:
		return connect.Errorf(connect.Precondition, "%s", connect.MessageOf(err)).Because(err)
	case connect.NeedsReauth:
	default:
		return err
	}
	_, storeErr := s.Store.UpdateConnection(ctx, c.UserID, func(now *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		if now.Generation == c.Generation {
			now.NeedsReauth = true
		}
		return nil, nil
	})
	if storeErr != nil {
		s.Log.WarnContext(ctx, "connection could not be marked for re-authentication", "error", storeErr)
	}
	return err
}

// ChooseRoot makes a project of the connection its root project: the
// preference is kept and a setup of the connection's own projects moves the
// service accounts' work there.
func (s *Service) ChooseRoot(ctx context.Context, userID, projectID string) (*connect.Setup, error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return nil, err
	}
	if err := s.idle(ctx, c); err != nil {
		return nil, err
	}
	if len(c.Projects) == 0 {
		return nil, connect.Errorf(connect.Conflict, "No project is set up yet. Select projects first.")
	}
	if c.Project(projectID) == nil {
		return nil, connect.Errorf(connect.Invalid, "project_id %q is not one of the connection's projects. Select it first.", projectID)
	}
	cloud := s.as(c)
	enabled, err := cloud.BillingEnabled(ctx, projectID)
	if err == nil && !enabled {
		return nil, connect.Errorf(connect.Invalid, "project_id %q has no active billing. Link a billing account to it first.", projectID)
	}
	var granted []string
	if err == nil {
		granted, err = cloud.TestPermissions(ctx, projectID, rootPermissions)
	}
	switch code := connect.CodeOf(err); {
	case code == connect.Forbidden || code == connect.NotFound:
		return nil, connect.Errorf(connect.Invalid, "project_id %q is not visible to the connected Google account.", projectID).Because(err)
	case err != nil:
		return nil, s.noted(ctx, c, err)
	}
	if missing := without(rootPermissions, granted); len(missing) > 0 {
		return nil, connect.Errorf(connect.Invalid, "project_id %q cannot hold the service accounts: you lack %s there. Ask for Service Account Admin.", projectID, strings.Join(missing, ", "))
	}
	return s.begin(ctx, c, func(now *connect.Connection, made, _ *connect.Setup) error {
		now.PreferredRoot, made.PreferredRoot = projectID, projectID
		for _, p := range now.Projects {
			if p.Enabled || p.ID == projectID { // access that was taken away stays away
				made.Selected = append(made.Selected, p.ID)
			}
		}
		return nil
	})
}

// Rediscover runs the discovery of the connection's projects again.
func (s *Service) Rediscover(ctx context.Context, userID string) (projects int, err error) {
	c, err := s.connection(ctx, userID)
	if err != nil {
		return 0, err
	}
	if err := s.idle(ctx, c); err != nil {
		return 0, err
	}
	var ids []string
	for _, p := range c.Projects {
		if p.Enabled {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return 0, connect.Errorf(connect.Conflict, "No project is set up. Select projects first.")
	}
	return len(ids), s.enqueueDiscovery(ctx, userID, c.Generation, runName(time.Now(), connect.NewID()), ids)
}
