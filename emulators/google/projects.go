package google

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

type resourceID struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type projectV1 struct {
	ProjectNumber  string            `json:"projectNumber"`
	ProjectID      string            `json:"projectId"`
	LifecycleState string            `json:"lifecycleState"`
	Name           string            `json:"name"`
	CreateTime     string            `json:"createTime"`
	Labels         map[string]string `json:"labels,omitempty"`
	Parent         *resourceID       `json:"parent,omitempty"`
}

type projectV3 struct {
	Name        string            `json:"name"`
	Parent      string            `json:"parent,omitempty"`
	ProjectID   string            `json:"projectId"`
	State       string            `json:"state"`
	DisplayName string            `json:"displayName"`
	CreateTime  string            `json:"createTime"`
	UpdateTime  string            `json:"updateTime"`
	Etag        string            `json:"etag"`
	Labels      map[string]string `json:"labels,omitempty"`
}

func (p *project) v1() projectV1 {
	out := projectV1{
		ProjectNumber: p.number, ProjectID: p.id, LifecycleState: p.state(),
		Name: p.displayName(), CreateTime: p.createTime(), Labels: p.def.Labels,
	}
	if kind, id, ok := strings.Cut(p.def.Parent, "s/"); ok {
		out.Parent = &resourceID{Type: kind, ID: id}
	}
	return out
}

func (p *project) v3() projectV3 {
	state := p.state()
	if state == "DELETE_IN_PROGRESS" { // version 3 has no such state
		state = "DELETE_REQUESTED"
	}
	return projectV3{
		Name: p.name, Parent: p.def.Parent, ProjectID: p.id, State: state, DisplayName: p.displayName(),
		CreateTime: p.createTime(), UpdateTime: p.createTime(), Etag: `W/"` + p.number + `"`, Labels: p.def.Labels,
	}
}

func (c *call) getProjectV1() (any, *apiError) { return c.project.v1(), nil }
func (c *call) getProjectV3() (any, *apiError) { return c.project.v3(), nil }

func (c *call) listProjects() (any, *apiError) {
	page, next, err := c.visibleProjects(c.r.URL.Query().Get("filter"), "lifecycleState")
	if err != nil {
		return nil, err
	}
	var out struct {
		Projects      []projectV1 `json:"projects,omitempty"`
		NextPageToken string      `json:"nextPageToken,omitempty"`
	}
	out.NextPageToken = next
	for _, p := range page {
		out.Projects = append(out.Projects, p.v1())
	}
	return out, nil
}

func (c *call) searchProjects() (any, *apiError) {
	page, next, err := c.visibleProjects(c.r.URL.Query().Get("query"), "state")
	if err != nil {
		return nil, err
	}
	var out struct {
		Projects      []projectV3 `json:"projects,omitempty"`
		NextPageToken string      `json:"nextPageToken,omitempty"`
	}
	out.NextPageToken = next
	for _, p := range page {
		out.Projects = append(out.Projects, p.v3())
	}
	return out, nil
}

// visibleProjects is a page of those that the caller may see. The lists run
// behind: they show the grants of some time ago.
func (c *call) visibleProjects(query, stateField string) ([]*project, string, *apiError) {
	matches, err := parseQuery(query, stateField)
	if err != nil {
		return nil, "", err
	}
	then := c.now.Add(-time.Duration(c.world.scenario.Propagation.ProjectList))
	size, refusal := c.pageSize(500, 1000)
	if refusal != nil {
		return nil, "", refusal
	}
	var visible []*project
	var keys []string
	// One more than a page shows whether there is another: an organization may
	// have many thousands.
	for p := range c.world.within(c.caller, c.pageAfter()) {
		if len(keys) > size {
			break
		}
		if matches(p) && c.world.allowed(c.caller, "resourcemanager.projects.get", p.chain(), then) {
			visible = append(visible, p)
			keys = append(keys, p.id)
		}
	}
	from, to, next, err := c.page(keys, 500, 1000, query)
	if err != nil {
		return nil, "", err
	}
	return visible[from:to], next, nil
}

var queryTerm = regexp.MustCompile(`^(-|NOT:)?([A-Za-z.]+)([:=])"?([^"\s]*)"?$`)

