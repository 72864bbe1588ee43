package google

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A Scenario is the Google that a Server plays. See the package comment for
// its JSON form.
type Scenario struct {
	Description   string         `json:"description,omitempty"`
	Users         []User         `json:"users,omitempty"`
	Groups        []Group        `json:"groups,omitempty"`
	Clients       []Client       `json:"clients,omitempty"`
	Organizations []Organization `json:"organizations,omitempty"`
	Folders       []Folder       `json:"folders,omitempty"`
	Projects      []Project      `json:"projects,omitempty"`
	Generate      []Generator    `json:"generate,omitempty"`
	// Metadata is the account of the metadata server; nil: there is none.
	Metadata *Metadata `json:"metadata,omitempty"`
	// Roles are further roles and their permissions, patterns allowed.
	Roles map[string][]string `json:"roles,omitempty"`
	// Services are further services that exist, e.g. "x.googleapis.com".
	Services []string `json:"services,omitempty"`
	// ConditionsHold makes every conditional binding give its role whose
	// condition is about something else than time. Otherwise these are kept
	// and give nothing.
	ConditionsHold bool `json:"conditionsHold,omitempty"`
	// ExclusiveOperations refuses a change of services in a project while
	// another is under way.
	ExclusiveOperations bool `json:"exclusiveOperations,omitempty"`
	// AccountLimit is how many service accounts a project may have; 0 is 100.
	AccountLimit int         `json:"accountLimit,omitempty"`
	Latencies    Latencies   `json:"latencies,omitzero"`
	Propagation  Propagation `json:"propagation,omitzero"`
	Pages        Pages       `json:"pages,omitzero"`
	// Quotas enforces Google's published calls per minute and consumer project.
	Quotas bool    `json:"quotas,omitempty"`
	Faults []Fault `json:"faults,omitempty"`
}

// A User is a Google account.
type User struct {
	Email string `json:"email"`
	Sub   string `json:"sub"` // stable numeric ID
	Name  string `json:"name,omitempty"`
	// Domain is the Workspace domain (hd); empty for a consumer account.
	Domain string `json:"domain,omitempty"`
	// RefreshError makes every refresh fail: "invalid_rapt" (the Workspace
	// session ended) or "invalid_grant".
	RefreshError string `json:"refreshError,omitempty"`
	// SessionLength is that of the Workspace: so long after a consent its
	// refresh tokens with the cloud-platform scope fail with invalid_rapt,
	// until the user consents anew. 0: it does not end.
	SessionLength Duration `json:"sessionLength,omitempty"`
}

// A Group gives its members, by email, what is bound to group:EMAIL.
type Group struct {
	Email   string   `json:"email"`
	Members []string `json:"members"`
}

// A Client is an OAuth client of type web application.
type Client struct {
	ID           string   `json:"id"`
	Secret       string   `json:"secret"`
	Name         string   `json:"name,omitempty"` // as the consent page shows it
	RedirectURIs []string `json:"redirectUris"`
	// AnyLoopbackPort accepts a registered loopback redirect URI with another
	// port, so that tests may listen anywhere. Google does so for desktop
	// clients only.
	AnyLoopbackPort bool `json:"anyLoopbackPort,omitempty"`
	// Project owns the client: it is the consumer of calls that its users
	// make without X-Goog-User-Project. One of the scenario's projects.
	Project string `json:"project"`
	// AuthError ends every authorization: admin_policy_enforced,
	// org_internal, deleted_client or access_denied. It arrives at the
	// callback; with AuthErrorPage it is shown to the user instead.
	AuthError     string `json:"authError,omitempty"`
	AuthErrorPage bool   `json:"authErrorPage,omitempty"`
	// NoRefreshToken leaves refresh tokens out of every answer.
	NoRefreshToken bool `json:"noRefreshToken,omitempty"`
	// RefreshLifetime limits refresh tokens; 168h is a consent screen in
	// Testing. 0: six months of disuse.
	RefreshLifetime Duration `json:"refreshLifetime,omitempty"`
	// RotateRefresh has each refresh token work once, and be answered with its
	// successor. Google does not do so today, and reserves the right
	// (https://developers.google.com/identity/protocols/oauth2#expiration).
	RotateRefresh bool `json:"rotateRefresh,omitempty"`
	// TimeBasedAccess has the answer say so in refresh_token_expires_in.
	TimeBasedAccess bool `json:"timeBasedAccess,omitempty"`
}

