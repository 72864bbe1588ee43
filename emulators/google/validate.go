package google

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	number      = regexp.MustCompile(`^[1-9][0-9]{0,20}$`)
	projectForm = regexp.MustCompile(`^[a-z][-a-z0-9]{4,28}[a-z0-9]$`)
	accountForm = regexp.MustCompile(`^[a-z]([-a-z0-9]{4,28}[a-z0-9])$`)
	assetForm   = regexp.MustCompile(`^[a-z][-a-z0-9.]*\.googleapis\.com/[A-Za-z][A-Za-z0-9/]*$`)
	serviceForm = regexp.MustCompile(`^[a-z][-a-z0-9.]*\.[a-z][-a-z0-9.]*$`)
)

// maxGenerated bounds what one generator or count makes, maxResources all of
// the resources together; more would be a slip of the keyboard.
const (
	maxGenerated = 20_000
	maxResources = 1_000_000
)

// Validate reports every fault of the scenario at once, each under its path.
func (s *Scenario) Validate() error {
	var f findings
	once := map[string]string{}
	unique := func(path, kind, value string) {
		if earlier, taken := once[kind+"\x00"+value]; taken && value != "" {
			f.add(path, "%q is taken by %s", value, earlier)
			return
		}
		once[kind+"\x00"+value] = path
	}
	email := func(path, value string) {
		if name, domain, ok := strings.Cut(value, "@"); !ok || name == "" || !strings.Contains(domain, ".") {
			f.add(path, "%q is not an email address", value)
		}
		unique(path, "email", value)
	}
	for i, u := range s.Users {
		path := fmt.Sprintf("users[%d]", i)
		email(path+".email", u.Email)
		if !number.MatchString(u.Sub) {
			f.add(path+".sub", "%q is not a number", u.Sub)
		}
		unique(path+".sub", "sub", u.Sub)
		if u.RefreshError != "" && u.RefreshError != "invalid_rapt" && u.RefreshError != "invalid_grant" {
			f.add(path+".refreshError", "%q is neither invalid_rapt nor invalid_grant", u.RefreshError)
		}
	}
	for i, g := range s.Groups {
		email(fmt.Sprintf("groups[%d].email", i), g.Email)
	}
	nodes := map[string]bool{}
	for i, o := range s.Organizations {
		path := fmt.Sprintf("organizations[%d]", i)
		f.number(path+".id", o.ID)
		unique(path+".id", "organization", o.ID)
		if o.Domain == "" {
			f.add(path+".domain", "is missing")
		}
		if o.CustomerID == "" {
			f.add(path+".customerId", "is missing")
		}
		nodes["organizations/"+o.ID] = true
		f.bindings(path, s, o.Bindings, onProject|onOrganization)
		f.constraints(path, o.OrgPolicies)
	}
	parent := func(path, name string) {
		if !nodes[name] {
			f.add(path, "no organization or earlier folder is named %q", name)
		}
	}
	for i, folder := range s.Folders {
		path := fmt.Sprintf("folders[%d]", i)
		f.number(path+".id", folder.ID)
		unique(path+".id", "folder", folder.ID)
		parent(path+".parent", folder.Parent)
		nodes["folders/"+folder.ID] = true
		f.bindings(path, s, folder.Bindings, onProject|onOrganization)
		f.constraints(path, folder.OrgPolicies)
	}
	projects := map[string]bool{}
	checkProject := func(path string, p *Project) {
		projects[p.ID] = true
		if !projectForm.MatchString(p.ID) {
			f.add(path+".id", "%q is not 6 to 30 lowercase letters, digits and hyphens", p.ID)
		}
		f.number(path+".number", p.Number)
		unique(path+".id", "project", p.ID)
		unique(path+".number", "number", p.Number)
		if p.Parent != "" {
			parent(path+".parent", p.Parent)
		}
		if !slices.Contains([]string{"", "ACTIVE", "DELETE_REQUESTED", "DELETE_IN_PROGRESS"}, p.State) {
			f.add(path+".state", "%q is not a state of a project", p.State)
		}
		f.time(path+".createTime", p.CreateTime)
		f.bindings(path, s, p.Bindings, onProject)
		f.constraints(path, p.OrgPolicies)
		f.contents(path, s, p)
	}
	for i := range s.Projects {
		checkProject(fmt.Sprintf("projects[%d]", i), &s.Projects[i])
	}
	for i, g := range s.Generate {
		path := fmt.Sprintf("generate[%d]", i)
		if g.Count < 1 || g.Count > maxGenerated || g.First < 0 || g.Width < 0 || g.Width > 9 {
			f.add(path, "count must be 1 to %d, first at least 0, width 0 to 9", maxGenerated)
			continue
		}
		if g.Count > 1 && (!strings.Contains(g.Project.ID, "{n}") || !strings.Contains(g.Project.Number, "{n}")) {
			f.add(path+".project", "id and number need {n}")
			continue
		}
		before := len(f.errs)
		for n := range g.Count {
			p := g.project(n)
			checkProject(path+".project", &p)
			if len(f.errs) > before {
				break // the others repeat it
			}
		}
	}
	if s.resources() > maxResources {
		f.add("projects", "make more than %d resources", maxResources)
	}
	f.clients(s, projects, unique)
	if s.Metadata != nil && !projects[s.Metadata.Project] {
		f.add("metadata.project", "no project is named %q", s.Metadata.Project)
	}
	for _, name := range sortedKeys(s.Roles) {
		if !strings.Contains(name, "roles/") {
			f.add("roles."+name, "is not a role's name")
		}
	}
	for i, name := range s.Services {
		if !serviceForm.MatchString(name) {
			f.add(fmt.Sprintf("services[%d]", i), "%q is not a service's name", name)
		}
	}
	if s.AccountLimit < 0 {
		f.add("accountLimit", "is negative")
	}
	f.latencies(s.Latencies)
	if s.Pages.Size < 0 {
		f.add("pages.size", "is negative")
	}
	if c := s.Propagation.AccountReadCode; c != 0 && c != 403 && c != 404 {
		f.add("propagation.accountReadCode", "is neither 403 nor 404")
	}
	for i := range s.Faults {
		f.fault(fmt.Sprintf("faults[%d]", i), &s.Faults[i])
	}
	return f.err()
}

