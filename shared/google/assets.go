package google

import (
	"context"
	"encoding/json"
	"time"

	cloudasset "google.golang.org/api/cloudasset/v1"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/discovery"
)

// assetFields are what discovery reads of a resource, a part of what comes by
// default
// (https://cloud.google.com/asset-inventory/docs/reference/rest/v1/TopLevel/searchAllResources).
const assetFields = "name,assetType,displayName,location,state,labels,createTime,additionalAttributes"

// maxAssets is the largest page that searchAllResources gives.
const maxAssets = 500

// SearchResources implements setup.Cloud. The search is counted against the
// project itself: its own quota of 400 a minute, and its own API, which the
// setup has enabled.
func (c *cloud) SearchResources(ctx context.Context, projectID, pageToken string) ([]connect.Resource, string, error) {
	answer, err := do(ctx, c, cloudAsset.rpc("searchAllResources"), projectID, "search resources of "+projectID, func(ctx context.Context) call[*cloudasset.SearchAllResourcesResponse] {
		return c.assets.SearchAllResources("projects/" + projectID).
			ReadMask(assetFields).PageSize(maxAssets).PageToken(pageToken).Context(ctx)
	})
	if err != nil {
		return nil, "", err
	}
	resources := make([]connect.Resource, 0, len(answer.Results))
	for _, r := range answer.Results {
		asset := discovery.Asset{
			Name: r.Name, AssetType: r.AssetType, DisplayName: r.DisplayName, Location: r.Location, State: r.State, Labels: r.Labels,
		}
		if created, err := time.Parse(time.RFC3339, r.CreateTime); err == nil {
			asset.CreateTime = created
		}
		if len(r.AdditionalAttributes) > 0 {
			// What does not parse is left out, as are attributes that discovery
			// does not know.
			_ = json.Unmarshal(r.AdditionalAttributes, &asset.AdditionalAttributes)
		}
		resources = append(resources, discovery.Normalize(projectID, asset))
	}
	return resources, answer.NextPageToken, nil
}
