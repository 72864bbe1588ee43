package connect

import (
	"maps"
	"time"
)

// Resource is one discovered resource of a customer's cloud, normalized.
type Resource struct {
	ID           string // the full resource name, e.g. //compute.googleapis.com/projects/p/zones/z/instances/i
	Type         string // e.g. gke_cluster; the asset type where Aurora has no name of its own
	AssetType    string // e.g. container.googleapis.com/Cluster
	Name         string
	ProjectID    string
	Region       string
	Zone         string
	Labels       map[string]string
	State        string
	Endpoint     string
	Network      string
	CreatedAt    time.Time
	DiscoveredAt time.Time
	Run          string // the discovery run that saw it last
	Version      int
}

// Clone returns a copy that shares no memory with r.
func (r Resource) Clone() Resource {
	r.Labels = maps.Clone(r.Labels)
	return r
}

// ResourceQuery selects discovered resources of a user, in the order of
// project, type and name.
type ResourceQuery struct {
	ProjectID string // empty: every project
	Type      string // empty: every type
	PageSize  int    // 1 to 1,000; 0 is 100
	PageToken string // from the page before; empty: the first page
}

// ResourceFilter selects resources to delete. The zero value selects all of
// the user's.
type ResourceFilter struct {
	ProjectID string
	Run       string // only those last seen by this run
	NotRun    string // only those last seen by another run than this
}

// DiscoveryState is how far the discovery of one project has come.
type DiscoveryState string

// The states of a discovery.
const (
	DiscoveryRunning DiscoveryState = "running"
	DiscoveryDone    DiscoveryState = "done"
	DiscoveryFailed  DiscoveryState = "failed"
)

// Discovery is the newest run of discover-project for one project.
type Discovery struct {
	UserID     string
	ProjectID  string
	Generation int64
	Run        string // names the run; resources carry it
	State      DiscoveryState
	Attempt    int
	DueAt      time.Time
	PageToken  string         // where the next task goes on
	Counts     map[string]int // resources by type, so far
	Message    string         // why it failed, for people
	Lease      Lease
	StartedAt  time.Time
	StallsAt   time.Time // when its task counts as lost; zero once it has ended
	FinishedAt time.Time
	Version    int
}

// Move notes that the discovery was worked on, or is about to be.
func (d *Discovery) Move(now time.Time) {
	d.StallsAt, d.Version = stallsAt(now, d.DueAt, d.Lease), SchemaVersion
}

// Stalled reports whether the discovery has not moved for longer than it ever
// waits.
func (d *Discovery) Stalled(now time.Time) bool {
	return d.State == DiscoveryRunning && !d.StallsAt.IsZero() && !now.Before(d.StallsAt)
}

// End makes the discovery final.
func (d *Discovery) End(state DiscoveryState, message string, now time.Time) {
	d.State, d.Message, d.FinishedAt = state, message, now
	d.StallsAt, d.Version = time.Time{}, SchemaVersion
}

// Clone returns a copy that shares no memory with d.
func (d *Discovery) Clone() *Discovery {
	if d == nil {
		return nil
	}
	clone := *d
	clone.Counts = maps.Clone(d.Counts)
	return &clone
}