// resources counts all that there would be.
func (s *Scenario) resources() int {
	within := func(p *Project) (n int) {
		for _, r := range p.Resources {
			n += max(r.Count, 1)
		}
		return n
	}
	total := 0
	for i := range s.Projects {
		total += within(&s.Projects[i])
	}
	for i := range s.Generate {
		total += s.Generate[i].Count * within(&s.Generate[i].Project)
	}
	return total
}

// latencies: an operation may never end, but a call must.
func (f *findings) latencies(l Latencies) {
	for name, d := range map[string]Duration{"read": l.Read, "iamWrite": l.IAMWrite, "createAccount": l.CreateAccount, "batchEnable": l.BatchEnable, "oauth": l.OAuth} {
		if d == Never {
			f.add("latencies."+name, "must end")
		}
	}
}

func (f *findings) number(path, value string) {
	if !number.MatchString(value) {
		f.add(path, "%q is not a number", value)
	}
}

func (f *findings) time(path, value string) {
	if value == "" {
		return
	}
	if _, err := time.Parse(time.RFC3339, value); err != nil {
		f.add(path, "%q is not a time such as 2025-01-31T10:00:00Z", value)
	}
}

func (f *findings) bindings(path string, s *Scenario, bindings []Binding, where scope) {
	for i, b := range bindings {
		at := fmt.Sprintf("%s.bindings[%d]", path, i)
		r, known := s.role(b.Role)
		if !known {
			f.add(at+".role", "%q is not a known role; declare it under roles", b.Role)
		} else if !r.on(where) {
			f.add(at+".role", "%q cannot be granted here", b.Role)
		}
		for j, m := range b.Members {
			if !memberForm(m) {
				f.add(fmt.Sprintf("%s.members[%d]", at, j), "%q is not a member such as user:EMAIL", m)
			}
		}
	}
}

func (f *findings) constraints(path string, policies map[string]PolicySpec) {
	for _, name := range sortedKeys(policies) {
		if _, known := constraints[name]; !known {
			f.add(path+".orgPolicies."+name, "is not a known constraint")
		}
	}
}

func (f *findings) contents(path string, s *Scenario, p *Project) {
	exists := s.serviceExists
	if p.EnabledAPIs != nil {
		for i, name := range *p.EnabledAPIs {
			if !exists(name) {
				f.add(fmt.Sprintf("%s.enabledApis[%d]", path, i), "%q is not a known service; declare it under services", name)
			}
		}
	}
	for i, failure := range p.ServiceFailures {
		at := fmt.Sprintf("%s.serviceFailures[%d]", path, i)
		if !exists(failure.Service) {
			f.add(at+".service", "%q is not a known service; declare it under services", failure.Service)
		}
		if !slices.Contains([]string{"", "call", "operation", "failures"}, failure.At) {
			f.add(at+".at", "%q is none of call, operation, failures", failure.At)
		}
		if c := failure.Code; c != 0 && (c < 400 || c > 599) {
			f.add(at+".code", "%d is not an error", c)
		}
	}
	seen := map[string]bool{}
	for i, a := range p.ServiceAccounts {
		at := fmt.Sprintf("%s.serviceAccounts[%d]", path, i)
		if !accountForm.MatchString(a.AccountID) || seen[a.AccountID] {
			f.add(at+".accountId", "%q is not 6 to 30 lowercase letters, digits and hyphens, or is there twice", a.AccountID)
		}
		seen[a.AccountID] = true
		f.bindings(at, s, a.Bindings, onAccount)
	}
	for i, r := range p.Resources {
		at := fmt.Sprintf("%s.resources[%d]", path, i)
		if !assetForm.MatchString(r.AssetType) {
			f.add(at+".assetType", "%q is not an asset type such as compute.googleapis.com/Instance", r.AssetType)
		}
		if r.Name == "" {
			f.add(at+".name", "is missing")
		}
		if r.Count < 0 || r.Count > maxGenerated {
			f.add(at+".count", "must be 0 to %d", maxGenerated)
		}
		f.time(at+".createTime", r.CreateTime)
		f.time(at+".updateTime", r.UpdateTime)
	}
}

func (f *findings) clients(s *Scenario, projects map[string]bool, unique func(path, kind, value string)) {
	for i, c := range s.Clients {
		path := fmt.Sprintf("clients[%d]", i)
		if c.ID == "" {
			f.add(path+".id", "is missing")
		}
		if c.Secret == "" {
			f.add(path+".secret", "is missing")
		}
		unique(path+".id", "client", c.ID)
		if !projects[c.Project] {
			f.add(path+".project", "no project is named %q", c.Project)
		}
		for j, uri := range c.RedirectURIs {
			if u, err := url.Parse(uri); err != nil || u.Scheme == "" || u.Host == "" || u.Fragment != "" {
				f.add(fmt.Sprintf("%s.redirectUris[%d]", path, j), "%q is not an absolute URL without fragment", uri)
			}
		}
		if !slices.Contains([]string{"", "access_denied", "admin_policy_enforced", "org_internal", "deleted_client"}, c.AuthError) {
			f.add(path+".authError", "%q is not an error of an authorization", c.AuthError)
		}
	}
}
