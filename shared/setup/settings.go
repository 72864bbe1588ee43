package setup

import "time"

// Settings are the choices that a deployment makes.
type Settings struct {
	AgentRoles      []Role // what the agent account gets in each project
	AskRoles        []Role // what the ask account gets in each project
	PlatformAccount string // email of Aurora's own service account, which may then impersonate the two; empty: none

	OrgPolicy          bool // whether update-org-policies may write
	IncludeSysProjects bool // whether projects sys-*, made by Apps Script, count

	AutoProjects int // how many eligible projects are taken without asking
	MaxSelected  int // how many projects may be selected

	CheckInterval time.Duration // between two checks of verify-permissions
	MaxChecks     int           // of verify-permissions

	GiveUpAfter time.Duration // how long a setup that does not move is revived before it fails
}
