package setup

import (
	"context"
	"errors"
	"time"

	"gcpconnect/shared/connect"
)

const stepGrant = "grant-access"

// freshFor is how long a service account can be unknown to the rest of Google
// after it was made (60 s and more; twice that is given).
const freshFor = 2 * time.Minute

// freshWait is how long to wait before asking again for an account that
// Google does not know yet.
const freshWait = 5 * time.Second

// grantAccess lets the user (and Aurora's own account, where configured)
// impersonate the two accounts, and gives the two accounts their roles in
// every project. One project's refusal never touches the others.
func grantAccess(ctx context.Context, r *Run) error {
	if err := r.grantImpersonation(ctx); err != nil {
		return err
	}
	grants := grantsOf(r.Setup.Accounts, &r.Settings)
	err := r.each(ctx,
		func(p *connect.Project) bool { return p.Access == "" },
		func(ctx context.Context, p *connect.Project) error {
			changed, err := projectPolicy(r.user, r.ledger, p.ID).ensure(ctx, access(r.Setup.UserID, grants, true))
			if err != nil {
				err = r.notYet(err, false)
				p.Access = r.outcome(err)
				return accessError(p.ID, err)
			}
			p.Access = connect.OutcomeUnchanged
			if changed {
				p.Access = connect.OutcomeChanged
			}
			return nil
		})
	if err != nil {
		return err
	}
	r.ledger.settle(aboutAccounts)
	var connected []connect.ConnectedProject
	for _, p := range r.Setup.Projects {
		if p.Access.OK() {
			connected = append(connected, connect.ConnectedProject{ID: p.ID, Number: p.Number, Name: p.Name, Enabled: true})
		}
	}
	if len(connected) == 0 {
		return Stop(CodeAccess, "Aurora full-access setup had errors: access could be granted in none of the projects. "+firstError(r.Setup))
	}
	r.onCommit = append(r.onCommit, func(c *connect.Connection) { c.Merge(connected) })
	return nil
}

// grantImpersonation lets the user and the platform mint tokens of the two
// accounts: on the accounts themselves, never on a project.
func (r *Run) grantImpersonation(ctx context.Context) error {
	a := r.Setup.Accounts
	grants := impersonators(r.Connection, &r.Settings)
	emails := []string{a.Agent, a.Ask}
	err := concurrently(ctx, len(emails), func(ctx context.Context, i int) error {
		_, err := accountPolicy(r.user, r.ledger, a.RootProject, emails[i]).ensure(ctx, adding(grants))
		return wrap(r.notYet(err, true), "let the user impersonate %s", emails[i])
	})
	if err == nil || errors.As(err, new(later)) || retryable(err) || connect.CodeOf(err) == connect.NeedsReauth {
		return err
	}
	return Stop(CodeAccounts, "Aurora full-access setup had errors: the service accounts in project "+a.RootProject+" could not be made usable: "+
		connect.MessageOf(err)+" You need Service Account Admin there. Then retry.")
}

// impersonators are the user and, where configured, the platform.
func impersonators(c *connect.Connection, settings *Settings) []grant {
	grants := []grant{{tokenCreator, "user:" + c.Email}}
	if settings.PlatformAccount != "" {
		grants = append(grants, grant{tokenCreator, serviceAccountMember(settings.PlatformAccount)})
	}
	return grants
}

// notYet turns what Google answers about an account that was just made into
// Later: that it does not exist, or, where the account itself is asked for,
// that access to it is denied.
func (r *Run) notYet(err error, itself bool) error {
	if time.Since(r.Setup.AccountsAt) > freshFor {
		return err
	}
	code := connect.CodeOf(err)
	if connect.ReasonOf(err) == ReasonMemberMissing || itself && (code == connect.NotFound || code == connect.Forbidden) {
		return Later(freshWait)
	}
	return err
}

// accessError puts an error of granting into words that say what to do.
func accessError(projectID string, err error) error {
	const doing = "Access could not be granted in project "
	switch connect.ReasonOf(err) {
	case ReasonDomainRestricted:
		return &connect.Error{
			Code: connect.Precondition, Reason: ReasonDomainRestricted, Err: err,
			Message: doing + projectID + ": an organization policy (iam.allowedPolicyMemberDomains) forbids a member of its access policy. Allow the member's domain, or remove the member, then retry.",
		}
	case ReasonMemberMissing:
		return explain(err, doing+projectID+": its access policy names a member that no longer exists: ", map[connect.Code]string{
			connect.Invalid: "Remove that member from the policy, then retry.",
		})
	}
	return explain(err, doing+projectID+": ", map[connect.Code]string{
		connect.Forbidden: "Ask for Owner, or Project IAM Admin, on the project, then retry.",
	})
}

// firstError is what a person is told when every project failed.
func firstError(s *connect.Setup) string {
	for _, p := range s.Projects {
		for _, e := range p.Errors {
			if e.Step == s.Step {
				return e.Message
			}
		}
	}
	return "Select projects that you administer, then retry."
}
