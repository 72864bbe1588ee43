package google

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A policy is an allow policy: what it says at once, and since when each of
// its grants has effect. Reads see the first, permissions the second, and
// between them lies Google's propagation.
type policy struct {
	project  *project // whose it is; nil: a folder's, an organization's, an account's
	bindings []Binding
	etag     uint64
	grants   map[string][]*grant // by member: asking for one must not cost what all do
}

type grantKey struct{ role, member, condition string }

// A grant has effect from a time until another.
type grant struct {
	role, condition string
	when            *when
	from            time.Time // zero: always
	until           time.Time // zero: it has not been removed
}

func (g *grant) effective(t time.Time) bool {
	return !t.Before(g.from) && (g.until.IsZero() || t.Before(g.until))
}

func keyOf(b Binding, member string) grantKey {
	key := grantKey{role: b.Role, member: member}
	if b.Condition != nil {
		encoded, _ := json.Marshal(b.Condition) // strings always encode
		key.condition = string(encoded)
	}
	return key
}

// grant finds a grant; nil: there is none.
func (p *policy) grant(key grantKey) *grant {
	for _, g := range p.grants[key.member] {
		if g.role == key.role && g.condition == key.condition {
			return g
		}
	}
	return nil
}

// names reports whether a principal has or had a grant.
func (p *policy) names(who *principal) bool {
	for member := range who.members {
		if p.grants[member] != nil {
			return true
		}
	}
	return false
}

// newPolicy makes a policy that has effect at once and always had.
func (w *world) newPolicy(owner *project, bindings []Binding) *policy {
	w.etags++
	p := &policy{project: owner, bindings: tidy(bindings), etag: w.etags, grants: map[string][]*grant{}}
	for _, b := range p.bindings {
		for _, m := range b.Members {
			w.grant(p, keyOf(b, m), time.Time{})
		}
	}
	return p
}

// grant adds a grant that has effect from a time on.
func (w *world) grant(p *policy, key grantKey, from time.Time) {
	p.grants[key.member] = append(p.grants[key.member], &grant{role: key.role, condition: key.condition, when: readCondition(key.condition), from: from})
	w.remember(key.member, p)
}

// replace sets what the policy says. New grants have effect after their delay,
// those removed cease after theirs, and those kept go on undisturbed: setting a
// policy again never takes a role away from who keeps it.
func (w *world) replace(p *policy, bindings []Binding, now time.Time, delays spread) {
	w.etags++
	p.bindings, p.etag = tidy(bindings), w.etags
	kept := map[*grant]bool{}
	for _, b := range p.bindings {
		for _, m := range b.Members {
			key := keyOf(b, m)
			g := p.grant(key)
			if g != nil && !g.until.IsZero() && !now.Before(g.until) { // it ceased: this is another
				p.forget(m, g)
				g = nil
			}
			if g == nil {
				w.grant(p, key, after(now, delays.of(m)))
				g = p.grant(key)
			}
			g.until = time.Time{}
			kept[g] = true
		}
	}
	for member, grants := range p.grants {
		for _, g := range slices.Clone(grants) {
			switch {
			case kept[g] || !g.until.IsZero():
			case !g.effective(now): // it never came to effect
				p.forget(member, g)
			default:
				g.until = after(now, delays.removal)
			}
		}
	}
}

func (p *policy) forget(member string, g *grant) {
	p.grants[member] = slices.DeleteFunc(p.grants[member], func(other *grant) bool { return other == g })
	if len(p.grants[member]) == 0 {
		delete(p.grants, member)
	}
}

// A spread is how long changes of one policy take to have effect.
type spread struct{ grant, group, removal Duration }

// of is how long a grant to a member takes: one through a group takes longer.
func (s spread) of(member string) Duration {
	if strings.HasPrefix(member, "group:") || strings.HasPrefix(member, "domain:") {
		return s.group
	}
	return s.grant
}

// renameMember follows a service account that was deleted or came back.
func (w *world) renameMember(from, to string) {
	for p := range w.policies[from] {
		p.rename(from, to)
		w.remember(to, p)
	}
	delete(w.policies, from)
}

func (p *policy) rename(from, to string) {
	for i := range p.bindings {
		members := slices.Clone(p.bindings[i].Members)
		for j := range members {
			if members[j] == from {
				members[j] = to
			}
		}
		p.bindings[i].Members = members
	}
	if grants := p.grants[from]; grants != nil {
		delete(p.grants, from)
		p.grants[to] = append(p.grants[to], grants...)
	}
}

// tidy merges bindings of one role and condition, drops doubled members and
// empty bindings, and sorts as Google's answers are sorted.
func tidy(bindings []Binding) []Binding {
	var out []Binding
	index := map[grantKey]int{}
	for _, b := range bindings {
		key := keyOf(b, "")
		i, found := index[key]
		if !found {
			i = len(out)
			index[key] = i
			out = append(out, Binding{Role: b.Role, Condition: b.Condition})
		}
		out[i].Members = append(out[i].Members, b.Members...)
	}
	for i := range out {
		slices.Sort(out[i].Members)
		out[i].Members = slices.Compact(out[i].Members)
	}
	out = slices.DeleteFunc(out, func(b Binding) bool { return len(b.Members) == 0 })
	slices.SortStableFunc(out, func(a, b Binding) int {
		if c := strings.Compare(a.Role, b.Role); c != 0 {
			return c
		}
		return strings.Compare(keyOf(a, "").condition, keyOf(b, "").condition)
	})
	return out
}

func (p *policy) conditional() bool {
	return slices.ContainsFunc(p.bindings, func(b Binding) bool { return b.Condition != nil })
}