// An Organization is the root of a hierarchy.
type Organization struct {
	ID          string                `json:"id"` // number
	Domain      string                `json:"domain"`
	CustomerID  string                `json:"customerId"` // e.g. C0123abcd
	Bindings    []Binding             `json:"bindings,omitempty"`
	OrgPolicies map[string]PolicySpec `json:"orgPolicies,omitempty"` // by constraint, without "constraints/"
}

// A Folder is between an organization and projects.
type Folder struct {
	ID          string                `json:"id"`     // number
	Parent      string                `json:"parent"` // organizations/N or folders/N
	Bindings    []Binding             `json:"bindings,omitempty"`
	OrgPolicies map[string]PolicySpec `json:"orgPolicies,omitempty"`
}

// A Project is a project with all that is in it when the scenario starts.
type Project struct {
	ID         string            `json:"id"`
	Number     string            `json:"number"`
	Name       string            `json:"name,omitempty"`
	State      string            `json:"state,omitempty"`  // ACTIVE (default), DELETE_REQUESTED, DELETE_IN_PROGRESS
	Parent     string            `json:"parent,omitempty"` // organizations/N or folders/N
	CreateTime string            `json:"createTime,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// BillingAccount is the linked account, e.g. 0X0X0X-0X0X0X-0X0X0X; with
	// BillingClosed the account is closed, so billing is not enabled.
	BillingAccount string    `json:"billingAccount,omitempty"`
	BillingClosed  bool      `json:"billingClosed,omitempty"`
	Bindings       []Binding `json:"bindings,omitempty"`
	// EnabledAPIs are enabled services; absent: those of a new project.
	EnabledAPIs     *[]string             `json:"enabledApis,omitempty"`
	ServiceFailures []ServiceFailure      `json:"serviceFailures,omitempty"`
	ServiceAccounts []ServiceAccount      `json:"serviceAccounts,omitempty"`
	Resources       []Resource            `json:"resources,omitempty"`
	OrgPolicies     map[string]PolicySpec `json:"orgPolicies,omitempty"`
	// Propagation overrides, for grants on this project and its accounts.
	Propagation *GrantDelays `json:"propagation,omitempty"`
}

// A Binding gives members a role.
type Binding struct {
	Role      string     `json:"role"`
	Members   []string   `json:"members"`
	Condition *Condition `json:"condition,omitempty"`
}

// A Condition is google.type.Expr.
type Condition struct {
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Expression  string `json:"expression"`
	Location    string `json:"location,omitempty"`
}

// A PolicySpec is what an organization policy says.
type PolicySpec struct {
	Etag              string       `json:"etag,omitempty"`
	UpdateTime        string       `json:"updateTime,omitempty"`
	Rules             []PolicyRule `json:"rules,omitempty"`
	InheritFromParent bool         `json:"inheritFromParent,omitempty"`
	Reset             bool         `json:"reset,omitempty"`
}

// A PolicyRule is one rule of a PolicySpec.
type PolicyRule struct {
	Values     *StringValues   `json:"values,omitempty"`
	AllowAll   bool            `json:"allowAll,omitempty"`
	DenyAll    bool            `json:"denyAll,omitempty"`
	Enforce    bool            `json:"enforce,omitempty"`
	Condition  *Condition      `json:"condition,omitempty"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// StringValues are the values of a list constraint.
type StringValues struct {
	AllowedValues []string `json:"allowedValues,omitempty"`
	DeniedValues  []string `json:"deniedValues,omitempty"`
}

// A ServiceFailure makes enabling one service fail.
type ServiceFailure struct {
	Service string `json:"service"`
	// At is when: "call" (the default; the call is refused), "operation" (the
	// operation ends in an error) or "failures" (the operation succeeds but
	// lists the service under failures[]).
	At      string `json:"at,omitempty"`
	Times   int    `json:"times,omitempty"` // how often; 0 is for ever
	Code    int    `json:"code,omitempty"`  // HTTP; 0 is 403
	Status  string `json:"status,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// A ServiceAccount exists when the scenario starts.
type ServiceAccount struct {
	AccountID   string    `json:"accountId"`
	DisplayName string    `json:"displayName,omitempty"`
	Description string    `json:"description,omitempty"`
	Disabled    bool      `json:"disabled,omitempty"`
	Bindings    []Binding `json:"bindings,omitempty"` // who may use it
}

// A Resource is what Cloud Asset Inventory knows of one resource.
type Resource struct {
	AssetType string `json:"assetType"`
	// Name is the short name, from which the full resource name follows by
	// asset type, or a full resource name (//service/...).
	Name        string            `json:"name"`
	DisplayName string            `json:"displayName,omitempty"` // default: the short name
	Description string            `json:"description,omitempty"`
	Location    string            `json:"location,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	NetworkTags []string          `json:"networkTags,omitempty"`
	State       string            `json:"state,omitempty"`
	CreateTime  string            `json:"createTime,omitempty"`
	UpdateTime  string            `json:"updateTime,omitempty"`
	// ParentFullResourceName defaults to the project.
	ParentFullResourceName string         `json:"parentFullResourceName,omitempty"`
	ParentAssetType        string         `json:"parentAssetType,omitempty"`
	AdditionalAttributes   map[string]any `json:"additionalAttributes,omitempty"`
	// Count makes so many of it, named NAME-1, NAME-2...; 0 is one, as named.
	Count int `json:"count,omitempty"`
}

// A Generator makes Count projects after a template, in whose ID, number,
// name and resource names {n} stands for a number from First (default 1) on,
// padded with zeros to Width digits (default 3).
type Generator struct {
	Count   int     `json:"count"`
	First   int     `json:"first,omitempty"`
	Width   int     `json:"width,omitempty"`
	Project Project `json:"project"`
}

// Metadata is the account whose tokens /computeMetadata/v1 gives: a service account of
// the scenario, as attached to the platform's own Cloud Run services.
type Metadata struct {
	Project        string `json:"project"`
	ServiceAccount string `json:"serviceAccount"` // email
}

// Latencies are how long each class of call takes.
type Latencies struct {
	Read          Duration `json:"read,omitempty"`
	IAMWrite      Duration `json:"iamWrite,omitempty"`
	CreateAccount Duration `json:"createAccount,omitempty"`
	BatchEnable   Duration `json:"batchEnable,omitempty"` // also enable and disable
	OAuth         Duration `json:"oauth,omitempty"`
	// Operation is how long it takes until services are enabled.
	Operation Duration `json:"operation,omitempty"`
}

// GrantDelays are how long it takes until a new binding gives its role.
type GrantDelays struct {
	Project *Duration `json:"project,omitempty"` // on projects
	Account *Duration `json:"account,omitempty"` // on service accounts
	// Group is for members group: and domain:, which take longer; by default
	// as long as others.
	Group   *Duration `json:"group,omitempty"`
	Removal *Duration `json:"removal,omitempty"` // until a removed binding ceases
}

// Propagation is how long changes take until they are seen.
type Propagation struct {
	GrantDelays
	// AccountRead is how long reads of a new service account fail, and
	// AccountReadCode with what: 404 (default) or 403.
	AccountRead     Duration `json:"accountRead,omitempty"`
	AccountReadCode int      `json:"accountReadCode,omitempty"`
	// AccountMember is how long policies refuse a new service account.
	AccountMember Duration `json:"accountMember,omitempty"`
	// EnabledAPI is how long an enabled API still answers SERVICE_DISABLED.
	EnabledAPI Duration `json:"enabledApi,omitempty"`
	// OrgPolicy is how long an organization policy takes to have effect.
	OrgPolicy Duration `json:"orgPolicy,omitempty"`
	// ProjectList is how far projects.list and search are behind.
	ProjectList Duration `json:"projectList,omitempty"`
}

// Pages are the sizes of pages.
type Pages struct {
	Size  int  `json:"size,omitempty"`  // at most; 0: what each API would give
	Short bool `json:"short,omitempty"` // pages of random smaller size, some empty
}

// Never is a Duration that does not end: "never" in JSON.
const Never = Duration(math.MaxInt64)

// A Duration is a time.Duration, in JSON a string such as "80ms" or "never".
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	if d == Never {
		return []byte(`"never"`), nil
	}
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration must be a string such as %q", "80ms")
	}
	parsed, err := parseDuration(text)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func parseDuration(text string) (Duration, error) {
	if text == "never" {
		return Never, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as %q", text, "80ms")
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", text)
	}
	return Duration(d), nil
}

// after returns t plus d; the zero time is always, and Never has no end.
func after(t time.Time, d Duration) time.Time {
	if d == Never {
		return endOfTime
	}
	return t.Add(time.Duration(d))
}

var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
