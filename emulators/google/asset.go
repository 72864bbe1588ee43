package google

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

type assetJSON struct {
	Name                   string            `json:"name"`
	AssetType              string            `json:"assetType"`
	Project                string            `json:"project,omitempty"`
	Folders                []string          `json:"folders,omitempty"`
	Organization           string            `json:"organization,omitempty"`
	DisplayName            string            `json:"displayName,omitempty"`
	Description            string            `json:"description,omitempty"`
	Location               string            `json:"location,omitempty"`
	Labels                 map[string]string `json:"labels,omitempty"`
	NetworkTags            []string          `json:"networkTags,omitempty"`
	AdditionalAttributes   map[string]any    `json:"additionalAttributes,omitempty"`
	CreateTime             string            `json:"createTime,omitempty"`
	UpdateTime             string            `json:"updateTime,omitempty"`
	State                  string            `json:"state,omitempty"`
	ParentFullResourceName string            `json:"parentFullResourceName,omitempty"`
	ParentAssetType        string            `json:"parentAssetType,omitempty"`
}

// fullNames are how the full resource name of a type is made of the project
// (P), its location (L) and the short name (N)
// (https://cloud.google.com/asset-inventory/docs/asset-names).
var fullNames = map[string]string{
	"container.googleapis.com/Cluster":            "//container.googleapis.com/projects/P/locations/L/clusters/N",
	"run.googleapis.com/Service":                  "//run.googleapis.com/projects/P/locations/L/services/N",
	"run.googleapis.com/Job":                      "//run.googleapis.com/projects/P/locations/L/jobs/N",
	"compute.googleapis.com/Instance":             "//compute.googleapis.com/projects/P/zones/L/instances/N",
	"compute.googleapis.com/InstanceGroup":        "//compute.googleapis.com/projects/P/zones/L/instanceGroups/N",
	"compute.googleapis.com/InstanceGroupManager": "//compute.googleapis.com/projects/P/zones/L/instanceGroupManagers/N",
	"compute.googleapis.com/Disk":                 "//compute.googleapis.com/projects/P/zones/L/disks/N",
	"compute.googleapis.com/Network":              "//compute.googleapis.com/projects/P/global/networks/N",
	"compute.googleapis.com/Subnetwork":           "//compute.googleapis.com/projects/P/regions/L/subnetworks/N",
	"compute.googleapis.com/Firewall":             "//compute.googleapis.com/projects/P/global/firewalls/N",
	"compute.googleapis.com/Address":              "//compute.googleapis.com/projects/P/regions/L/addresses/N",
	"storage.googleapis.com/Bucket":               "//storage.googleapis.com/N",
	"cloudfunctions.googleapis.com/Function":      "//cloudfunctions.googleapis.com/projects/P/locations/L/functions/N",
	"cloudfunctions.googleapis.com/CloudFunction": "//cloudfunctions.googleapis.com/projects/P/locations/L/functions/N",
	"bigquery.googleapis.com/Dataset":             "//bigquery.googleapis.com/projects/P/datasets/N",
	"bigquery.googleapis.com/Table":               "//bigquery.googleapis.com/projects/P/datasets/N",
	"sqladmin.googleapis.com/Instance":            "//cloudsql.googleapis.com/projects/P/instances/N",
	"pubsub.googleapis.com/Topic":                 "//pubsub.googleapis.com/projects/P/topics/N",
	"pubsub.googleapis.com/Subscription":          "//pubsub.googleapis.com/projects/P/subscriptions/N",
	"secretmanager.googleapis.com/Secret":         "//secretmanager.googleapis.com/projects/P/secrets/N",
	"artifactregistry.googleapis.com/Repository":  "//artifactregistry.googleapis.com/projects/P/locations/L/repositories/N",
	"dns.googleapis.com/ManagedZone":              "//dns.googleapis.com/projects/P/managedZones/N",
	"redis.googleapis.com/Instance":               "//redis.googleapis.com/projects/P/locations/L/instances/N",
}

func (r Resource) fullName(p *project) string {
	if strings.HasPrefix(r.Name, "//") {
		return r.Name
	}
	form, known := fullNames[r.AssetType]
	if !known {
		host, kind, _ := strings.Cut(r.AssetType, "/")
		form = "//" + host + "/projects/P/locations/L/" + strings.ToLower(kind[:1]) + kind[1:] + "s/N"
	}
	if strings.HasPrefix(form, "//compute.") && strings.Count(r.Location, "-") == 1 {
		form = strings.Replace(form, "/zones/", "/regions/", 1) // regional groups and disks
	}
	location := r.Location
	if location == "" {
		location = "global"
	}
	parts := strings.Split(form, "/")
	for i, part := range parts {
		switch part {
		case "P":
			parts[i] = p.id
		case "L":
			parts[i] = location
		case "N":
			parts[i] = r.Name
		}
	}
	return strings.Join(parts, "/")
}

