package google

import (
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A world is the state of one emulated Google. Its methods need the server's
// lock.
type world struct {
	scenario *Scenario
	random   *mathrand.Rand
	started  time.Time
	etags    uint64 // last one given

	nodes    map[string]*node    // organizations/N, folders/N
	projects map[string]*project // by ID
	sorted   []*project          // by ID
	numbers  map[string]*project // by number
	accounts map[string]*account // those alive, by email
	uids     map[string]*account // all there ever were, by unique ID
	// policies are those in which a member has or had a grant, and granted the
	// projects of them in the order of sorted: who sees little of a large
	// organization must not pay for the rest.
	policies map[string]map[*policy]struct{}
	granted  map[string][]*project
	users    map[string]*User // by email
	ops      map[string]*operation
	faults   []*fault

	grants  map[grantKeyOAuth]*consent
	codes   map[string]*authCode
	access  map[string]*accessToken
	refresh map[string]*refreshToken
	held    map[holder][]*refreshToken // the oldest first, some of them dead
}

// A node is a place in the hierarchy of resources.
type node struct {
	name        string // organizations/N, folders/N, projects/NUMBER
	parent      *node
	org         *Organization // the root's; nil: none
	policy      *policy
	orgPolicies map[string]*orgPolicy // by constraint
	beneath     []*project            // of a folder or organization: all in it, by ID
}

type project struct {
	node
	id, number string
	def        *Project
	services   map[string]*serviceState
	failures   []ServiceFailure
	accounts   int // alive
	everMade   []*account
	lastChange *operation // of services
}

type serviceState struct {
	from  time.Time // enabled from then on; zero: always
	until time.Time // not any more; zero: still
}

func (s *serviceState) enabled(now time.Time) bool {
	return s != nil && !now.Before(s.from) && (s.until.IsZero() || now.Before(s.until))
}

type account struct {
	project     *project
	id, email   string
	uid         string
	displayName string
	description string
	disabled    bool
	policy      *policy
	created     time.Time // zero: was there from the start
	deleted     time.Time // zero: alive
}

func newWorld(s *Scenario, random *mathrand.Rand, now time.Time) *world {
	w := &world{
		scenario: s, random: random, started: now,
		nodes: map[string]*node{}, projects: map[string]*project{}, numbers: map[string]*project{},
		accounts: map[string]*account{}, uids: map[string]*account{}, users: map[string]*User{},
		policies: map[string]map[*policy]struct{}{}, granted: map[string][]*project{},
		ops: map[string]*operation{}, grants: map[grantKeyOAuth]*consent{}, codes: map[string]*authCode{},
		access: map[string]*accessToken{}, refresh: map[string]*refreshToken{}, held: map[holder][]*refreshToken{},
	}
	for i := range s.Users {
		w.users[s.Users[i].Email] = &s.Users[i]
	}
	place := func(n *node, policies map[string]PolicySpec) {
		n.orgPolicies = map[string]*orgPolicy{}
		for _, name := range sortedKeys(policies) {
			spec := policies[name]
			n.orgPolicies[name] = w.newOrgPolicy(&spec, time.Time{}, now)
		}
	}
	for i := range s.Organizations {
		o := &s.Organizations[i]
		n := &node{name: "organizations/" + o.ID, org: o, policy: w.newPolicy(nil, o.Bindings)}
		place(n, o.OrgPolicies)
		w.nodes[n.name] = n
	}
	for i := range s.Folders {
		f := &s.Folders[i]
		parent := w.nodes[f.Parent]
		n := &node{name: "folders/" + f.ID, parent: parent, org: parent.org, policy: w.newPolicy(nil, f.Bindings)}
		place(n, f.OrgPolicies)
		w.nodes[n.name] = n
	}
	all := slices.Clone(s.Projects)
	for _, g := range s.Generate {
		for n := range g.Count {
			all = append(all, g.project(n))
		}
	}
	slices.SortFunc(all, func(a, b Project) int { return strings.Compare(a.ID, b.ID) })
	for i := range all {
		def := &all[i]
		p := &project{id: def.ID, number: def.Number, def: def, services: map[string]*serviceState{}, failures: slices.Clone(def.ServiceFailures)}
		p.name = "projects/" + def.Number
		if def.Parent != "" {
			p.parent = w.nodes[def.Parent]
			p.org = p.parent.org
		}
		for n := p.parent; n != nil; n = n.parent {
			n.beneath = append(n.beneath, p)
		}
		p.policy = w.newPolicy(p, def.Bindings)
		place(&p.node, def.OrgPolicies)
		enabled := newProjectServices
		if def.EnabledAPIs != nil {
			enabled = *def.EnabledAPIs
		}
		for _, name := range enabled {
			p.services[name] = &serviceState{}
		}
		w.projects[p.id], w.numbers[p.number] = p, p
		w.sorted = append(w.sorted, p)
		for _, a := range def.ServiceAccounts {
			made := w.newAccount(p, a.AccountID, a.DisplayName, a.Description, time.Time{})
			made.disabled = a.Disabled
			made.policy = w.newPolicy(nil, a.Bindings)
		}
	}
	for i := range s.Faults {
		w.faults = append(w.faults, &fault{Fault: s.Faults[i]})
	}
	return w
}

func (w *world) newAccount(p *project, id, displayName, description string, created time.Time) *account {
	a := &account{
		project: p, id: id, email: id + "@" + p.id + ".iam.gserviceaccount.com",
		uid:         fmt.Sprintf("1%020d", w.random.Uint64()), // 21 digits
		displayName: displayName, description: description, created: created, policy: w.newPolicy(nil, nil),
	}
	w.accounts[a.email], w.uids[a.uid] = a, a
	p.everMade = append(p.everMade, a)
	p.accounts++
	return a
}

// projectNamed finds a project by ID or number.
func (w *world) projectNamed(name string) *project {
	if p := w.projects[name]; p != nil {
		return p
	}
	return w.numbers[name]
}

// accountNamed finds an account alive by email or unique ID.
func (w *world) accountNamed(name string) *account {
	if a := w.accounts[name]; a != nil {
		return a
	}
	if a := w.uids[name]; a != nil && a.deleted.IsZero() {
		return a
	}
	return nil
}

func (p *project) state() string {
	if p.def.State == "" {
		return "ACTIVE"
	}
	return p.def.State
}

func (p *project) active() bool { return p.state() == "ACTIVE" }

func (p *project) billingEnabled() bool { return p.def.BillingAccount != "" && !p.def.BillingClosed }

func (p *project) displayName() string {
	if p.def.Name == "" {
		return p.id
	}
	return p.def.Name
}

// createTime is made up from the number where the scenario does not say.
func (p *project) createTime() string {
	if p.def.CreateTime != "" {
		return p.def.CreateTime
	}
	days := 0
	for _, digit := range p.number {
		days = (days*10 + int(digit-'0')) % 1000
	}
	return time.Date(2022, 1, 10, 9, 30, 0, 0, time.UTC).AddDate(0, 0, days).Format("2006-01-02T15:04:05.000Z")
}

// sortedProjects returns all projects by ID. They neither come nor go.
func (w *world) sortedProjects() []*project { return w.sorted }

func byID(p *project, id string) int { return strings.Compare(p.id, id) }

// remember notes that a member has a grant in a policy.
func (w *world) remember(member string, p *policy) {
	if w.policies[member] == nil {
		w.policies[member] = map[*policy]struct{}{}
	}
	w.policies[member][p] = struct{}{}
	if p.project == nil {
		return
	}
	projects := w.granted[member]
	if i, found := slices.BinarySearchFunc(projects, p.project.id, byID); !found {
		w.granted[member] = slices.Insert(projects, i, p.project)
	}
}

// within goes through the projects after an ID on which the principal has or
// had a grant of any kind, by itself or by what is above them, in order.
func (w *world) within(p *principal, after string) iter.Seq[*project] {
	var lists [][]*project
	add := func(projects []*project) {
		i, found := slices.BinarySearchFunc(projects, after, byID)
		if found {
			i++
		}
		lists = append(lists, projects[i:])
	}
	for member := range p.members {
		add(w.granted[member])
	}
	for _, n := range w.nodes {
		if n.policy.names(p) {
			add(n.beneath)
		}
	}
	return func(yield func(*project) bool) {
		for {
			var next *project
			for _, list := range lists {
				if len(list) > 0 && (next == nil || list[0].id < next.id) {
					next = list[0]
				}
			}
			if next == nil || !yield(next) {
				return
			}
			for i, list := range lists {
				if len(list) > 0 && list[0] == next {
					lists[i] = list[1:]
				}
			}
		}
	}
}

func (w *world) projectAccounts(p *project) []*account {
	alive := slices.DeleteFunc(slices.Clone(p.everMade), func(a *account) bool { return !a.deleted.IsZero() })
	slices.SortFunc(alive, func(a, b *account) int { return strings.Compare(a.email, b.email) })
	return alive
}

// chain is what grants permissions on a node: its policy and its ancestors'.
func (n *node) chain() []*policy {
	var out []*policy
	for ; n != nil; n = n.parent {
		out = append(out, n.policy)
	}
	return out
}
