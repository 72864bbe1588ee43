package setup

import (
	"fmt"
	"time"
)

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

	Timing
}

// Timing is how long one execution of a step may take: Budget < Deadline < Lease.
// The queue must allow more time for a task than Deadline, and its retries must
// last longer than Lease, so that a delivery that finds the lease of a crashed
// execution is retried after it has expired.
type Timing struct {
	// Budget is how long a step starts new work before it leaves the rest to the
	// next task.
	Budget time.Duration
	// Deadline is when what a step has started is cut off.
	Deadline time.Duration
	// Lease is how long an execution owns its setup: an execution has ended before
	// another one may start.
	Lease time.Duration
	// OperationGrace is how long an operation that enables APIs is given before its
	// state is read.
	OperationGrace time.Duration
}

// DefaultTiming is that of a deployment. Its deadline and lease are also the longest
// that queue, server and retries are made for.
func DefaultTiming() Timing {
	return Timing{Budget: 60 * time.Second, Deadline: MaxDeadline, Lease: maxLease, OperationGrace: 20 * time.Second}
}

const (
	// MaxDeadline is the longest Timing.Deadline.
	MaxDeadline = 80 * time.Second
	maxLease    = 90 * time.Second
)

// Validate reports what is wrong with t.
func (t Timing) Validate() error {
	switch {
	case t.Budget <= 0 || t.Budget >= t.Deadline || t.Deadline >= t.Lease:
		return fmt.Errorf("STEP_BUDGET (%v) must be more than 0 and less than STEP_DEADLINE (%v), and that less than STEP_LEASE (%v)", t.Budget, t.Deadline, t.Lease)
	case t.Deadline > MaxDeadline || t.Lease > maxLease:
		return fmt.Errorf("STEP_DEADLINE must be at most %v, is %v; STEP_LEASE at most %v, is %v: the queue delivers again after that", MaxDeadline, t.Deadline, maxLease, t.Lease)
	case t.OperationGrace < 0 || t.OperationGrace > 10*time.Minute:
		return fmt.Errorf("OPERATION_GRACE must be 0 to 10m, is %v", t.OperationGrace)
	}
	return nil
}