// assets lists what is in a project: itself, its service accounts, and the
// scenario's resources.
func (w *world) assets(p *project) []assetJSON {
	parent := "//cloudresourcemanager.googleapis.com/projects/" + p.id
	base := assetJSON{Project: p.name, ParentFullResourceName: parent, ParentAssetType: "cloudresourcemanager.googleapis.com/Project"}
	for n := p.parent; n != nil; n = n.parent {
		if strings.HasPrefix(n.name, "folders/") {
			base.Folders = append(base.Folders, n.name)
		} else {
			base.Organization = n.name
		}
	}
	self := base
	self.Name, self.AssetType = parent, "cloudresourcemanager.googleapis.com/Project"
	self.DisplayName, self.State, self.Location = p.displayName(), p.state(), "global"
	self.Labels, self.CreateTime = p.def.Labels, wholeSeconds(p.createTime())
	self.AdditionalAttributes = map[string]any{"projectId": p.id}
	self.ParentFullResourceName, self.ParentAssetType = "", ""
	if p.parent != nil {
		self.ParentFullResourceName = "//cloudresourcemanager.googleapis.com/" + p.parent.name
		self.ParentAssetType = "cloudresourcemanager.googleapis.com/Folder"
		if strings.HasPrefix(p.parent.name, "organizations/") {
			self.ParentAssetType = "cloudresourcemanager.googleapis.com/Organization"
		}
	}
	out := []assetJSON{self}
	for _, a := range w.projectAccounts(p) {
		one := base
		one.Name, one.AssetType = "//iam.googleapis.com/projects/"+p.id+"/serviceAccounts/"+a.uid, "iam.googleapis.com/ServiceAccount"
		one.DisplayName, one.Description, one.Location = a.displayName, a.description, "global"
		one.State = map[bool]string{false: "ENABLED", true: "DISABLED"}[a.disabled]
		one.AdditionalAttributes = map[string]any{"email": a.email, "uniqueId": a.uid}
		out = append(out, one)
	}
	for _, r := range p.def.Resources {
		for n := range max(r.Count, 1) {
			out = append(out, r.asset(p, base, n))
		}
	}
	return out
}

// asset renders the nth of a resource's copies.
func (r Resource) asset(p *project, one assetJSON, n int) assetJSON {
	if r.Count > 0 {
		r.Name += fmt.Sprintf("-%d", n+1)
	}
	one.Name, one.AssetType = r.fullName(p), r.AssetType
	one.DisplayName = r.DisplayName
	if one.DisplayName == "" {
		one.DisplayName = r.Name[strings.LastIndex(r.Name, "/")+1:]
	}
	one.Description, one.Location, one.Labels, one.NetworkTags = r.Description, r.Location, r.Labels, r.NetworkTags
	one.State, one.AdditionalAttributes = r.State, r.AdditionalAttributes
	one.CreateTime, one.UpdateTime = wholeSeconds(r.CreateTime), wholeSeconds(r.UpdateTime)
	if r.ParentFullResourceName != "" {
		one.ParentFullResourceName, one.ParentAssetType = r.ParentFullResourceName, r.ParentAssetType
	}
	return one
}

// wholeSeconds drops what is below seconds, as Asset Inventory does.
func wholeSeconds(timestamp string) string {
	if i := strings.IndexByte(timestamp, '.'); i >= 0 {
		return timestamp[:i] + "Z"
	}
	return timestamp
}

func (c *call) searchAllResources() (any, *apiError) {
	top := c.world.nodes[c.vars["scope"]+"/"+c.vars["id"]]
	if c.project != nil {
		top = &c.project.node
	}
	if top == nil || !c.allowed("cloudasset.assets.searchAllResources", top.chain()) {
		return nil, deniedPlainly(c, "")
	}
	q := c.r.URL.Query()
	var types []*regexp.Regexp
	for _, given := range q["assetTypes"] {
		for _, one := range strings.Split(given, ",") {
			form, err := regexp.Compile("^(?:" + one + ")$")
			if err != nil {
				return nil, invalid("Request contains an invalid argument.").with(fieldViolation("asset_types", "The regular expression is not valid."))
			}
			types = append(types, form)
		}
	}
	query := strings.ToLower(q.Get("query"))
	var found []assetJSON
	projects := top.beneath
	if c.project != nil {
		projects = []*project{c.project}
	}
	for _, p := range projects {
		for _, a := range c.world.assets(p) {
			if len(types) > 0 && !slices.ContainsFunc(types, func(t *regexp.Regexp) bool { return t.MatchString(a.AssetType) }) {
				continue
			}
			if a.matches(query) {
				found = append(found, a)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b assetJSON) int { return strings.Compare(a.Name, b.Name) })
	keys := make([]string, len(found))
	for i := range found {
		keys[i] = found[i].Name
	}
	from, to, next, err := c.page(keys, 100, 500, q.Get("query")+"|"+strings.Join(q["assetTypes"], ","))
	if err != nil {
		return nil, err
	}
	return struct {
		Results       []assetJSON `json:"results,omitempty"`
		NextPageToken string      `json:"nextPageToken,omitempty"`
	}{found[from:to], next}, nil
}

// matches understands words, each to be found in the name, type, location or
// state, with or without a field before it; more of the query language is not
// emulated.
func (a assetJSON) matches(query string) bool {
	text := strings.ToLower(strings.Join([]string{a.Name, a.DisplayName, a.AssetType, a.Location, a.State, a.Description}, " "))
	for _, word := range strings.Fields(query) {
		if i := strings.LastIndexAny(word, ":="); i >= 0 {
			word = word[i+1:]
		}
		if !strings.Contains(text, strings.Trim(word, `"*`)) {
			return false
		}
	}
	return true
}
