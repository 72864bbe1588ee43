package setup

import (
	"context"

	"gcpconnect/shared/connect"
)

// Mode is which of a user's two service accounts acts.
type Mode string

// The modes.
const (
	ModeAgent Mode = "agent" // manages resources
	ModeAsk   Mode = "ask"   // reads them
)

// AccountToken is an access token of a user's service account.
type AccountToken struct {
	connect.AccessToken
	Email     string // of the account
	ProjectID string // that it was asked for
}

// AccountToken returns a token of the user's agent or ask account for work in
// a project of the connection; with no projectID, in its root project. The
// token is good for five minutes or more, and an hour at most. Google limits it
// by the account's roles, which it has in all projects where Aurora has access:
// that the project is one of them is checked here.
//
// NotFound: the user is not connected. Forbidden: Aurora has no access to the
// project. Precondition: the account is not set up, or cannot be used.
// NeedsReauth: only the user could give a token, and must consent again.
func (s *Service) AccountToken(ctx context.Context, userID, projectID string, mode Mode) (AccountToken, error) {
	t := AccountToken{ProjectID: projectID}
	if mode != ModeAgent && mode != ModeAsk {
		return t, connect.Errorf(connect.Invalid, "mode must be %q or %q.", ModeAgent, ModeAsk)
	}
	c, err := s.connection(ctx, userID)
	if err != nil {
		return t, err
	}
	t.Email = c.Accounts.Agent
	if mode == ModeAsk {
		t.Email = c.Accounts.Ask
	}
	if t.ProjectID == "" {
		t.ProjectID = c.Accounts.RootProject
	}
	if t.Email == "" || len(c.Projects) == 0 {
		return t, connect.Errorf(connect.Precondition, "The %s account is not set up yet. Wait until the setup has ended, or run it again.", mode)
	}
	if p := c.Project(t.ProjectID); p == nil || !p.Enabled {
		return t, connect.Errorf(connect.Forbidden, "Aurora has no access to project %q of this user. Enable it first.", t.ProjectID)
	}
	t.AccessToken, err = s.Tokens.account(s.as(c), c.Tokens, t.Email).get(ctx, "")
	if code := connect.CodeOf(err); code == connect.Forbidden || code == connect.NotFound {
		return t, connect.Errorf(connect.Precondition, "The %s account cannot be used now. If the setup has just ended, try again in some minutes; otherwise run it again.", mode).Because(err)
	}
	return t, s.noted(ctx, c, err)
}
