package google

import "net/http"

// A quotaKey counts the calls of one minute.
type quotaKey struct {
	api, group, consumer string
	minute               int64
}

// spend counts the call against the quota of its consumer project, a minute
// at a time: Service Usage 240 reads and 60 writes of which batchEnable is 5;
// Resource Manager search 240, list 240, reads 600, writes 600; Cloud Asset
// searches 400.
func (c *call) spend() *apiError {
	if !c.world.scenario.Quotas {
		return nil
	}
	group, limit, cost := "", 0, 1
	switch {
	case c.m.api == serviceUsage && c.m.write:
		group, limit = "MutateRequestsPerMinutePerProject", 60
		if c.m.name == "serviceusage.services.batchEnable" {
			cost = 5
		}
	case c.m.api == serviceUsage:
		group, limit = "DefaultRequestsPerMinutePerProject", 240
	case c.m.name == "cloudresourcemanager.projects.search":
		group, limit = "ProjectV3SearchRequestsPerMinutePerProject", 240
	case c.m.name == "cloudresourcemanager.projects.list":
		group, limit = "ProjectListRequestsPerMinutePerProject", 240
	case c.m.api == resourceManager && c.m.write:
		group, limit = "ProjectWriteRequestsPerMinutePerProject", 600
	case c.m.api == resourceManager:
		group, limit = "ProjectReadRequestsPerMinutePerProject", 600
	case c.m.api == assetAPI:
		group, limit = "SearchAllResourcesPerMinutePerProject", 400
	default:
		return nil
	}
	key := quotaKey{c.m.api.name, group, c.consumer.number, c.now.Unix() / 60}
	if c.quota[key]+cost > limit {
		consumer := "projects/" + c.consumer.number
		e := errorf(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric '%s' and limit '%s' of service '%s' for consumer 'project_number:%s'.", group, group, c.m.api.name, c.consumer.number)
		return e.with(errorInfo("RATE_LIMIT_EXCEEDED", "googleapis.com", map[string]string{"service": c.m.api.name, "consumer": consumer, "quota_limit": group}))
	}
	c.quota[key] += cost
	return nil
}
