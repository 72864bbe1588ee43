package connect

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxProjects is how many projects one setup may hold: the whole setup is one
// document, and a Firestore document may have 1 MiB
// (https://cloud.google.com/firestore/quotas).
const MaxProjects = 1000

// SetupLifetime is how long an ended setup can still be read.
const SetupLifetime = 30 * 24 * time.Hour

// State says where a setup stands.
type State string

// The states of a setup. All but pending and running are endings.
const (
	StatePending        State = "pending" // made, no step has begun
	StateRunning        State = "running"
	StateSucceeded      State = "succeeded"
	StateFailed         State = "failed"
	StateNeedsSelection State = "needs_selection" // too many eligible projects to take them all
	StateNeedsReauth    State = "needs_reauth"    // the user's tokens are dead
	StateCanceled       State = "canceled"        // by a disconnect or a reconnect
)

// Ended reports whether s is final.
func (s State) Ended() bool { return s != StatePending && s != StateRunning }

// Kind says what a setup is for.
type Kind string

// The kinds of setups.
const (
	KindSetup   Kind = ""        // makes projects ready
	KindRemoval Kind = "removal" // undoes what setups changed, after a disconnect
)

// Setup is one run of a chain for one user: the aggregate that the steps read
// and write, one document.
type Setup struct {
	ID         string
	UserID     string
	Generation int64 // of the connection it was made for
	Kind       Kind

	State   State
	Code    string    // stable reason of an ending that is not success, e.g. no_projects
	Message string    // the ending in words, for people
	Step    string    // name of the step that is due or running
	Attempt int       // counts the tasks of this step; a part of the task's name
	DueAt   time.Time // when that task is due; zero: at once
	// Executions counts how often that task has begun: more than once means
	// that an execution before this one failed or died.
	Executions int
	// Interrupted says that an execution of this setup has failed or crashed. A
	// request that it sent may still arrive at Google.
	Interrupted bool
	Progress    int // percent

	Selected      []string        // project IDs that were asked for; empty: all eligible ones
	Billing       map[string]bool // while projects are validated: whose billing is known
	PreferredRoot string          // the root project asked for; empty: by priority
	RootProject   string          // the root project chosen by validate-projects
	Eligible      []ProjectRef
	Projects      []Project
	Accounts      ServiceAccounts
	AccountsAt    time.Time // when this setup made an account; zero: both stood already

	// ChangesMade counts what was written in the customer's cloud, and
	// ChangesStood what was found there as it should be. In a removal these are
	// the changes of the ledger that are undone, and all that stood when it began.
	ChangesMade  int
	ChangesStood int

	// Of a removal:
	DisableAPIs  bool     // also disable the APIs that setups enabled
	MadeAccounts []string // service accounts that setups made: to be deleted

	Propagation Propagation
	Steps       []StepRecord
	Warnings    []Warning

	Lease     Lease
	CreatedAt time.Time
	UpdatedAt time.Time
	// StallsAt is when the setup's task counts as lost unless the setup has moved
	// by then; zero once the setup has ended. StalledSince is since when the
	// sweep has tried without effect to get it moving; zero while it moves.
	StallsAt     time.Time
	StalledSince time.Time
	EndedAt      time.Time
	ExpireAt     time.Time
	Version      int
}

// ProjectRef names a project.
type ProjectRef struct{ ID, Name string }

// Outcome is how one phase went for one project. The zero value means that
// the phase has not come to the project yet.
type Outcome string

// The outcomes of a phase.
const (
	OutcomeChanged       Outcome = "changed"        // done, and something was written for it
	OutcomeUnchanged     Outcome = "unchanged"      // already as it should be
	OutcomeStarted       Outcome = "started"        // operations are under way at Google
	OutcomeForbidden     Outcome = "forbidden"      // Google refused it
	OutcomeFailed        Outcome = "failed"         // it did not work
	OutcomeNotApplicable Outcome = "not_applicable" // switched off, or nothing to do it to
)

// OK reports whether the phase ended with what it is for being in place.
func (o Outcome) OK() bool { return o == OutcomeChanged || o == OutcomeUnchanged }

// Project is one project of a setup with how far it has come.
type Project struct {
	ID, Number, Name string

	APIs      Outcome
	Access    Outcome
	OrgPolicy Outcome
	Removal   Outcome // of what setups changed here; started: all but the service accounts and APIs
	Verified  bool    // the agent account's permissions were seen in it, at Google

	// Operations are under way at Google since OperationsAt to enable APIs
	// that were not yet seen enabled.
	Operations   []Operation
	OperationsAt time.Time

	// Errors are what went wrong, at most one a step, in the order of the steps.
	Errors []ProjectError
}

// Operation is a long-running operation at Google that enables APIs.
type Operation struct {
	Name string
	APIs []string // without the suffix .googleapis.com, to keep the document small
	// Batch says that several were asked for at once: if it fails, that says
	// nothing about any one of them.
	Batch bool
}

// ProjectError is why a step could not finish its work in a project.
type ProjectError struct {
	Step    string
	Code    Code
	Message string // for people, with what to do next
}

// Clone returns a copy that shares no memory with p.
func (p *Project) Clone() Project {
	clone := *p
	clone.Errors = slices.Clone(p.Errors)
	clone.Operations = slices.Clone(p.Operations)
	for i := range clone.Operations {
		clone.Operations[i].APIs = slices.Clone(clone.Operations[i].APIs)
	}
	return clone
}

