package setup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"gcpconnect/shared/connect"
)

// The suffixes of the two accounts' IDs: full access and read-only.
const (
	suffixAgent = "-f"
	suffixAsk   = "-r"
)

// accountID is the ID of one of a user's two service accounts: stable, unique
// to the user and not revealing who it is. 29 characters of the 30 allowed
// (https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/create).
func accountID(userID, suffix string) string {
	sum := sha256.Sum256([]byte(userID))
	return "aurora-" + hex.EncodeToString(sum[:])[:20] + suffix
}

// accountEmail is the email that an account of that ID has in a project. For
// projects of a domain, example.com:p, it is p.example.com
// (https://cloud.google.com/iam/docs/service-account-types#user-managed).
func accountEmail(id, projectID string) string {
	if domain, name, ok := strings.Cut(projectID, ":"); ok {
		projectID = name + "." + domain
	}
	return id + "@" + projectID + ".iam.gserviceaccount.com"
}

// accountsOf names the two accounts of a user in a root project.
func accountsOf(userID, rootProject string) connect.ServiceAccounts {
	return connect.ServiceAccounts{
		RootProject: rootProject,
		Agent:       accountEmail(accountID(userID, suffixAgent), rootProject),
		Ask:         accountEmail(accountID(userID, suffixAsk), rootProject),
	}
}

// createServiceAccounts makes sure that both accounts are there and enabled
// in the root project.
func createServiceAccounts(ctx context.Context, r *Run) error {
	s := r.Setup
	accounts := accountsOf(s.UserID, s.RootProject)
	wanted := []struct{ email, id, name, description string }{
		{accounts.Agent, accountID(s.UserID, suffixAgent), "Aurora agent", "Manages this project's resources for Aurora. " + madeBy(s.ID)},
		{accounts.Ask, accountID(s.UserID, suffixAsk), "Aurora ask", "Reads this project's resources for Aurora. " + madeBy(s.ID)},
	}
	err := concurrently(ctx, len(wanted), func(ctx context.Context, i int) error {
		return r.ensureAccount(ctx, wanted[i].email, wanted[i].id, wanted[i].name, wanted[i].description)
	})
	if err != nil {
		if retryable(err) || connect.CodeOf(err) == connect.NeedsReauth {
			return err
		}
		r.log.WarnContext(ctx, "service accounts failed", "project", s.RootProject, "error", err)
		return Stop(CodeAccounts, "Aurora full-access setup had errors: the service accounts could not be made in project "+s.RootProject+": "+
			connect.MessageOf(err)+" You need Service Account Admin there, and no organization policy may forbid service accounts; or choose another root project. Then retry.")
	}
	r.ledger.settle(aboutAccounts)
	s.Accounts = accounts
	r.onCommit = append(r.onCommit, func(c *connect.Connection) { c.Accounts = accounts })
	return nil
}

// madeBy is the mark of the setup that makes an account. Where the answer to
// the making is lost, it tells our account from one that was there.
func madeBy(setupID string) string { return "Made by setup " + setupID + "." }

func (a *Account) madeBy(setupID string) bool {
	return strings.Contains(a.Description, madeBy(setupID))
}

// ensureAccount takes over the account if it is there, and makes it if not.
func (r *Run) ensureAccount(ctx context.Context, email, id, displayName, description string) error {
	project := r.Setup.RootProject
	creation := []connect.Change{r.ledger.entry(project, connect.ChangeCreateAccount, email, "", "")}
	account, err := r.user.Account(ctx, project, email)
	if absent(err) {
		// From here on the account is a new one, whatever becomes of the call.
		r.mu.Lock()
		r.Setup.AccountsAt = time.Now()
		r.mu.Unlock()
		err = r.ledger.apply(ctx, creation, func() error {
			account, err = r.user.CreateAccount(ctx, project, id, displayName, description)
			creation[0].UniqueID = account.UniqueID
			return err
		})
		if err == nil {
			return nil
		}
		if connect.CodeOf(err) != connect.Conflict {
			return wrap(err, "create %s", email)
		}
		account, err = r.user.Account(ctx, project, email)
		if absent(err) && r.Setup.Attempt < int(freshFor/freshWait) {
			return Later(freshWait) // it is there, by Google's word, and cannot be read yet
		}
	}
	if err != nil {
		return wrap(err, "read %s", email)
	}
	if account.madeBy(r.Setup.ID) {
		creation[0].UniqueID = account.UniqueID
		_, err = r.ledger.found(ctx, creation)
	} else {
		err = r.ledger.foreign(ctx, creation)
	}
	if err != nil || !account.Disabled {
		return err
	}
	enable := []connect.Change{r.ledger.entry(project, connect.ChangeEnableAccount, email, "", "")}
	return wrap(r.ledger.apply(ctx, enable, func() error { return r.user.EnableAccount(ctx, project, email) }), "enable %s", email)
}

// absent reports whether err is what a read answers for an account that is
// not there, and for a while for one just made: 404, or 403 where Google will
// not tell. Creating the account tells.
func absent(err error) bool {
	code := connect.CodeOf(err)
	return code == connect.NotFound || code == connect.Forbidden && connect.ReasonOf(err) != ReasonServiceDisabled
}

// wrap says what was being done when err came up; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
