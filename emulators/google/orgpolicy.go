package google

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// An orgPolicy is a policy set at one node, with what it said before: it takes
// time to have effect.
type orgPolicy struct {
	spec    *PolicySpec // nil: deleted
	dryRun  *PolicySpec // kept and answered; it has no effect
	etag    uint64
	updated time.Time
	past    []effect // oldest first
}

type effect struct {
	spec *PolicySpec
	from time.Time
}

// constraints are those known, and whether they are boolean ("" is a list).
var constraints = map[string]string{
	domainRestricted: "", managedMembers: "boolean", noNewAccounts: "boolean", managedNoNewAccounts: "boolean",
	"iam.disableServiceAccountKeyCreation": "boolean", "iam.disableServiceAccountKeyUpload": "boolean",
	"iam.automaticIamGrantsForDefaultServiceAccounts":    "boolean",
	"iam.managed.disableServiceAccountKeyCreation":       "boolean",
	"iam.serviceAccountKeyExpiryHours":                   "",
	"iam.allowServiceAccountCredentialLifetimeExtension": "",
	"run.allowedIngress":                                 "", "run.allowedVPCEgress": "", "run.managed.requireInvokerIam": "boolean",
	"cloudfunctions.allowedIngressSettings": "", "compute.vmExternalIpAccess": "", "compute.requireOsLogin": "boolean",
	"compute.skipDefaultNetworkCreation": "boolean", "compute.restrictSharedVpcHostProjects": "",
	"gcp.resourceLocations": "", "gcp.restrictServiceUsage": "", "storage.uniformBucketLevelAccess": "boolean",
	"storage.publicAccessPrevention": "boolean", "sql.restrictPublicIp": "boolean", "essentialcontacts.allowedContactDomains": "",
}

func (w *world) newOrgPolicy(spec *PolicySpec, from, now time.Time) *orgPolicy {
	w.etags++
	return &orgPolicy{spec: spec, etag: w.etags, updated: now, past: []effect{{spec, from}}}
}

func (w *world) setSpec(p *orgPolicy, spec *PolicySpec, now time.Time) {
	w.etags++
	p.spec, p.etag, p.updated = spec, w.etags, now
	p.past = append(p.past, effect{spec, after(now, w.scenario.Propagation.OrgPolicy)})
}

// at is what the policy says at a time, once spread.
func (p *orgPolicy) at(t time.Time) *PolicySpec {
	var spec *PolicySpec
	for _, e := range p.past {
		if !t.Before(e.from) {
			spec = e.spec
		}
	}
	return spec
}

func (p *orgPolicy) etagText() string {
	return base64.StdEncoding.EncodeToString(append(eightBytes(p.etag*2654435761&0xffffffffff), '-', 'o'))
}

// effectivePolicy walks up the hierarchy as Google does: the nearest policy
// counts, and its parents' where it says so.
func (w *world) effectivePolicy(n *node, constraint string, t time.Time) *PolicySpec {
	return climb(n, constraint, func(p *orgPolicy) *PolicySpec { return p.at(t) })
}

func climb(n *node, constraint string, say func(*orgPolicy) *PolicySpec) *PolicySpec {
	rules := []PolicyRule{}
	for ; n != nil; n = n.parent {
		p := n.orgPolicies[constraint]
		if p == nil {
			continue
		}
		spec := say(p)
		if spec == nil {
			continue
		}
		if spec.Reset {
			break
		}
		rules = append(rules, spec.Rules...)
		if !spec.InheritFromParent {
			return &PolicySpec{Rules: rules}
		}
	}
	if len(rules) == 0 { // the constraints' default
		if constraints[constraint] == "boolean" {
			rules = append(rules, PolicyRule{})
		} else {
			rules = append(rules, PolicyRule{AllowAll: true})
		}
	}
	return &PolicySpec{Rules: rules}
}

// allowsAll, allows and enforced ignore conditional rules: tags are not
// emulated.
func (p *PolicySpec) allowsAll() bool {
	return slices.ContainsFunc(p.Rules, func(r PolicyRule) bool { return r.AllowAll && r.Condition == nil })
}

func (p *PolicySpec) allows(values ...string) bool {
	return slices.ContainsFunc(p.Rules, func(r PolicyRule) bool {
		return r.Condition == nil && r.Values != nil && slices.ContainsFunc(values, func(v string) bool { return slices.Contains(r.Values.AllowedValues, v) })
	})
}

func (p *PolicySpec) enforced() bool {
	return slices.ContainsFunc(p.Rules, func(r PolicyRule) bool { return r.Enforce && r.Condition == nil })
}

// parameters are those of iam.managed.allowedPolicyMembers.
func (p *PolicySpec) parameters() (subjects, sets []string) {
	for _, r := range p.Rules {
		var given struct {
			AllowedMemberSubjects []string `json:"allowedMemberSubjects"`
			AllowedPrincipalSets  []string `json:"allowedPrincipalSets"`
		}
		if len(r.Parameters) > 0 && json.Unmarshal(r.Parameters, &given) == nil {
			subjects = append(subjects, given.AllowedMemberSubjects...)
			sets = append(sets, given.AllowedPrincipalSets...)
		}
	}
	return subjects, sets
}