// Fail records that step failed in the project, in place of what it said before.
func (p *Project) Fail(step string, err ProjectError) {
	err.Step = step
	p.Recover(step)
	p.Errors = append(p.Errors, err)
}

// Failed reports whether step failed in the project.
func (p *Project) Failed(step string) bool {
	return slices.ContainsFunc(p.Errors, func(e ProjectError) bool { return e.Step == step })
}

// Refuse records which things Google refused to a step, each with its words:
// added to those that the step's error names already.
func (p *Project) Refuse(step, before string, refused map[string]string, after string) {
	if len(refused) == 0 {
		return
	}
	var parts []string
	for _, thing := range slices.Sorted(maps.Keys(refused)) {
		parts = append(parts, thing+" ("+refused[thing]+")")
	}
	for _, e := range p.Errors {
		if named, ok := strings.CutPrefix(e.Message, before); ok && e.Step == step {
			parts = slices.Insert(parts, 0, strings.TrimSuffix(named, after))
		}
	}
	p.Fail(step, ProjectError{Code: Precondition, Message: before + strings.Join(parts, ", ") + after})
}

// Recover forgets what step recorded as failed.
func (p *Project) Recover(step string) {
	p.Errors = slices.DeleteFunc(p.Errors, func(e ProjectError) bool { return e.Step == step })
}

// Propagation counts the checks of verify-permissions.
type Propagation struct {
	Checks int // done so far
	Total  int // at most
}

// StepRecord is what is known of one step's execution.
type StepRecord struct {
	Name       string
	StartedAt  time.Time
	FinishedAt time.Time
	Attempts   int // executions, retries included
	Outcome    string
}

// Warning is something that did not stop the setup and that a person should
// know.
type Warning struct {
	Code      string
	Message   string
	ProjectID string
}

// Lease is a right to work on a document until a point in time. Its holder is
// the random name of one execution.
type Lease struct {
	Holder    string
	ExpiresAt time.Time
}

// Live reports whether somebody holds the lease at now.
func (l Lease) Live(now time.Time) bool { return l.Holder != "" && now.Before(l.ExpiresAt) }

// Project returns the setup's project of that ID, or nil.
func (s *Setup) Project(id string) *Project {
	for i := range s.Projects {
		if s.Projects[i].ID == id {
			return &s.Projects[i]
		}
	}
	return nil
}

// Warn adds a warning unless the same stands already.
func (s *Setup) Warn(w Warning) {
	if !slices.Contains(s.Warnings, w) {
		s.Warnings = append(s.Warnings, w)
	}
}

// Verified counts the projects in which the agent account's permissions were
// seen.
func (s *Setup) Verified() int {
	n := 0
	for i := range s.Projects {
		if s.Projects[i].Verified {
			n++
		}
	}
	return n
}

// Patience is how long a task may be overdue before it counts as lost: longer
// than the queue's longest pause between two deliveries. An earlier verdict
// would be harmless, and is a task more.
const Patience = 5 * time.Minute

// Move notes that the setup was worked on, or is about to be.
func (s *Setup) Move(now time.Time) {
	s.UpdatedAt, s.StallsAt, s.Version = now, stallsAt(now, s.DueAt, s.Lease), SchemaVersion
	s.StalledSince = time.Time{}
}

// Revive makes a task due for a setup whose task was lost. It is another task:
// the queue does not take the name of the lost one again.
func (s *Setup) Revive(now time.Time) {
	since := s.StalledSince
	if since.IsZero() {
		since = now
	}
	s.Attempt++
	s.DueAt = time.Time{}
	s.Move(now)
	s.StalledSince = since
}

// stallsAt is when something that was moved at now, whose task is due at due,
// counts as lost.
func stallsAt(now, due time.Time, lease Lease) time.Time {
	for _, at := range []time.Time{due, lease.ExpiresAt} {
		if at.After(now) {
			now = at
		}
	}
	return now.Add(Patience)
}

// Stalled reports whether the setup has not moved for longer than it ever
// waits.
func (s *Setup) Stalled(now time.Time) bool {
	at := s.StallsAt
	if at.IsZero() { // as the first release wrote it
		at = stallsAt(s.UpdatedAt, s.DueAt, s.Lease)
	}
	return !s.State.Ended() && !now.Before(at)
}

// End makes the setup final. Ending an ended setup changes nothing.
func (s *Setup) End(state State, code, message string, now time.Time) {
	if s.State.Ended() {
		return
	}
	s.State, s.Code, s.Message = state, code, message
	s.Lease, s.StallsAt, s.StalledSince = Lease{}, time.Time{}, time.Time{}
	s.EndedAt, s.UpdatedAt, s.ExpireAt, s.Version = now, now, now.Add(SetupLifetime), SchemaVersion
}

// Clone returns a copy that shares no memory with s.
func (s *Setup) Clone() *Setup {
	if s == nil {
		return nil
	}
	clone := *s
	clone.Selected = slices.Clone(s.Selected)
	clone.MadeAccounts = slices.Clone(s.MadeAccounts)
	clone.Billing = maps.Clone(s.Billing)
	clone.Eligible = slices.Clone(s.Eligible)
	clone.Steps = slices.Clone(s.Steps)
	clone.Warnings = slices.Clone(s.Warnings)
	clone.Projects = slices.Clone(s.Projects)
	for i := range clone.Projects {
		p := &clone.Projects[i]
		*p = p.Clone()
	}
	return &clone
}
