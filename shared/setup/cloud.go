package setup

import (
	"context"
	"slices"
	"time"

	"gcpconnect/shared/connect"
)

// Google gives Google Cloud as an identity sees it.
type Google interface {
	// As returns Google Cloud as the identity of source's tokens sees it. It
	// makes no call.
	As(source TokenSource) Cloud
}

// TokenSource gives access tokens of one identity.
type TokenSource interface {
	// Token returns a token that is good for some minutes.
	Token(ctx context.Context) (connect.Secret, error)
	// Renew returns another token than rejected, which Google refused with
	// 401. It fails with connect.NeedsReauth when there can be none.
	Renew(ctx context.Context, rejected connect.Secret) (connect.Secret, error)
}

// Payer is a TokenSource of a service account: calls as such an account that
// name no project are counted against its own and not against the platform's.
type Payer interface {
	// Project returns the account's project.
	Project() string
}

// Cloud is what the steps need of Google Cloud, as one identity. Every method
// retries a busy or failing Google a few times within seconds and classifies
// what remains as a *connect.Error: Forbidden, NotFound, Conflict (stale etag,
// duplicate), Invalid, Precondition, Unauthenticated, NeedsReauth, or
// Unavailable for what may work later.
//
// Calls are counted against the customer's own project where the API allows
// it, so that one customer's burst does not use up the platform's quota.
type Cloud interface {
	// Projects lists every project the identity sees, all pages, in no
	// particular order and in every state.
	Projects(ctx context.Context) ([]CloudProject, error)
	// BillingEnabled reports whether the project has active billing.
	BillingEnabled(ctx context.Context, projectID string) (bool, error)
	// TestPermissions returns those of the permissions that the identity has
	// on the project.
	TestPermissions(ctx context.Context, projectID string, permissions []string) ([]string, error)

	// DisabledAPIs returns those of the APIs that are not enabled, in order.
	// At most 30 APIs.
	DisabledAPIs(ctx context.Context, projectID string, apis []string) ([]string, error)
	// EnableAPIs starts to enable up to 20 APIs, all of them or none, and
	// returns the name of the operation; "" if they are enabled already.
	EnableAPIs(ctx context.Context, projectID string, apis []string) (operation string, err error)
	// DisableAPI starts to disable an API. Precondition if it was in use lately
	// or another enabled API needs it.
	DisableAPI(ctx context.Context, projectID, api string) error
	// Operation returns how an enabling operation stands.
	Operation(ctx context.Context, projectID, name string) (Operation, error)

	// Account returns a service account by email, as project projectID has it.
	Account(ctx context.Context, projectID, email string) (Account, error)
	// CreateAccount makes a service account. Conflict: the ID is taken.
	CreateAccount(ctx context.Context, projectID, accountID, displayName, description string) (Account, error)
	// EnableAccount enables a disabled service account.
	EnableAccount(ctx context.Context, projectID, email string) error

	// DisableAccount disables a service account; NotFound if it is not there.
	DisableAccount(ctx context.Context, projectID, email string) error
	// DeleteAccount deletes the service account that has a unique ID; NotFound if it
	// is not there. An account that is made later under the same email has another
	// unique ID.
	DeleteAccount(ctx context.Context, projectID, uniqueID string) error

	// Policy reads a project's allow policy at version 3.
	Policy(ctx context.Context, projectID string) (*Policy, error)
	// SetPolicy writes it back under its etag; Conflict if that is stale.
	// ReasonMemberMissing, ReasonDomainRestricted tell what Google did not
	// like about its members.
	SetPolicy(ctx context.Context, projectID string, p *Policy) error
	// AccountPolicy and SetAccountPolicy are the same for a service account.
	AccountPolicy(ctx context.Context, projectID, email string) (*Policy, error)
	SetAccountPolicy(ctx context.Context, projectID, email string, p *Policy) error

	// EffectivelyAllowsAll reports whether the effective policy of a list
	// constraint allows every value in the project. Where organization
	// policies do not apply (no organization), every value is allowed.
	EffectivelyAllowsAll(ctx context.Context, projectID, constraint string) (bool, error)
	// OrgPolicy returns the project's own policy of a constraint; NotFound if
	// it has none.
	OrgPolicy(ctx context.Context, projectID, constraint string) (OrgPolicy, error)
	// AllowAll sets the project's own policy of a list constraint to allow
	// every value. With no etag it creates the policy, Conflict if there is
	// one; with an etag it replaces the policy that has it.
	AllowAll(ctx context.Context, projectID, constraint, etag string) error

	// RestoreOrgPolicy replaces the project's own policy of a constraint, which
	// must have that etag, by a spec as OrgPolicy gave it; with no spec it
	// deletes the policy. Conflict if the etag is stale.
	RestoreOrgPolicy(ctx context.Context, projectID, constraint, etag, spec string) error

	// Impersonate mints a token of a service account, good for an hour.
	Impersonate(ctx context.Context, email string) (connect.AccessToken, error)

	// SearchResources returns a page of the project's resources as Cloud
	// Asset Inventory has them, normalized, and the token of the next page (""
	// after the last). Run and DiscoveredAt are left to the caller.
	SearchResources(ctx context.Context, projectID, pageToken string) (page []connect.Resource, next string, err error)
}

