package google

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Call is one call that was answered, or whose caller left. OAuth calls are
// counted too; the consent page, the metadata server and /admin/ are not.
type Call struct {
	Time     time.Time     `json:"time"`     // of arrival
	Duration time.Duration `json:"duration"` // nanoseconds; of a call that hangs, until it began to
	Method   string        `json:"method"`
	Project  string        `json:"project,omitempty"` // ID, as far as the path names one
	Caller   string        `json:"caller,omitempty"`  // email
	Status   int           `json:"status"`            // HTTP; 0: connection reset; 499: the caller left
	Write    bool          `json:"write,omitempty"`   // of a method that changes the customer's cloud
	Fault    bool          `json:"fault,omitempty"`   // answered, cut or lost by a fault
}

// String is c as a line of a log, such as
//
//	2026-03-01T12:00:00.080Z 200     80ms cloudresourcemanager.projects.get in shop-production by demo@example.com
func (c Call) String() string {
	line := fmt.Sprintf("%s %3d %8s %s", c.Time.UTC().Format("2006-01-02T15:04:05.000Z"), c.Status, c.Duration.Round(time.Millisecond), c.Method)
	if c.Project != "" {
		line += " in " + c.Project
	}
	if c.Caller != "" {
		line += " by " + c.Caller
	}
	if c.Fault {
		line += " (fault)"
	}
	return line
}

// Counts are totals of calls.
type Counts struct {
	Total     int            `json:"total"`
	Writes    int            `json:"writes"`
	Errors    int            `json:"errors"` // status 0 or 400 and above
	ByMethod  map[string]int `json:"byMethod"`
	ByProject map[string]int `json:"byProject"`
}

// Calls returns the calls since the scenario was loaded or ClearCalls, in the
// order of their ends.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ClearCalls forgets the calls so far.
func (s *Server) ClearCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// CallCounts adds up the calls.
func (s *Server) CallCounts() Counts { return countCalls(s.Calls()) }

func countCalls(calls []Call) Counts {
	counts := Counts{ByMethod: map[string]int{}, ByProject: map[string]int{}}
	for _, c := range calls {
		counts.Total++
		counts.ByMethod[c.Method]++
		if c.Project != "" {
			counts.ByProject[c.Project]++
		}
		if c.Write {
			counts.Writes++
		}
		if c.Status == 0 || c.Status >= 400 {
			counts.Errors++
		}
	}
	return counts
}

// A Snapshot is the state of everything, as far as calls can change it.
type Snapshot struct {
	Time     time.Time         `json:"time"`
	Projects []ProjectSnapshot `json:"projects"`
	Consents []ConsentSnapshot `json:"consents,omitempty"`
}

// A ProjectSnapshot is the state of one project.
type ProjectSnapshot struct {
	ID              string                `json:"id"`
	Number          string                `json:"number"`
	State           string                `json:"state"`
	BillingEnabled  bool                  `json:"billingEnabled"`
	Bindings        []Binding             `json:"bindings,omitempty"`
	EnabledAPIs     []string              `json:"enabledApis,omitempty"`
	ServiceAccounts []AccountSnapshot     `json:"serviceAccounts,omitempty"`
	OrgPolicies     map[string]PolicySpec `json:"orgPolicies,omitempty"`
}

// An AccountSnapshot is the state of one service account, alive.
type AccountSnapshot struct {
	Email       string    `json:"email"`
	UniqueID    string    `json:"uniqueId"`
	DisplayName string    `json:"displayName,omitempty"`
	Description string    `json:"description,omitempty"`
	Disabled    bool      `json:"disabled,omitempty"`
	Bindings    []Binding `json:"bindings,omitempty"`
}

// A ConsentSnapshot is what a user has granted.
type ConsentSnapshot struct {
	User          string   `json:"user"`
	Project       string   `json:"project"` // of the OAuth client
	Scopes        []string `json:"scopes"`
	RefreshTokens int      `json:"refreshTokens"` // alive
}

// Snapshot returns the state as it is now. Two snapshots of equal state are
// equal but for Time.
func (s *Server) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.state(s.clock.Now())
}

func (w *world) state(now time.Time) Snapshot {
	out := Snapshot{Time: now}
	for _, p := range w.sortedProjects() {
		out.Projects = append(out.Projects, w.snapshot(p, now))
	}
	tokens := map[*consent]int{}
	for _, t := range w.refresh {
		if t.alive(now) {
			tokens[t.grant]++
		}
	}
	for _, g := range w.grants {
		out.Consents = append(out.Consents, ConsentSnapshot{User: g.user, Project: g.project, Scopes: slices.Clone(g.scopes), RefreshTokens: tokens[g]})
	}
	slices.SortFunc(out.Consents, func(a, b ConsentSnapshot) int {
		return slices.Compare([]string{a.User, a.Project}, []string{b.User, b.Project})
	})
	return out
}

func (w *world) snapshot(p *project, now time.Time) ProjectSnapshot {
	out := ProjectSnapshot{ID: p.id, Number: p.number, State: p.state(), BillingEnabled: p.billingEnabled(), Bindings: cloneBindings(p.policy.bindings)}
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		if p.services[name].enabled(now) {
			out.EnabledAPIs = append(out.EnabledAPIs, name)
		}
	}
	for _, a := range w.projectAccounts(p) {
		out.ServiceAccounts = append(out.ServiceAccounts, AccountSnapshot{
			Email: a.email, UniqueID: a.uid, DisplayName: a.displayName, Description: a.description,
			Disabled: a.disabled, Bindings: cloneBindings(a.policy.bindings),
		})
	}
	for name, policy := range p.orgPolicies {
		if policy.spec != nil {
			if out.OrgPolicies == nil {
				out.OrgPolicies = map[string]PolicySpec{}
			}
			out.OrgPolicies[name] = *policy.spec
		}
	}
	return out
}

func cloneBindings(bindings []Binding) []Binding {
	out := slices.Clone(bindings)
	for i := range out {
		out[i].Members = slices.Clone(out[i].Members)
	}
	return out
}

// Project returns the state of one project; false if there is none.
func (s *Server) Project(id string) (ProjectSnapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.world.projectNamed(id)
	if p == nil {
		return ProjectSnapshot{}, false
	}
	return s.world.snapshot(p, s.clock.Now()), true
}