// etagText is base64 of 8 bytes; the first two are as those seen in the wild.
func (p *policy) etagText() string {
	b := eightBytes(p.etag * 2654435761 & 0xffffffffffff)
	b[0], b[1] = 0x07, 0x06
	return base64.StdEncoding.EncodeToString(b)
}

// decodeBytes takes both alphabets of base64, padded or not, as every reader
// of proto3 JSON has to: gcloud sends etags in the other one than it gets.
func decodeBytes(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.DecodeString(text)
}

type policyJSON struct {
	Version      int           `json:"version,omitempty"`
	Etag         string        `json:"etag,omitempty"`
	Bindings     []Binding     `json:"bindings,omitempty"`
	AuditConfigs []auditConfig `json:"auditConfigs,omitempty"`
}

// An auditConfig is accepted and not kept, as Google does with one that the
// update mask does not name.
type auditConfig struct {
	Service         string `json:"service"`
	AuditLogConfigs []struct {
		LogType         logType  `json:"logType"`
		ExemptedMembers []string `json:"exemptedMembers"`
	} `json:"auditLogConfigs"`
}

type logType string

func (logType) values() (string, []string) {
	return "google.iam.v1.AuditLogConfig.LogType", []string{"LOG_TYPE_UNSPECIFIED", "ADMIN_READ", "DATA_WRITE", "DATA_READ"}
}

// view renders a policy for a reader that understands the requested version.
// One below 3 sees conditional bindings as roles of an invented name
// (https://cloud.google.com/iam/docs/policies#versions), and a write
// of that loses them.
func (p *policy) view(requested int) policyJSON {
	out := policyJSON{Version: 1, Etag: p.etagText()}
	for _, b := range p.bindings {
		if b.Condition != nil {
			if requested < 3 {
				b.Role += withCondition + conditionHash(b)
				b.Condition = nil
			} else {
				out.Version = 3
			}
		}
		out.Bindings = append(out.Bindings, b)
	}
	if len(out.Bindings) == 0 {
		out.Version = 0 // an empty policy is an etag alone
	}
	return out
}

const withCondition = "_withcond_"

func conditionHash(b Binding) string {
	sum := sha256.Sum256([]byte(keyOf(b, "").condition))
	return hex.EncodeToString(sum[:10])
}

type policyOptions struct {
	RequestedPolicyVersion int `json:"requestedPolicyVersion"`
}

type setPolicyRequest struct {
	Policy     *policyJSON `json:"policy"`
	UpdateMask string      `json:"updateMask"`
}

func checkVersion(v int) *apiError {
	if v != 0 && v != 1 && v != 3 {
		return invalid("The requested policy version %d is not valid. Valid values are 0, 1 and 3.", v)
	}
	return nil
}

// setPolicy is setIamPolicy on any resource.
func (c *call) setPolicy(p *policy, where scope) (any, *apiError) {
	var req setPolicyRequest
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	if req.Policy == nil {
		return nil, invalid("Policy is required.")
	}
	if err := checkVersion(req.Policy.Version); err != nil {
		return nil, err
	}
	if req.Policy.Etag != "" {
		etag, err := decodeBytes(req.Policy.Etag)
		if err != nil {
			return nil, invalid("Invalid value at 'policy.etag' (TYPE_BYTES), Base64 decoding failed for %q", req.Policy.Etag)
		}
		present, _ := base64.StdEncoding.DecodeString(p.etagText()) // made by us
		if !bytes.Equal(etag, present) {
			return nil, errorf(http.StatusConflict, "ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.")
		}
		if p.conditional() && req.Policy.Version < 3 {
			return nil, invalid("The policy contains conditional role bindings: a policy of version 3 is required to change it.")
		}
	}
	bindings := tidy(req.Policy.Bindings)
	if err := c.checkBindings(req.Policy, bindings, where); err != nil {
		return nil, err
	}
	if err := c.checkMembers(p, bindings, where); err != nil {
		return nil, err
	}
	c.world.replace(p, bindings, c.now, c.world.spread(c.project, where))
	return p.view(3), nil
}

// maxPrincipals is Google's limit, every appearance counting
// (https://cloud.google.com/iam/quotas).
const maxPrincipals = 1500

func (c *call) checkBindings(sent *policyJSON, bindings []Binding, where scope) *apiError {
	total := 0
	for _, b := range bindings {
		total += len(b.Members)
		r, known := c.world.scenario.role(b.Role)
		if !known || !r.on(where) {
			return invalid("Role %s is not supported for this resource.", b.Role)
		}
		if b.Condition == nil {
			continue
		}
		switch {
		case sent.Version < 3:
			return invalid("Conditions are not supported in a policy of version %d: version 3 is required.", sent.Version)
		case b.Role == "roles/owner" || b.Role == "roles/editor" || b.Role == "roles/viewer":
			return invalid("Conditions can't be set on primitive roles")
		case b.Condition.Expression == "" || b.Condition.Title == "":
			return invalid("A condition needs a title and an expression.")
		}
	}
	if total > maxPrincipals {
		return invalid("The number of members in the policy (%d) is larger than the maximum allowed size 1,500.", total)
	}
	return nil
}

// testPermissions is testIamPermissions on any resource.
func (c *call) testPermissions(chain []*policy) (any, *apiError) {
	var req struct {
		Permissions []string `json:"permissions"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	if len(req.Permissions) > 100 {
		return nil, invalid("At most 100 permissions can be tested at once.")
	}
	var out struct {
		Permissions []string `json:"permissions,omitempty"`
	}
	for _, permission := range req.Permissions {
		if !testable(permission) {
			return nil, invalid("Permission %s is not valid for this resource.", permission)
		}
		if c.allowed(permission, chain) && !slices.Contains(out.Permissions, permission) {
			out.Permissions = append(out.Permissions, permission)
		}
	}
	return out, nil
}
