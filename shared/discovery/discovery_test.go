package discovery_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/discovery"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		asset discovery.Asset
		want  connect.Resource
	}{
		"a zonal instance has region, zone, address and network": {
			discovery.Asset{
				Name: "//compute.googleapis.com/projects/p/zones/europe-west1-b/instances/web-1", AssetType: "compute.googleapis.com/Instance",
				DisplayName: "web-1", Location: "europe-west1-b", State: "RUNNING", Labels: map[string]string{"env": "prod"}, CreateTime: created,
				AdditionalAttributes: map[string]any{
					"externalIPs":              []any{"203.0.113.7"},
					"internalIPs":              []any{"10.0.0.2"},
					"networkInterfaceNetworks": []any{"https://www.googleapis.com/compute/v1/projects/p/global/networks/main"},
				},
			},
			connect.Resource{
				ID:   "//compute.googleapis.com/projects/p/zones/europe-west1-b/instances/web-1",
				Type: "compute_instance", AssetType: "compute.googleapis.com/Instance", Name: "web-1", ProjectID: "p",
				Region: "europe-west1", Zone: "europe-west1-b", Labels: map[string]string{"env": "prod"}, State: "RUNNING",
				Endpoint: "203.0.113.7", Network: "main", CreatedAt: created, Version: connect.SchemaVersion,
			},
		},
		"a regional cluster has no zone": {
			discovery.Asset{
				Name: "//container.googleapis.com/projects/p/locations/us-central1/clusters/c", AssetType: "container.googleapis.com/Cluster",
				DisplayName: "c", Location: "us-central1", AdditionalAttributes: map[string]any{"endpoint": "198.51.100.1", "network": "default"},
			},
			connect.Resource{
				ID: "//container.googleapis.com/projects/p/locations/us-central1/clusters/c", Type: "gke_cluster",
				AssetType: "container.googleapis.com/Cluster", Name: "c", ProjectID: "p", Region: "us-central1",
				Endpoint: "198.51.100.1", Network: "default", Version: connect.SchemaVersion,
			},
		},
		"a bucket in a multi-region, named by its full name": {
			discovery.Asset{Name: "//storage.googleapis.com/my-bucket", AssetType: "storage.googleapis.com/Bucket", Location: "US"},
			connect.Resource{
				ID: "//storage.googleapis.com/my-bucket", Type: "storage_bucket", AssetType: "storage.googleapis.com/Bucket",
				Name: "my-bucket", ProjectID: "p", Region: "us", Version: connect.SchemaVersion,
			},
		},
		"a zone of a region with a compass point": {
			discovery.Asset{Name: "//compute.googleapis.com/projects/p/zones/northamerica-northeast1-a/instances/x", AssetType: "compute.googleapis.com/Instance", Location: "northamerica-northeast1-a"},
			connect.Resource{
				ID:   "//compute.googleapis.com/projects/p/zones/northamerica-northeast1-a/instances/x",
				Type: "compute_instance", AssetType: "compute.googleapis.com/Instance", Name: "x", ProjectID: "p",
				Region: "northamerica-northeast1", Zone: "northamerica-northeast1-a", Version: connect.SchemaVersion,
			},
		},
		"an unknown type keeps its own name": {
			discovery.Asset{Name: "//pubsub.googleapis.com/projects/p/topics/t", AssetType: "pubsub.googleapis.com/Topic", DisplayName: "projects/p/topics/t", Location: "global"},
			connect.Resource{
				ID: "//pubsub.googleapis.com/projects/p/topics/t", Type: "pubsub.googleapis.com/Topic", AssetType: "pubsub.googleapis.com/Topic",
				Name: "t", ProjectID: "p", Region: "global", Version: connect.SchemaVersion,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, discovery.Normalize("p", tt.asset)); diff != "" {
				t.Errorf("Normalize (-want +got):\n%s", diff)
			}
		})
	}
}
