package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"gcpconnect/shared/connect"
)

// Waiting for a project that does not let itself be searched yet: its access
// or its Cloud Asset API can take minutes to come into force.
const (
	discoveryWait  = 30 * time.Second
	discoveryTries = 20
)

// discoveryTask is what the queue carries for discover-project.
type discoveryTask struct {
	User       string `json:"user"`
	Generation int64  `json:"generation"`
	Project    string `json:"project"`
	Run        string `json:"run"` // later runs compare greater
	Attempt    int    `json:"attempt"`
}

// runName names a discovery run. Names order by time.
func runName(at time.Time, id string) string {
	return at.UTC().Format("20060102T150405.000000000") + "-" + id
}

func parseDiscoveryTask(body []byte) (discoveryTask, error) {
	var t discoveryTask
	if err := decodeTask(body, &t); err != nil {
		return discoveryTask{}, err
	}
	switch {
	case t.User == "":
		return discoveryTask{}, connect.Errorf(connect.Invalid, "The task's user is missing.")
	case t.Project == "":
		return discoveryTask{}, connect.Errorf(connect.Invalid, "The task's project is missing.")
	case t.Run == "":
		return discoveryTask{}, connect.Errorf(connect.Invalid, "The task's run is missing.")
	case t.Generation < 1 || t.Attempt < 0:
		return discoveryTask{}, connect.Errorf(connect.Invalid, "The task's generation or attempt is out of range.")
	}
	return t, nil
}

// things name the task in logs and traces. Its user is named in few lines only.
func (t discoveryTask) things() []slog.Attr {
	return []slog.Attr{
		slog.String("step", DiscoverFunction), slog.String("project", t.Project), slog.String("run", t.Run),
		slog.Int64("generation", t.Generation), slog.Int("attempt", t.Attempt),
	}
}

// due is the task for d as it stands.
func (t discoveryTask) due(d *connect.Discovery) (connect.Task, error) {
	t.Attempt = d.Attempt
	return queueTask(DiscoverFunction, t, d.DueAt, t.User, t.Project, t.Run, strconv.Itoa(t.Attempt))
}

// Discover executes a task of discover-project: it reads the project's
// resources page by page as the agent account and stores them. It follows the
// same rules as the steps: claim, work, commit, enqueue. When its time is
// short it leaves the next page to another task.
func (r *Runner) Discover(ctx context.Context, body []byte, delivery Delivery) (err error) {
	t, err := parseDiscoveryTask(body)
	if err != nil {
		return err
	}
	ctx, x := r.Measures.begin(connect.About(ctx, t.things()...), DiscoverFunction)
	defer func() { err = x.end(ctx, err) }()
	holder, log := connect.NewID(), r.Log.With("user", t.User)
	c, d, err := r.claimDiscovery(ctx, t, holder)
	switch {
	case errors.Is(err, errGone):
		x.outcome = "out_of_date"
		log.InfoContext(ctx, "discovery task is out of date")
		return nil
	case errors.Is(err, errForeign):
		x.outcome = "out_of_date"
		return r.dropResources(ctx, t)
	case errors.Is(err, errBehind):
		x.outcome = "behind"
		return r.enqueueDue(ctx, t, d)
	case errors.Is(err, errBusy):
		x.outcome = "busy"
		return connect.Errorf(connect.Unavailable, "This project is being discovered.").Because(err)
	case err != nil:
		return fmt.Errorf("claim discovery of %s: %w", t.Project, err)
	}

	work, cancel := context.WithTimeout(ctx, r.Settings.Deadline)
	result := safely(func() error { return r.readResources(work, c, d) })
	cancel()
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	again, isAgain := errors.AsType[later](result)
	retry := result != nil && !isAgain && retryable(result) && !delivery.Last
	x.outcome = "retrying"
	_, stored, err := r.Store.UpdateDiscovery(ctx, t.User, t.Project, func(c *connect.Connection, stored *connect.Discovery) error {
		switch {
		case c.Generation != t.Generation:
			return errForeign
		case stored.Run != t.Run || stored.Lease.Holder != holder:
			return errLost
		}
		*stored = *d.Clone()
		stored.Lease = connect.Lease{}
		if connect.CodeOf(result) == connect.NeedsReauth {
			c.NeedsReauth = true
		}
		now := time.Now()
		switch {
		case retry:
		case isAgain && (again.after == 0 || stored.Attempt < discoveryTries):
			stored.Attempt++
			stored.DueAt = now.Add(again.after)
		case result != nil:
			stored.End(connect.DiscoveryFailed, discoveryMessage(result), now)
		default:
			stored.End(connect.DiscoveryDone, "", now)
		}
		if stored.State == connect.DiscoveryRunning {
			stored.Move(now)
		}
		return nil
	})
	switch {
	case errors.Is(err, errLost):
		x.outcome = "dropped"
		log.InfoContext(ctx, "discovery was overtaken")
		return nil
	case errors.Is(err, errForeign):
		x.outcome = "dropped"
		return r.dropResources(ctx, t)
	case err != nil:
		return err
	case retry:
		log.WarnContext(ctx, "discovery will be tried again", "error", result)
		return result
	case stored.State == connect.DiscoveryRunning:
		x.outcome = "waiting"
		return r.enqueueDue(ctx, t, stored)
	}
	x.outcome = string(stored.State)
	log.InfoContext(ctx, "discovery ended", "state", stored.State, "cause", result)
	return nil
}

