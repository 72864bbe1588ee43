package google

import (
	"regexp"
	"slices"
	"strings"
)

var memberPattern = regexp.MustCompile(`^(allUsers|allAuthenticatedUsers|(user|serviceAccount|group):[^@\s:]+@[^@\s]+\.[^@\s]+|domain:[^@\s]+\.[^@\s]+|deleted:(user|serviceAccount|group):[^\s]+\?uid=[0-9]+|(principal|principalSet)://[^\s]+|project(Owner|Editor|Viewer):[^\s]+)$`)

func memberForm(m string) bool { return memberPattern.MatchString(m) }

// checkMembers validates every member of a policy, those that were there
// before too: an old member that is no longer welcome blocks any change.
func (c *call) checkMembers(p *policy, bindings []Binding, where scope) *apiError {
	for _, b := range bindings {
		for _, m := range b.Members {
			switch {
			case !memberForm(m):
				return invalid("The member %s is of an unknown type. Please set the correct type prefix for the member: user, serviceAccount, group or domain.", m)
			case m == "allUsers" || m == "allAuthenticatedUsers":
				return invalid("Policy members must be of the form \"<type>:<value>\".").with(
					errorInfo("PROJECT_SET_IAM_DISALLOWED_MEMBER_TYPE", "cloudresourcemanager.googleapis.com", map[string]string{"member": m, "role": b.Role}))
			case !c.memberExists(m):
				return invalid("Service account %s does not exist.", strings.TrimPrefix(m, "serviceAccount:"))
			}
		}
	}
	legacy := c.world.effectivePolicy(&c.project.node, domainRestricted, c.now)
	managed := c.world.effectivePolicy(&c.project.node, managedMembers, c.now)
	for _, b := range bindings {
		for _, m := range b.Members {
			if err := c.restricted(m, legacy, managed); err != nil {
				return err
			}
		}
	}
	if where != onProject {
		return nil
	}
	return c.checkOwners(p, bindings)
}

// memberExists knows the service accounts of the scenario's projects. Google's
// own (service agents, default accounts) and people are believed to exist.
func (c *call) memberExists(member string) bool {
	email, ok := strings.CutPrefix(member, "serviceAccount:")
	if !ok || !strings.HasSuffix(email, ".iam.gserviceaccount.com") || strings.HasPrefix(email, "service-") {
		return true
	}
	a := c.world.accounts[email]
	return a != nil && (a.created.IsZero() || !c.now.Before(after(a.created, c.world.scenario.Propagation.AccountMember)))
}

// checkOwners: a person becomes owner of a project only by invitation, unless
// of its organization.
func (c *call) checkOwners(p *policy, bindings []Binding) *apiError {
	people := 0
	for _, b := range bindings {
		if b.Role != "roles/owner" {
			continue
		}
		for _, m := range b.Members {
			email, isUser := strings.CutPrefix(m, "user:")
			if !isUser {
				continue
			}
			people++
			if g := p.grant(keyOf(b, m)); g != nil && g.until.IsZero() {
				continue // was owner before
			}
			reason := "SOLO_MUST_INVITE_OWNERS"
			if c.project.org != nil {
				reason = "ORG_MUST_INVITE_EXTERNAL_OWNERS"
				if _, domain, _ := strings.Cut(email, "@"); domain == c.project.org.Domain {
					continue
				}
			}
			return ownerError(reason, m)
		}
	}
	hadPeople := slices.ContainsFunc(p.bindings, func(b Binding) bool {
		return b.Role == "roles/owner" && slices.ContainsFunc(b.Members, func(m string) bool { return strings.HasPrefix(m, "user:") })
	})
	if c.project.org == nil && hadPeople && people == 0 {
		return ownerError("SOLO_REQUIRE_TOS_ACCEPTOR", "")
	}
	return nil
}

func ownerError(reason, member string) *apiError {
	metadata := map[string]string{"role": "roles/owner"}
	if member != "" {
		metadata["member"] = member
	}
	return invalid("Request contains an invalid argument.").with(errorInfo(reason, "cloudresourcemanager.googleapis.com", metadata))
}

const (
	domainRestricted        = "iam.allowedPolicyMemberDomains"
	managedMembers          = "iam.managed.allowedPolicyMembers"
	noNewAccounts           = "iam.disableServiceAccountCreation"
	managedNoNewAccounts    = "iam.managed.disableServiceAccountCreation"
	orgResourcePrefix       = "//cloudresourcemanager.googleapis.com/"
	customerNotPermittedMsg = "One or more users named in the policy do not belong to a permitted customer."
)

// restricted applies domain-restricted sharing, the legacy constraint and the
// managed one, as they have effect now.
func (c *call) restricted(member string, legacy, managed *PolicySpec) *apiError {
	if strings.HasPrefix(member, "deleted:") || strings.HasPrefix(member, "project") {
		return nil
	}
	home := c.world.homeOf(member)
	if !legacy.allowsAll() && (home == nil || !legacy.allows(home.CustomerID, "is:"+home.CustomerID, "under:organizations/"+home.ID)) {
		return precondition("%s", customerNotPermittedMsg).with(
			preconditionFailure("constraints/"+domainRestricted, orgResourcePrefix+"projects/"+c.project.id, customerNotPermittedMsg))
	}
	if !managed.enforced() {
		return nil
	}
	subjects, sets := managed.parameters()
	if slices.Contains(subjects, member) || home != nil && slices.Contains(sets, orgResourcePrefix+"organizations/"+home.ID) {
		return nil
	}
	return precondition("Operation denied by org policy on resource '%s': [\"constraints/%s\"].", orgResourcePrefix+"projects/"+c.project.id, managedMembers).with(
		preconditionFailure("constraints/"+managedMembers, orgResourcePrefix+"projects/"+c.project.id, ""))
}

// homeOf is the organization that a member belongs to; nil: none known.
func (w *world) homeOf(member string) *Organization {
	kind, email, _ := strings.Cut(member, ":")
	if kind == "serviceAccount" {
		if a := w.accounts[email]; a != nil {
			return a.project.org
		}
		return w.homeOfAgent(email)
	}
	domain := email
	if _, after, ok := strings.Cut(email, "@"); ok {
		domain = after
	}
	for i := range w.scenario.Organizations {
		if w.scenario.Organizations[i].Domain == domain {
			return &w.scenario.Organizations[i]
		}
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]{6,}`)

// homeOfAgent places Google's own accounts by the project number within.
func (w *world) homeOfAgent(email string) *Organization {
	if p := w.numbers[digits.FindString(email)]; p != nil {
		return p.org
	}
	return nil
}
