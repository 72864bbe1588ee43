package functions

import (
	"net/http"
	"time"

	"gcpconnect/shared/connect"
)

// resource is a discovered resource in the answer.
type resource struct {
	ID         string            `json:"id"`
	Type       string            `json:"type"`
	AssetType  string            `json:"asset_type"`
	Name       string            `json:"name"`
	ProjectID  string            `json:"projectId"`
	Region     string            `json:"region,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	State      string            `json:"state,omitempty"`
	Endpoint   string            `json:"endpoint,omitempty"`
	Network    string            `json:"network,omitempty"`
	Created    *string           `json:"created_at"`
	Discovered *string           `json:"discovered_at"`
}

// resources answers a page of what was discovered.
func (e *edge) resources(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	q := connect.ResourceQuery{ProjectID: query.Get("project"), Type: query.Get("type"), PageToken: query.Get("page_token")}
	if err := checkUTF8(query, "project", "type"); err != nil {
		return err
	}
	if q.PageSize, err = pageSize(query); err != nil {
		return err
	}
	connected, err := e.connected(r, user)
	if err != nil {
		return err
	}
	var page []connect.Resource
	var next string
	if connected != nil { // what a disconnect could not delete yet is not shown
		if page, next, err = e.Store.Resources(r.Context(), user, q); err != nil {
			return err
		}
	}
	answer := struct {
		Resources []resource `json:"resources"`
		Count     int        `json:"count"`
		Next      string     `json:"next_page_token,omitempty"`
	}{make([]resource, 0, len(page)), len(page), next}
	for _, p := range page {
		answer.Resources = append(answer.Resources, resource{
			p.ID, p.Type, p.AssetType, p.Name, p.ProjectID, p.Region, p.Zone, p.Labels, p.State, p.Endpoint, p.Network,
			timestamp(p.CreatedAt), timestamp(p.DiscoveredAt),
		})
	}
	return e.json(w, http.StatusOK, answer)
}

// resourceSummary answers counts by type and project, and how far each
// project's discovery is.
func (e *edge) resourceSummary(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	c, err := e.connected(r, user)
	if err != nil {
		return err
	}
	var discoveries []connect.Discovery
	if c != nil {
		if discoveries, err = e.Store.Discoveries(r.Context(), user); err != nil {
			return err
		}
	}
	type project struct {
		ID       string         `json:"projectId"`
		State    string         `json:"state"` // pending, running, done, failed
		Count    int            `json:"count"`
		ByType   map[string]int `json:"by_type"`
		Started  *string        `json:"started_at"`
		Finished *string        `json:"finished_at"`
		Error    string         `json:"error,omitempty"`
	}
	answer := struct {
		Total    int            `json:"total"`
		ByType   map[string]int `json:"by_type"`
		Projects []project      `json:"projects"`
	}{0, map[string]int{}, []project{}}
	known := map[string]bool{}
	for _, d := range discoveries {
		p := project{d.ProjectID, string(d.State), 0, map[string]int{}, timestamp(d.StartedAt), timestamp(d.FinishedAt), d.Message}
		for kind, n := range d.Counts {
			p.ByType[kind] = n
			p.Count += n
			answer.ByType[kind] += n
			answer.Total += n
		}
		known[d.ProjectID] = true
		answer.Projects = append(answer.Projects, p)
	}
	if c != nil {
		for _, p := range c.Projects {
			if !known[p.ID] {
				answer.Projects = append(answer.Projects, project{ID: p.ID, State: "pending", ByType: map[string]int{}})
			}
		}
	}
	return e.json(w, http.StatusOK, answer)
}

// discover runs the discovery again.
func (e *edge) discover(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	if err := decodeStrict(r, &struct{}{}); err != nil {
		return err
	}
	n, err := e.Service.Rediscover(r.Context(), user)
	if err != nil {
		return err
	}
	return e.json(w, http.StatusAccepted, struct {
		Status    string `json:"status"`
		Projects  int    `json:"projects"`
		StartedAt string `json:"started_at"`
	}{"started", n, time.Now().UTC().Format(time.RFC3339)})
}
