package connect

import (
	"strings"
	"time"
)

// ChangeKind is what kind of thing was changed in a customer's cloud.
type ChangeKind string

// The kinds of changes.
const (
	ChangeEnableAPI     ChangeKind = "enable_api"     // Target: the API
	ChangeCreateAccount ChangeKind = "create_account" // Target: the account's email
	ChangeEnableAccount ChangeKind = "enable_account" // Target: the account's email
	ChangeAddBinding    ChangeKind = "add_binding"    // Target: project or account; Role, Member
	ChangeRemoveBinding ChangeKind = "remove_binding" // Target: project or account; Role, Member
	ChangeOrgPolicy     ChangeKind = "set_org_policy" // Target: the constraint
)

// ChangeState is how far a change has come.
type ChangeState string

// The states of a change. A planned one may or may not have happened: the
// process can die between the record and Google's answer.
const (
	ChangePlanned ChangeState = "planned"
	ChangeDone    ChangeState = "done"
	ChangeUndone  ChangeState = "undone"
	ChangeRefused ChangeState = "refused" // Google said no: it did not happen
)

// Change is one entry of the ledger: one thing that was, or was about to be,
// changed in a customer's cloud. It is recorded before the change is made and
// marked done after, so that whatever was changed can be shown and undone.
type Change struct {
	ID        string // deterministic: the same change of the same setup has the same ID
	UserID    string
	SetupID   string // empty for a change the user made outside a setup
	ProjectID string
	Kind      ChangeKind
	Target    string
	UniqueID  string `json:",omitempty"` // of the account that was made, once it is known
	Role      string `json:",omitempty"`
	Member    string `json:",omitempty"`
	Before    string // what stood there before, as JSON where it has structure; empty: nothing
	State     ChangeState
	// Unanswered says that an earlier execution may have asked Google for the
	// change too and recorded no answer. Its request may still arrive.
	Unanswered bool `json:",omitempty"`
	PlannedAt  time.Time
	DoneAt     time.Time
	UndoneAt   time.Time
	Version    int
}

// Identify gives c its deterministic ID. The salt tells apart changes of no
// setup.
func (c *Change) Identify(salt string) {
	key := []string{c.SetupID, salt, c.ProjectID, string(c.Kind), c.Target, c.Role, c.Member}
	c.ID = Hash(strings.Join(key, "\x00"))[:40]
}

// ChangeQuery selects entries of a user's ledger, newest first.
type ChangeQuery struct {
	SetupID   string      // empty: of every setup
	ProjectID string      // empty: of every project
	State     ChangeState // empty: in every state
	PageSize  int         // 1 to 1,000; 0 is 100
	PageToken string      // from the page before; empty: the first page
}
