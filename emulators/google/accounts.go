package google

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

type accountJSON struct {
	Name           string `json:"name"`
	ProjectID      string `json:"projectId"`
	UniqueID       string `json:"uniqueId"`
	Email          string `json:"email"`
	DisplayName    string `json:"displayName,omitempty"`
	Etag           string `json:"etag"`
	Description    string `json:"description,omitempty"`
	OAuth2ClientID string `json:"oauth2ClientId"`
	Disabled       bool   `json:"disabled,omitempty"`
}

func (a *account) json() accountJSON {
	return accountJSON{
		Name: "projects/" + a.project.id + "/serviceAccounts/" + a.email, ProjectID: a.project.id, UniqueID: a.uid,
		Email: a.email, DisplayName: a.displayName, Etag: "MDEwMjE5MjA=", Description: a.description,
		OAuth2ClientID: a.uid, Disabled: a.disabled,
	}
}

func (a *account) member() string { return "serviceAccount:" + a.email }
func (a *account) deletedMember() string {
	return "deleted:serviceAccount:" + a.email + "?uid=" + a.uid
}

func (c *call) createServiceAccount() (any, *apiError) {
	var req struct {
		AccountID      string       `json:"accountId"`
		ServiceAccount *accountJSON `json:"serviceAccount"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	p := c.project
	if !accountForm.MatchString(req.AccountID) {
		return nil, invalid("The account ID \"%s\" does not have a length between 6 and 30 or does not match the pattern [a-z]([-a-z0-9]*[a-z0-9]).", req.AccountID).with(
			fieldViolation("account_id", "Invalid service account ID."))
	}
	for _, constraint := range []string{noNewAccounts, managedNoNewAccounts} {
		if c.world.effectivePolicy(&p.node, constraint, c.now).enforced() {
			const text = "Service account creation is not allowed on this project."
			return nil, precondition(text).with(preconditionFailure("constraints/"+constraint, "projects/"+p.id, text))
		}
	}
	email := req.AccountID + "@" + p.id + ".iam.gserviceaccount.com"
	if c.world.accounts[email] != nil {
		return nil, errorf(http.StatusConflict, "ALREADY_EXISTS", "Service account ID already exists within project projects/%s.", p.id).with(
			resourceInfo("", "projects/"+p.id+"/serviceAccounts/"+email))
	}
	limit := c.world.scenario.AccountLimit
	if limit == 0 {
		limit = 100
	}
	if p.accounts >= limit {
		return nil, errorf(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "Maximum number of service accounts on project reached.").with(
			errorInfo("RATE_LIMIT_EXCEEDED", "iam.googleapis.com", nil))
	}
	var displayName, description string
	if sa := req.ServiceAccount; sa != nil {
		displayName, description = sa.DisplayName, sa.Description
	}
	if err := checkTexts(displayName, description); err != nil {
		return nil, err
	}
	return c.world.newAccount(p, req.AccountID, displayName, description, c.now).json(), nil
}

func checkTexts(displayName, description string) *apiError {
	if len(displayName) > 100 || len(description) > 256 {
		return invalid("The display name must be at most 100 bytes, the description 256.")
	}
	return nil
}

// patchServiceAccount changes what the mask names: the display name and the
// description, for nothing else of an account can be changed.
func (c *call) patchServiceAccount() (any, *apiError) {
	var req struct {
		ServiceAccount accountJSON `json:"serviceAccount"`
		UpdateMask     string      `json:"updateMask"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	displayName, description := c.account.displayName, c.account.description
	for _, field := range strings.Split(req.UpdateMask, ",") {
		switch field {
		case "displayName", "display_name":
			displayName = req.ServiceAccount.DisplayName
		case "description":
			description = req.ServiceAccount.Description
		default:
			return nil, invalid("Request contains an invalid argument.").with(fieldViolation("update_mask", "The mask must name display_name, description, or both."))
		}
	}
	if err := checkTexts(displayName, description); err != nil {
		return nil, err
	}
	c.account.displayName, c.account.description = displayName, description
	return c.account.json(), nil
}

func (c *call) getServiceAccount() (any, *apiError) { return c.account.json(), nil }

func (c *call) listServiceAccounts() (any, *apiError) {
	var accounts []*account
	var keys []string
	for _, a := range c.world.projectAccounts(c.project) {
		if a.created.IsZero() || !c.now.Before(after(a.created, c.world.scenario.Propagation.AccountRead)) {
			accounts = append(accounts, a)
			keys = append(keys, a.email)
		}
	}
	from, to, next, err := c.page(keys, 20, 100, "")
	if err != nil {
		return nil, err
	}
	var out struct {
		Accounts      []accountJSON `json:"accounts,omitempty"`
		NextPageToken string        `json:"nextPageToken,omitempty"`
	}
	out.NextPageToken = next
	for _, a := range accounts[from:to] {
		out.Accounts = append(out.Accounts, a.json())
	}
	return out, nil
}

type empty struct{}

func (c *call) setDisabled(disabled bool) (any, *apiError) {
	if err := decode(c.body, &empty{}); err != nil {
		return nil, err
	}
	c.account.disabled = disabled
	return empty{}, nil
}

func (c *call) enableServiceAccount() (any, *apiError)  { return c.setDisabled(false) }
func (c *call) disableServiceAccount() (any, *apiError) { return c.setDisabled(true) }

// deleteServiceAccount leaves the account's bindings behind under its unique
// ID, where an account made anew under the name does not inherit them.
func (c *call) deleteServiceAccount() (any, *apiError) {
	a := c.account
	a.deleted = c.now
	delete(c.world.accounts, a.email)
	a.project.accounts--
	c.world.renameMember(a.member(), a.deletedMember())
	return empty{}, nil
}

// purgeAfter is how long a deleted account can be had back.
const purgeAfter = 30 * 24 * time.Hour

func (c *call) undeleteServiceAccount() (any, *apiError) {
	if err := decode(c.body, &empty{}); err != nil {
		return nil, err
	}
	a := c.world.uids[c.vars["deleted"]]
	if a == nil || !c.allowed("iam.serviceAccounts.undelete", a.project.chain()) {
		return nil, deniedByIAM(c, "iam.serviceAccounts.undelete")
	}
	switch {
	case a.deleted.IsZero() || c.world.accounts[a.email] != nil:
		return nil, errorf(http.StatusConflict, "ALREADY_EXISTS", "Service account ID already exists within project projects/%s.", a.project.id)
	case !c.now.Before(a.deleted.Add(purgeAfter)):
		return nil, errorf(http.StatusNotFound, "NOT_FOUND", "Unknown service account")
	}
	a.deleted = time.Time{}
	c.world.accounts[a.email] = a
	a.project.accounts++
	c.world.renameMember(a.deletedMember(), a.member())
	return struct {
		RestoredAccount accountJSON `json:"restoredAccount"`
	}{a.json()}, nil
}

func (c *call) getAccountPolicy() (any, *apiError) {
	if err := decode(c.body, &empty{}); err != nil {
		return nil, err
	}
	version, _ := strconv.Atoi(c.r.URL.Query().Get("options.requestedPolicyVersion")) // a number, or nothing
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	return c.account.policy.view(version), nil
}

func (c *call) setAccountPolicy() (any, *apiError) {
	return c.setPolicy(c.account.policy, onAccount)
}

// testAccountPermissions answers for a missing account as for one on which the
// caller may do nothing.
func (c *call) testAccountPermissions() (any, *apiError) {
	a := c.world.accountNamed(c.vars["tested"])
	if a == nil || c.vars["project"] != "-" && a.project != c.world.projectNamed(c.vars["project"]) {
		return c.testPermissions(nil)
	}
	return c.testPermissions(append([]*policy{a.policy}, a.project.chain()...))
}

// maxLifetime is how long a minted token lives, unless an organization policy
// says otherwise, which is not emulated.
const maxLifetime = time.Hour

func (c *call) generateAccessToken() (any, *apiError) {
	var req struct {
		Delegates []string `json:"delegates"`
		Scope     []string `json:"scope"`
		Lifetime  string   `json:"lifetime"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	lifetime := maxLifetime
	if req.Lifetime != "" {
		d, err := time.ParseDuration(req.Lifetime)
		if err != nil || !strings.HasSuffix(req.Lifetime, "s") || d <= 0 {
			return nil, invalid("Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration), Field 'lifetime', Illegal duration format.")
		}
		if d > maxLifetime {
			return nil, invalid("The access token lifetime cannot exceed 3600s.")
		}
		lifetime = d
	}
	switch {
	case c.vars["project"] != "-":
		return nil, invalid("Request contains an invalid argument.").with(fieldViolation("name", "The wildcard projects/- is required."))
	case len(req.Scope) == 0:
		return nil, invalid("Request contains an invalid argument.").with(fieldViolation("scope", "At least one scope is required."))
	case len(req.Delegates) > 0:
		return nil, invalid("Delegation chains are not emulated.")
	case c.account.disabled:
		return nil, precondition("Service account %s is disabled.", c.account.email)
	}
	for _, scope := range req.Scope {
		if !slices.Contains(knownScopes, scopeURL(scope)) {
			return nil, invalid("Invalid OAuth scope: %s", scope)
		}
	}
	token, t := c.world.mint(c.account, req.Scope, c.now.Add(lifetime))
	return struct {
		AccessToken string `json:"accessToken"`
		ExpireTime  string `json:"expireTime"`
	}{token, t.expires.UTC().Format(time.RFC3339)}, nil
}

// signJWT signs a text as a service account, with a key that accountCerts publishes
// (https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signJwt).
func (c *call) signJWT() (any, *apiError) {
	var req struct {
		Delegates []string `json:"delegates"`
		Payload   string   `json:"payload"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal([]byte(req.Payload), &claims); err != nil || claims == nil {
		return nil, invalid("The JWT payload must be a serialized JSON object.")
	}
	if exp, given := claims["exp"]; given {
		at, ok := exp.(float64)
		if left := time.Unix(int64(at), 0).Sub(c.now); !ok || left < 0 || left > 12*time.Hour {
			return nil, invalid("The exp claim must be a time in the future, at most 12 hours from now.")
		}
	}
	switch {
	case c.vars["project"] != "-":
		return nil, invalid("Request contains an invalid argument.").with(fieldViolation("name", "The wildcard projects/- is required."))
	case len(req.Delegates) > 0:
		return nil, invalid("Delegation chains are not emulated.")
	case c.account.disabled:
		return nil, precondition("Service account %s is disabled.", c.account.email)
	}
	return struct {
		KeyID     string `json:"keyId"`
		SignedJWT string `json:"signedJwt"`
	}{c.keys.all()[0].id, c.keys.sign(claims)}, nil
}

// mint makes a token of a service account.
func (w *world) mint(a *account, scopes []string, expires time.Time) (string, *accessToken) {
	token := "ya29.c." + secret()
	t := &accessToken{account: a.uid, scopes: slices.Clone(scopes), expires: expires}
	w.access[token] = t
	return token, t
}