// orgPolicyJSON is a policy as sent and answered. A boolean rule says enforce
// even when it is false.
type orgPolicyJSON struct {
	Name       string          `json:"name,omitempty"`
	Etag       string          `json:"etag,omitempty"`
	Spec       *policySpecJSON `json:"spec,omitempty"`
	DryRunSpec *policySpecJSON `json:"dryRunSpec,omitempty"`
}

type policySpecJSON struct {
	Etag              string           `json:"etag,omitempty"`
	UpdateTime        string           `json:"updateTime,omitempty"`
	Rules             []map[string]any `json:"rules,omitempty"`
	InheritFromParent bool             `json:"inheritFromParent,omitempty"`
	Reset             bool             `json:"reset,omitempty"`
}

func renderSpec(constraint string, spec *PolicySpec) *policySpecJSON {
	out := &policySpecJSON{InheritFromParent: spec.InheritFromParent, Reset: spec.Reset}
	for _, r := range spec.Rules {
		rule := map[string]any{}
		if constraints[constraint] == "boolean" {
			rule["enforce"] = r.Enforce
		}
		if r.Values != nil {
			rule["values"] = r.Values
		}
		if r.AllowAll {
			rule["allowAll"] = true
		}
		if r.DenyAll {
			rule["denyAll"] = true
		}
		if r.Condition != nil {
			rule["condition"] = r.Condition
		}
		if len(r.Parameters) > 0 {
			rule["parameters"] = r.Parameters
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

func (c *call) renderOrgPolicy(constraint string, p *orgPolicy) orgPolicyJSON {
	spec := renderSpec(constraint, p.spec)
	spec.Etag = p.etagText()
	spec.UpdateTime = p.updated.UTC().Format("2006-01-02T15:04:05.000000Z")
	out := orgPolicyJSON{Name: c.project.name + "/policies/" + constraint, Etag: p.etagText(), Spec: spec}
	if p.dryRun != nil {
		out.DryRunSpec = renderSpec(constraint, p.dryRun)
		out.DryRunSpec.Etag, out.DryRunSpec.UpdateTime = spec.Etag, spec.UpdateTime
	}
	return out
}

type constraintJSON struct {
	Name              string `json:"name"`
	ConstraintDefault string `json:"constraintDefault"`
	ListConstraint    *empty `json:"listConstraint,omitempty"`
	BooleanConstraint *empty `json:"booleanConstraint,omitempty"`
}

// listConstraints lists those that a policy may be of; whether one is set does
// not matter. Without a policy all of them allow.
func (c *call) listConstraints() (any, *apiError) {
	var out struct {
		Constraints []constraintJSON `json:"constraints"`
	}
	for _, name := range sortedKeys(constraints) {
		one := constraintJSON{Name: c.project.name + "/constraints/" + name, ConstraintDefault: "ALLOW"}
		if constraints[name] == "boolean" {
			one.BooleanConstraint = &empty{}
		} else {
			one.ListConstraint = &empty{}
		}
		out.Constraints = append(out.Constraints, one)
	}
	return out, nil
}

func orgPolicyNotFound() *apiError {
	return errorf(http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.")
}

// ownPolicy is the project's own policy, if it has one.
func (c *call) ownPolicy(constraint string) *orgPolicy {
	if p := c.project.orgPolicies[constraint]; p != nil && p.spec != nil {
		return p
	}
	return nil
}

// listOrgPolicies answers all at once. Google documents for both lists of this
// API that page size and token are not used, and clients rely on it: gcloud
// reads the first page only.
func (c *call) listOrgPolicies() (any, *apiError) {
	var out struct {
		Policies []orgPolicyJSON `json:"policies,omitempty"`
	}
	for _, name := range sortedKeys(c.project.orgPolicies) {
		if p := c.ownPolicy(name); p != nil {
			out.Policies = append(out.Policies, c.renderOrgPolicy(name, p))
		}
	}
	return out, nil
}

func (c *call) getOrgPolicy() (any, *apiError) {
	name := c.vars["constraint"]
	p := c.ownPolicy(name)
	if p == nil {
		return nil, orgPolicyNotFound()
	}
	return c.renderOrgPolicy(name, p), nil
}

// getEffectiveOrgPolicy answers what is configured; what has effect lags
// behind it by the scenario's delay.
func (c *call) getEffectiveOrgPolicy() (any, *apiError) {
	name := c.vars["constraint"]
	if _, known := constraints[name]; !known {
		return nil, orgPolicyNotFound()
	}
	spec := climb(&c.project.node, name, func(p *orgPolicy) *PolicySpec { return p.spec })
	return orgPolicyJSON{Name: c.project.name + "/policies/" + name, Spec: renderSpec(name, spec)}, nil
}

// In an orgPolicyRequest the deprecated alternate is accepted and not kept.
type orgPolicyRequest struct {
	Name       string      `json:"name"`
	Etag       string      `json:"etag"`
	Spec       *PolicySpec `json:"spec"`
	DryRunSpec *PolicySpec `json:"dryRunSpec"`
	Alternate  *struct {
		Launch string      `json:"launch"`
		Spec   *PolicySpec `json:"spec"`
	} `json:"alternate"`
}

// readOrgPolicy reads and validates a policy that is to be set.
func (c *call) readOrgPolicy() (string, *orgPolicyRequest, *apiError) {
	req := new(orgPolicyRequest)
	if err := decode(c.body, req); err != nil {
		return "", nil, err
	}
	parent, name, ok := strings.Cut(strings.TrimPrefix(req.Name, "projects/"), "/policies/")
	if !ok || c.world.projectNamed(parent) != c.project {
		return "", nil, invalid("The policy name must be projects/%s/policies/CONSTRAINT.", c.vars["project"])
	}
	kind, known := constraints[name]
	switch {
	case !known:
		return "", nil, invalid("Request contains an invalid argument.").with(fieldViolation("policy.name", "The constraint "+name+" does not exist."))
	case req.Spec == nil:
		return "", nil, invalid("Request contains an invalid argument.").with(fieldViolation("policy.spec", "The spec is missing."))
	case req.Spec.Reset && (len(req.Spec.Rules) > 0 || req.Spec.InheritFromParent):
		return "", nil, invalid("Request contains an invalid argument.").with(fieldViolation("policy.spec.reset", "A policy that resets has no rules and does not inherit."))
	}
	rules := req.Spec.Rules
	if req.DryRunSpec != nil {
		rules = slices.Concat(rules, req.DryRunSpec.Rules)
	}
	for _, r := range rules {
		list := r.AllowAll || r.DenyAll || r.Values != nil
		if (kind == "boolean") == list || r.AllowAll && (r.DenyAll || r.Values != nil) || r.DenyAll && r.Values != nil {
			return "", nil, invalid("Request contains an invalid argument.").with(fieldViolation("policy.spec.rules", "The rule does not suit the constraint "+name+"."))
		}
	}
	return name, req, nil
}

func (c *call) createOrgPolicy() (any, *apiError) {
	name, req, err := c.readOrgPolicy()
	if err != nil {
		return nil, err
	}
	if c.ownPolicy(name) != nil {
		return nil, errorf(http.StatusConflict, "ALREADY_EXISTS", "Requested entity already exists")
	}
	return c.storeOrgPolicy(name, req.Spec, req.DryRunSpec), nil
}

func (c *call) patchOrgPolicy() (any, *apiError) {
	name, req, err := c.readOrgPolicy()
	if err != nil {
		return nil, err
	}
	if name != c.vars["constraint"] {
		return nil, invalid("Request contains an invalid argument.").with(fieldViolation("policy.name", "The name does not match the URL."))
	}
	p := c.ownPolicy(name)
	if p == nil {
		return nil, orgPolicyNotFound()
	}
	if err := p.checkEtag(req.Etag, req.Spec.Etag); err != nil {
		return nil, err
	}
	spec, dryRun := p.spec, p.dryRun
	switch mask := c.r.URL.Query().Get("updateMask"); mask {
	case "", "*":
		spec, dryRun = req.Spec, req.DryRunSpec
	case "spec", "policy.spec", "policy.spec.rules":
		spec = req.Spec
	case "dryRunSpec", "policy.dryRunSpec", "dry_run_spec", "policy.dry_run_spec":
		dryRun = req.DryRunSpec
	default:
		return nil, invalid("Request contains an invalid argument.").with(fieldViolation("update_mask", "The mask is not valid."))
	}
	return c.storeOrgPolicy(name, spec, dryRun), nil
}

func (p *orgPolicy) checkEtag(etags ...string) *apiError {
	for _, etag := range etags {
		if etag != "" && etag != p.etagText() {
			return errorf(http.StatusConflict, "ABORTED", "The etag provided in the request does not match the current one. Please retry the whole read-modify-write with exponential backoff.")
		}
	}
	return nil
}

func (c *call) storeOrgPolicy(name string, spec, dryRun *PolicySpec) orgPolicyJSON {
	spec.Etag, spec.UpdateTime = "", ""
	p := c.project.orgPolicies[name]
	if p == nil {
		p = &orgPolicy{}
		c.project.orgPolicies[name] = p
	}
	p.dryRun = dryRun
	c.world.setSpec(p, spec, c.now)
	return c.renderOrgPolicy(name, p)
}

func (c *call) deleteOrgPolicy() (any, *apiError) {
	p := c.ownPolicy(c.vars["constraint"])
	if p == nil {
		return nil, orgPolicyNotFound()
	}
	if err := p.checkEtag(c.r.URL.Query().Get("etag")); err != nil {
		return nil, err
	}
	c.world.setSpec(p, nil, c.now)
	return empty{}, nil
}