// Reasons within connect.Error that steps act upon.
const (
	// ReasonServiceDisabled: the API is not (yet) enabled in the consumer
	// project. Google's ErrorInfo reason; it can last for minutes after
	// enabling.
	ReasonServiceDisabled = "SERVICE_DISABLED"
	// ReasonMemberMissing: a member of the policy does not exist. It also
	// happens for a while after a service account was created.
	ReasonMemberMissing = "MEMBER_MISSING"
	// ReasonDomainRestricted: an organization policy
	// (iam.allowedPolicyMemberDomains) forbids a member.
	ReasonDomainRestricted = "DOMAIN_RESTRICTED"
	// ReasonBillingMissing: the API needs a billing account.
	ReasonBillingMissing = "UREQ_PROJECT_BILLING_NOT_FOUND"
	// ReasonPaced: Google was not asked, because this instance has used up what
	// Google allows in a minute, or because Google asked to be left alone. There
	// is a turn after RetryAfter: that is a wait, and no failure.
	ReasonPaced = "PACED"
)

// CloudProject is a project as Resource Manager lists it.
type CloudProject struct {
	ID, Number, Name string
	State            string // ACTIVE, DELETE_REQUESTED, ...
}

// Operation is a long-running operation of Service Usage.
type Operation struct {
	Done bool
	// Failed are the APIs that it could not enable, with Google's words.
	Failed map[string]string
	// Message is Google's words when the whole operation failed; else "".
	Message string
}

// Account is a service account.
type Account struct {
	Email       string
	UniqueID    string
	Description string
	Disabled    bool
}

// Policy is an allow policy. What the steps do not know of it is kept.
type Policy struct {
	Etag     string
	Bindings []Binding
}

// Binding gives members a role.
type Binding struct {
	Role      string
	Members   []string
	Condition *Condition // nil: always
}

// Condition limits a binding. The steps never touch a binding that has one.
type Condition struct {
	Title, Description, Expression, Location string
}

// OrgPolicy is a project's own policy of a constraint.
type OrgPolicy struct {
	UpdatedAt time.Time // zero: Google does not say
	Etag      string
	Spec      string // JSON, as Google has it
	AllowsAll bool   // for every value, without a condition
}

// Has reports whether the member has the role without a condition.
func (p *Policy) Has(role, member string) bool {
	return slices.ContainsFunc(p.Bindings, func(b Binding) bool {
		return b.Role == role && b.Condition == nil && slices.Contains(b.Members, member)
	})
}

// Add gives the member the role without a condition, and reports whether that
// changed the policy. Conditional bindings of the role are left alone.
func (p *Policy) Add(role, member string) bool {
	if p.Has(role, member) {
		return false
	}
	for i := range p.Bindings {
		if b := &p.Bindings[i]; b.Role == role && b.Condition == nil {
			b.Members = append(b.Members, member)
			return true
		}
	}
	p.Bindings = append(p.Bindings, Binding{Role: role, Members: []string{member}})
	return true
}

// Remove takes the role without a condition from the member, and reports
// whether that changed the policy.
func (p *Policy) Remove(role, member string) bool {
	if !p.Has(role, member) {
		return false
	}
	for i := range p.Bindings {
		if b := &p.Bindings[i]; b.Role == role && b.Condition == nil {
			b.Members = slices.DeleteFunc(b.Members, func(m string) bool { return m == member })
		}
	}
	p.Bindings = slices.DeleteFunc(p.Bindings, func(b Binding) bool { return len(b.Members) == 0 })
	return true
}
