package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// verifyPermissions checks, at once and then at every interval, whether what
// was set has come into force: the APIs are enabled, and the agent account,
// with a token of its own, has its permissions in each project. The task
// queue waits between two checks; no instance does.
func verifyPermissions(ctx context.Context, r *Run) error {
	s := r.Setup
	started := time.Now()
	s.Propagation.Total = r.Settings.MaxChecks
	s.Propagation.Checks++
	// A busy Google in one check is what the next check is for, whatever the
	// queue does. Only the user's dead tokens and a lost lease end the step.
	r.last = false
	problems := []error{r.settleOperations(ctx), r.checkProjects(ctx)}
	if err := ctx.Err(); err != nil {
		s.Propagation.Checks-- // this one counts for nothing
		return errCutOff(err)
	}
	for _, err := range problems {
		if err != nil && (!retryable(err) || errors.Is(err, errLost)) {
			return err
		}
	}
	if r.turned > 0 {
		s.Propagation.Checks-- // nor does one that Google's quotas have cut short
		return Later(r.turned)
	}
	s.Progress = max(s.Progress, 75+15*s.Propagation.Checks/s.Propagation.Total)

	pending := slices.ContainsFunc(s.Projects, func(p connect.Project) bool { return unsettled(&p) || unverified(&p) })
	if pending && s.Propagation.Checks < s.Propagation.Total {
		for _, err := range problems {
			if err != nil && !errors.As(err, new(later)) {
				r.log.InfoContext(ctx, "check did not come through", "check", s.Propagation.Checks, "error", err)
			}
		}
		return Later(max(0, r.Settings.CheckInterval-time.Since(started)))
	}
	return r.concludeChecks(ctx)
}

func unsettled(p *connect.Project) bool  { return p.APIs == connect.OutcomeStarted }
func unverified(p *connect.Project) bool { return p.Access.OK() && !p.Verified }

// settleOperations settles the enabling operations that have had time to end.
func (r *Run) settleOperations(ctx context.Context) error {
	return r.each(ctx,
		func(p *connect.Project) bool {
			return unsettled(p) && time.Since(p.OperationsAt) >= r.Settings.OperationGrace
		},
		func(ctx context.Context, p *connect.Project) error {
			e := r.enabling(p)
			if err := e.settle(ctx); err != nil {
				err = apiError(p.ID, err)
				if p.APIs = r.outcome(err); p.APIs == "" {
					p.APIs = connect.OutcomeStarted // the next check asks again
					return err
				}
				p.Operations = nil
				p.Fail(stepEnable, connect.ProjectError{Code: connect.CodeOf(err), Message: connect.MessageOf(err)})
				return nil
			}
			e.conclude()
			return nil
		})
}

// checkProjects asks each project that is not verified yet, as the agent
// account, for the permissions that its roles give.
func (r *Run) checkProjects(ctx context.Context) error {
	s := r.Setup
	if !slices.ContainsFunc(s.Projects, func(p connect.Project) bool { return unverified(&p) }) {
		return nil
	}
	source := r.Tokens.Account(r.user, r.Connection.Tokens, s.Accounts.Agent)
	if _, err := source.Token(ctx); err != nil {
		if connect.CodeOf(err) == connect.NeedsReauth {
			return err
		}
		for i := range s.Projects {
			if p := &s.Projects[i]; unverified(p) {
				r.notVerified(p, "Aurora's agent account cannot be used yet: "+connect.MessageOf(err))
			}
		}
		return Later(r.Settings.CheckInterval) // the grant on the account has not spread yet
	}
	agent := r.Google.As(source)
	permissions := proofs(r.Settings.AgentRoles)
	return r.each(ctx, unverified, func(ctx context.Context, p *connect.Project) error {
		granted, err := agent.TestPermissions(ctx, p.ID, permissions)
		if connect.CodeOf(err) == connect.NeedsReauth || paced(err) > 0 {
			return err
		}
		if err == nil && len(without(permissions, granted)) == 0 {
			p.Verified = true
			r.Measures.propagated(ctx, s, p)
			p.Recover(s.Step)
			return nil
		}
		why := "permissions are missing: " + listed(without(permissions, granted))
		if err != nil {
			why = connect.MessageOf(err)
		}
		r.notVerified(p, why)
		return Later(r.Settings.CheckInterval) // not yet, or Google was busy: the next check tells
	})
}

// notVerified records, in the last check, why a project is not verified.
// Before that it says nothing: permissions that are on their way are no error.
func (r *Run) notVerified(p *connect.Project, why string) {
	if r.Setup.Propagation.Checks < r.Setup.Propagation.Total {
		return
	}
	p.Fail(r.Setup.Step, connect.ProjectError{Code: connect.Unavailable, Message: "Aurora's permissions did not come into force in project " + p.ID +
		" in time (" + strings.TrimSuffix(why, ".") + "). Retry in some minutes; if it stays, check whether an organization policy or a deny policy blocks service accounts."})
}

// concludeChecks ends the checks with what is known: which projects are verified,
// and why the others are not.
func (r *Run) concludeChecks(ctx context.Context) error {
	s := r.Setup
	for i := range s.Projects {
		if p := &s.Projects[i]; unsettled(p) {
			p.APIs = connect.OutcomeFailed
			p.Fail(stepEnable, connect.ProjectError{Code: connect.Unavailable, Message: "Error enabling required APIs in project " + p.ID + ": Google has not finished enabling them. Retry in some minutes."})
		}
	}
	verified, total := s.Verified(), len(s.Projects)
	if verified == total {
		return nil
	}
	text := fmt.Sprintf("Propagation verification: PARTIAL (%d/%d projects)", verified, total)
	r.log.WarnContext(ctx, text)
	if verified == 0 {
		return Stop(CodePropagation, text+". No project is ready yet: IAM changes can take longer than the checks lasted. Retry in some minutes.")
	}
	s.Warn(connect.Warning{Code: CodePropagation, Message: text + ". Retry in some minutes to verify the others."})
	return nil
}
