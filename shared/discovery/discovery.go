// Package discovery turns what Cloud Asset Inventory answers into Aurora's
// resources: one shape for a GKE cluster, a bucket and a service account.
//
// It makes no call. The adapter of Google hands it each search result; unknown
// asset types pass under their own name, so that nothing that Google knows of
// a project is dropped.
package discovery

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"gcpconnect/shared/connect"
)

// Asset is one result of searchAllResources, with the fields that discovery
// reads (https://cloud.google.com/asset-inventory/docs/reference/rest/v1/ResourceSearchResult).
type Asset struct {
	Name                 string // full resource name, e.g. //storage.googleapis.com/bucket
	AssetType            string
	DisplayName          string
	Location             string // global, a region, a zone or a multi-region
	State                string
	Labels               map[string]string
	CreateTime           time.Time
	AdditionalAttributes map[string]any
}

// types are Aurora's names of the resources that it manages
// (https://cloud.google.com/asset-inventory/docs/asset-types).
var types = map[string]string{
	"bigquery.googleapis.com/Dataset":             "bigquery_dataset",
	"bigquery.googleapis.com/Table":               "bigquery_table",
	"cloudfunctions.googleapis.com/CloudFunction": "cloud_function",
	"cloudfunctions.googleapis.com/Function":      "cloud_function",
	"compute.googleapis.com/Instance":             "compute_instance",
	"compute.googleapis.com/InstanceGroup":        "instance_group",
	"compute.googleapis.com/InstanceGroupManager": "instance_group",
	"compute.googleapis.com/Network":              "vpc_network",
	"compute.googleapis.com/Subnetwork":           "vpc_subnetwork",
	"container.googleapis.com/Cluster":            "gke_cluster",
	"iam.googleapis.com/ServiceAccount":           "service_account",
	"run.googleapis.com/Service":                  "cloud_run_service",
	"sqladmin.googleapis.com/Instance":            "cloud_sql_instance",
	"storage.googleapis.com/Bucket":               "storage_bucket",
}

// Normalize returns the resource that an asset of the project is.
func Normalize(projectID string, a Asset) connect.Resource {
	r := connect.Resource{
		ID: a.Name, Type: a.AssetType, AssetType: a.AssetType, ProjectID: projectID,
		Name: a.DisplayName, Labels: a.Labels, State: a.State, CreatedAt: a.CreateTime,
		Endpoint: attribute(a.AdditionalAttributes, endpointKeys),
		Network:  lastSegment(attribute(a.AdditionalAttributes, networkKeys)),
		Version:  connect.SchemaVersion,
	}
	if name, ok := types[a.AssetType]; ok {
		r.Type = name
	}
	if r.Name == "" || strings.Contains(r.Name, "/") {
		r.Name = lastSegment(a.Name)
	}
	r.Region, r.Zone = place(a.Location)
	return r
}

// zone matches the names of zones: a region's name, a dash and a letter
// (https://cloud.google.com/compute/docs/regions-zones).
var zone = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z]+(?:-[a-z]+)*-[a-z]+\d+)-[a-z]$`) })

// place splits a location into region and zone. Multi-regions and "global"
// are regions of their own.
func place(location string) (region, zoneName string) {
	location = strings.ToLower(location) // Storage and BigQuery answer "US"
	if m := zone().FindStringSubmatch(location); m != nil {
		return m[1], location
	}
	return location, ""
}

// The attributes in which the several asset types keep an address and a
// network, the most specific first.
var (
	endpointKeys = []string{"endpoint", "uri", "url", "httpsTrigger", "connectionName", "externalIPs", "ipAddresses", "internalIPs"}
	networkKeys  = []string{"network", "networkInterfaceNetworks", "vpcNetwork"}
)

// attribute returns the first of the keys that holds a text, or a list whose
// first item is one.
func attribute(attributes map[string]any, keys []string) string {
	for _, key := range keys {
		switch v := attributes[key].(type) {
		case string:
			if v != "" {
				return v
			}
		case []any:
			if len(v) > 0 {
				if s, ok := v[0].(string); ok && s != "" {
					return s
				}
			}
		}
	}
	return ""
}

func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