// dropResources deletes what a run stored whose connection is gone: a
// disconnect came between, and the resources are nobody's.
func (r *Runner) dropResources(ctx context.Context, t discoveryTask) error {
	r.Log.InfoContext(ctx, "discovery's connection is gone")
	return r.Store.DeleteResources(ctx, t.User, connect.ResourceFilter{ProjectID: t.Project, Run: t.Run})
}

// enqueueDue enqueues the task that is due for a discovery.
func (p *Parts) enqueueDue(ctx context.Context, t discoveryTask, d *connect.Discovery) error {
	next, err := t.due(d)
	if err != nil {
		return err
	}
	return p.Queue.Enqueue(ctx, next)
}

// claimDiscovery takes the lease of the project's discovery, and begins the
// run if the task is of a newer one than the stored.
func (r *Runner) claimDiscovery(ctx context.Context, t discoveryTask, holder string) (*connect.Connection, *connect.Discovery, error) {
	var seen *connect.Discovery
	c, d, err := r.Store.UpdateDiscovery(ctx, t.User, t.Project, func(c *connect.Connection, d *connect.Discovery) error {
		now := time.Now()
		switch {
		case !c.Connected || c.Generation != t.Generation:
			return errForeign
		case d.Generation == t.Generation && d.Run > t.Run:
			return errGone
		case d.Lease.Live(now): // also an older run's: two at once would delete each other's resources
			return errBusy
		}
		if d.Generation != t.Generation || d.Run < t.Run {
			*d = connect.Discovery{
				UserID: t.User, ProjectID: t.Project, Generation: t.Generation, Run: t.Run,
				State: connect.DiscoveryRunning, StartedAt: now,
			}
		}
		seen = d.Clone()
		switch {
		case d.State != connect.DiscoveryRunning:
			return errGone
		case d.Attempt != t.Attempt:
			return errBehind
		}
		d.Lease = connect.Lease{Holder: holder, ExpiresAt: now.Add(r.Settings.Lease)}
		d.Move(now)
		return nil
	})
	if errors.Is(err, errBehind) {
		return nil, seen, err
	}
	return c, d, err
}

// readResources stores page after page of the project's resources until the
// last one or until time is up, and notes in d how far it came.
func (r *Runner) readResources(ctx context.Context, c *connect.Connection, d *connect.Discovery) error {
	leaveAt := time.Now().Add(r.Settings.Budget)
	user := r.Google.As(r.Tokens.User(c.Tokens))
	agent := r.Google.As(r.Tokens.Account(user, c.Tokens, c.Accounts.Agent))
	if d.PageToken == "" || d.Counts == nil {
		d.Counts = map[string]int{}
	}
	for {
		page, next, err := agent.SearchResources(ctx, d.ProjectID, d.PageToken)
		switch code := connect.CodeOf(err); {
		case code == connect.Forbidden || code == connect.NotFound:
			return fmt.Errorf("search %s: %w", d.ProjectID, errors.Join(err, Later(discoveryWait)))
		case code == connect.Invalid && d.PageToken != "":
			// Page tokens expire: begin again from the first page.
			d.PageToken, d.Counts = "", nil
			return errors.Join(err, Later(discoveryWait))
		case err != nil:
			return fmt.Errorf("search %s: %w", d.ProjectID, err)
		}
		now := time.Now()
		for i := range page {
			page[i].Run, page[i].DiscoveredAt = d.Run, now
		}
		if err := r.Store.SaveResources(ctx, c.UserID, page); err != nil {
			return fmt.Errorf("store resources of %s: %w", d.ProjectID, err)
		}
		for _, resource := range page {
			d.Counts[resource.Type]++
		}
		d.PageToken = next
		if next == "" {
			break
		}
		if time.Now().After(leaveAt) {
			return Later(0)
		}
	}
	// What this run did not see is gone.
	if err := r.Store.DeleteResources(ctx, c.UserID, connect.ResourceFilter{ProjectID: d.ProjectID, NotRun: d.Run}); err != nil {
		return fmt.Errorf("delete resources of %s that are gone: %w", d.ProjectID, err)
	}
	return nil
}

func discoveryMessage(err error) string {
	const next = " Run the discovery again in some minutes; if it stays, check that the project is not blocked for Aurora's agent account."
	if connect.CodeOf(err) == connect.NeedsReauth {
		return connect.MessageOf(err)
	}
	return "The resources of this project could not be read: " + connect.MessageOf(err) + next
}
