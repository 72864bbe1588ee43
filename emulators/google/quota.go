package google

import "net/http"

// A quotaKey counts the calls of one minute.
type quotaKey struct {
	api, group, consumer string // projects/NUMBER or organizations/ID
	minute               int64
}

// spend counts the call against the quota of its consumer project, a minute
// at a time: Service Usage 240 reads and 60 writes of which batchEnable is 5;
// Resource Manager search 240, list 240, reads 600, writes 600; Cloud Asset
// searches 400, and 1,500 an organization.
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
	minute := c.now.Unix() / 60
	if err := c.charge(quotaKey{c.m.api.name, group, "projects/" + c.consumer.number, minute}, limit, cost); err != nil {
		return err
	}
	if org := c.consumer.org; c.m.api == assetAPI && org != nil {
		return c.charge(quotaKey{c.m.api.name, "SearchAllResourcesPerMinutePerOrganization", "organizations/" + org.ID, minute}, 1500, cost)
	}
	return nil
}

func (c *call) charge(key quotaKey, limit, cost int) *apiError {
	if c.quota[key]+cost > limit {
		e := errorf(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric '%s' and limit '%s' of service '%s' for consumer 'project_number:%s'.", key.group, key.group, key.api, c.consumer.number)
		return e.with(errorInfo("RATE_LIMIT_EXCEEDED", "googleapis.com", map[string]string{"service": key.api, "consumer": key.consumer, "quota_limit": key.group}))
	}
	c.quota[key] += cost
	return nil
}