// parseQuery understands terms FIELD:VALUE and FIELD=VALUE joined by AND or
// blanks, negated by NOT or -, with * at the end of a value. Google's language
// has more (OR, comparisons); more is refused.
func parseQuery(query, stateField string) (func(*project) bool, *apiError) {
	query = strings.ReplaceAll(query, "NOT ", "NOT:")
	var tests []func(*project) bool
	for _, term := range strings.Fields(query) {
		if term == "AND" {
			continue
		}
		parts := queryTerm.FindStringSubmatch(term)
		if parts == nil {
			return nil, invalid("Request contains an invalid argument.").with(fieldViolation("query", "The term "+term+" is not understood."))
		}
		negated, field, want := parts[1] != "", parts[2], parts[4]
		var value func(*project) string
		switch {
		case field == stateField:
			value = func(p *project) string { return p.state() }
		case field == "projectId" || field == "id":
			value = func(p *project) string { return p.id }
		case field == "name" || field == "displayName":
			value = (*project).displayName
		case field == "parent":
			value = func(p *project) string { return p.def.Parent }
		case field == "parent.type":
			value = func(p *project) string { kind, _, _ := strings.Cut(p.def.Parent, "s/"); return kind }
		case field == "parent.id":
			value = func(p *project) string { _, id, _ := strings.Cut(p.def.Parent, "/"); return id }
		case strings.HasPrefix(field, "labels."):
			value = func(p *project) string { return p.def.Labels[strings.TrimPrefix(field, "labels.")] }
		default:
			return nil, invalid("Request contains an invalid argument.").with(fieldViolation("query", "The field "+field+" is not known."))
		}
		tests = append(tests, func(p *project) bool {
			return wildcard(strings.ToLower(want), strings.ToLower(value(p))) != negated
		})
	}
	return func(p *project) bool {
		return !slices.ContainsFunc(tests, func(test func(*project) bool) bool { return !test(p) })
	}, nil
}

func (c *call) getProjectPolicy() (any, *apiError) {
	var req struct {
		Options policyOptions `json:"options"`
	}
	if err := decode(c.body, &req); err != nil {
		return nil, err
	}
	if err := checkVersion(req.Options.RequestedPolicyVersion); err != nil {
		return nil, err
	}
	return c.project.policy.view(req.Options.RequestedPolicyVersion), nil
}

func (c *call) setProjectPolicy() (any, *apiError) {
	if !c.project.active() {
		return nil, precondition("Project %s is not active.", c.project.id)
	}
	return c.setPolicy(c.project.policy, onProject)
}

// spread is how long changes of a project's policy, or of one of its
// accounts', take: as the project says, or else as the scenario does.
func (w *world) spread(p *project, where scope) spread {
	var d GrantDelays
	for _, from := range []*GrantDelays{p.def.Propagation, &w.scenario.Propagation.GrantDelays} {
		if from != nil {
			d.Project, d.Account = cmp.Or(d.Project, from.Project), cmp.Or(d.Account, from.Account)
			d.Group, d.Removal = cmp.Or(d.Group, from.Group), cmp.Or(d.Removal, from.Removal)
		}
	}
	zero := Duration(0)
	grant := cmp.Or(d.Project, &zero)
	if where == onAccount {
		grant = cmp.Or(d.Account, &zero)
	}
	return spread{grant: *grant, group: *cmp.Or(d.Group, grant), removal: *cmp.Or(d.Removal, &zero)}
}

// testProjectPermissions asks for no permission itself: a caller without any
// on a project that exists gets an empty answer.
func (c *call) testProjectPermissions() (any, *apiError) {
	if c.project == nil {
		return nil, deniedPlainly(c, "")
	}
	return c.testPermissions(c.project.chain())
}

// getBillingInfo emits empty and false, unlike most of Google.
func (c *call) getBillingInfo() (any, *apiError) {
	name := ""
	if c.project.def.BillingAccount != "" {
		name = "billingAccounts/" + c.project.def.BillingAccount
	}
	return struct {
		Name               string `json:"name"`
		ProjectID          string `json:"projectId"`
		BillingAccountName string `json:"billingAccountName"`
		BillingEnabled     bool   `json:"billingEnabled"`
	}{"projects/" + c.project.id + "/billingInfo", c.project.id, name, c.project.billingEnabled()}, nil
}
