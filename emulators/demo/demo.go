package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gcpconnect/emulators/stack"
)

// Options say what the demonstration does.
type Options struct {
	Select       []string      // projects to select; empty: all, if the setup asks
	PollInterval time.Duration // between two polls of the status
}

// Run connects one user to the stack's emulated Google and prints how it went:
// a timeline of the steps, the calls to Google by method, and the final
// status. It fails unless the setup ended with SUCCESS and FULL.
func Run(ctx context.Context, out io.Writer, s *stack.Stack, opts Options) error {
	p := &printer{out: out}
	user, err := NewUser("demo-user", s.URL, s.Client())
	if err != nil {
		return err
	}
	started := time.Now()
	s.Google.ClearCalls()
	login, task, err := user.Connect(ctx, Choice{})
	if err != nil {
		return err
	}
	p.printf("logged in, consented and came back: login=%s\n", login)
	if login != "gcp_setup_pending" {
		return fmt.Errorf("the login ended with %s", login)
	}
	final, err := user.Await(ctx, task, opts.PollInterval, p.progress(started))
	if err != nil {
		return err
	}
	if final.Result != nil && final.Result.Status == "needs_selection" {
		p.printf("%d projects are eligible, which is more than are taken without asking\n", final.Result.Count)
		selected := opts.Select
		if len(selected) == 0 {
			for _, e := range final.Result.Eligible {
				selected = append(selected, e.ID)
			}
		}
		if task, err = user.selectProjects(ctx, selected); err != nil {
			return err
		}
		p.printf("selected %d of them\n", len(selected))
		started = time.Now()
		s.Google.ClearCalls()
		if final, err = user.Await(ctx, task, opts.PollInterval, p.progress(started)); err != nil {
			return err
		}
	}
	if len(opts.Select) > 0 && len(final.Projects) != len(opts.Select) {
		p.printf("no selection was asked for: every eligible project was taken\n")
	}
	p.timeline(final)
	// Discovery goes on by itself; its calls are part of the price of a setup.
	if err := s.Idle(ctx); err != nil {
		return err
	}
	if err := p.resources(ctx, user); err != nil {
		return err
	}
	counts := s.Google.CallCounts()
	p.calls(counts.ByMethod, counts.Total, counts.Writes, len(final.Projects))
	p.result(final, time.Since(started))
	return errors.Join(p.err, succeeded(final))
}

// succeeded says why a setup is not a full success.
func succeeded(s *Status) error {
	switch {
	case s.Result == nil:
		return fmt.Errorf("the setup broke: %s", s.Status)
	case s.Result.Status != "SUCCESS":
		return fmt.Errorf("the setup ended with %s: %s", s.Result.Status, s.Result.Message)
	case s.Result.Propagation != "FULL":
		return fmt.Errorf("the setup is %s: %s", s.Result.Propagation, s.Result.Message)
	}
	return nil
}

// selectProjects selects projects and returns the new setup.
func (u *User) selectProjects(ctx context.Context, ids []string) (task string, err error) {
	answer, err := u.Call(ctx, "POST", "/gcp/post-auth-retry", map[string]any{"selected_project_ids": ids})
	if err != nil {
		return "", err
	}
	var started struct {
		TaskID string `json:"task_id"`
	}
	if answer.Status != 200 {
		return "", fmt.Errorf("selection answered %d %s", answer.Status, answer.Body)
	}
	return started.TaskID, answer.Decode(&started)
}

// printer prints, and remembers the first error of doing so.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// progress returns a function that prints each status that differs from the
// one before.
func (p *printer) progress(started time.Time) func(*Status) {
	var before string
	return func(s *Status) {
		line := fmt.Sprintf("%3d%%  %s", s.Progress, s.Status)
		if s.Propagation != nil {
			line += fmt.Sprintf(" (check %d of at most %d)", s.Propagation.Current, s.Propagation.Total)
		}
		if line != before && !s.Complete {
			p.printf("%6.1fs  %s\n", time.Since(started).Seconds(), line)
		}
		before = line
	}
}

func (p *printer) table(rows func(w io.Writer)) {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	rows(w)
	if err := w.Flush(); p.err == nil {
		p.err = err
	}
}

// timeline shows each step with when it began and how long it took.
func (p *printer) timeline(s *Status) {
	if len(s.Steps) == 0 || s.Steps[0].Started == nil {
		return
	}
	first := *s.Steps[0].Started
	p.printf("\nTimeline\n")
	p.table(func(w io.Writer) {
		for _, step := range s.Steps {
			if step.Started == nil || step.Finished == nil {
				continue
			}
			began, took := step.Started.Sub(first), step.Finished.Sub(*step.Started)
			fmt.Fprintf(w, "  %s\tat %.2f s\ttook %.2f s\t%d execution(s)\t%s\n", step.Name, began.Seconds(), took.Seconds(), step.Attempts, step.Outcome)
		}
	})
}

// calls shows the calls to Google by method.
func (p *printer) calls(byMethod map[string]int, total, writes, projects int) {
	p.printf("\nCalls to Google: %d, of which %d write; %.1f a project\n", total, writes, float64(total)/float64(max(projects, 1)))
	p.table(func(w io.Writer) {
		for _, method := range slices.Sorted(maps.Keys(byMethod)) {
			fmt.Fprintf(w, "  %s\t%d\n", method, byMethod[method])
		}
	})
}

// resources shows what was discovered.
func (p *printer) resources(ctx context.Context, u *User) error {
	answer, err := u.Call(ctx, "GET", "/api/gcp/resources/summary", nil)
	if err != nil {
		return err
	}
	var summary struct {
		Total  int            `json:"total"`
		ByType map[string]int `json:"by_type"`
	}
	if err := answer.Decode(&summary); err != nil {
		return err
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(summary.ByType)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, summary.ByType[kind]))
	}
	p.printf("\nDiscovered %d resources: %s\n", summary.Total, strings.Join(parts, ", "))
	return nil
}

// result shows the final status.
func (p *printer) result(s *Status, took time.Duration) {
	p.printf("\n%d changes made, %d things found as they should be\n", s.Changes.Made, s.Changes.Stood)
	for _, project := range s.Projects {
		if project.Error != nil {
			p.printf("%s: %s\n", project.ID, project.Error.Message)
		}
	}
	if s.Result == nil {
		p.printf("%s: %s\n", s.State, s.Status)
		return
	}
	p.printf("%s %s: %d of %d projects verified in %.1f s  (%s)\n", s.Result.Status, s.Result.Propagation, s.Result.Verified, s.Result.Total, took.Seconds(), s.Result.Redirect)
}
