package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"gcpconnect/emulators/demo"
)

// grantAccess is the number of the step in whose middle the process ends.
const grantAccess = 4

// runLargeSetup sets up many projects at once and ends the functions' process in the middle of it.
func (l *load) runLargeSetup(ctx context.Context) error {
	var selected []string
	for i := range l.size.projects {
		selected = append(selected, fmt.Sprintf("many-%04d", i))
	}
	user, err := demo.NewUser(largeUser, l.system.URL, l.client)
	if err != nil {
		return err
	}
	began := time.Now()
	task, err := selectProjects(ctx, user, selected)
	if err != nil {
		return err
	}
	if err := l.awaitGrants(ctx, user, task); err != nil {
		return err
	}
	stopped := time.Now()
	if err := l.functions.replace(ctx, l.size.stop); err != nil {
		return err
	}
	l.printf("after %v the functions' process was ended by %v and started again within %v",
		stopped.Sub(began).Round(time.Millisecond), l.size.stop,
		time.Since(stopped).Round(time.Millisecond))
	final := l.awaitFull(ctx, setup{largeUser, task}, len(selected))
	if final == nil {
		return nil // a problem
	}
	var steps []string
	for _, s := range final.Steps {
		if s.Started != nil && s.Finished != nil {
			lasted := s.Finished.Sub(*s.Started).Round(100 * time.Millisecond)
			steps = append(steps, fmt.Sprintf("%s %v in %d", s.Name, lasted, s.Attempts))
		}
	}
	l.printf("a setup of %d projects took %v: %s", len(selected),
		time.Since(began).Round(time.Millisecond), strings.Join(steps, ", "))
	if err := l.system.Idle(ctx); err != nil {
		return err
	}
	l.checkGoogle(selected)
	m, err := l.functions.memory(ctx)
	if err != nil {
		return err
	}
	l.printf("the new process holds: heap %.1f MB, goroutines %d, resident %.0f MB",
		megabytes(m.Heap), m.Goroutines, megabytes(m.Resident))
	return nil
}

// selectProjects selects projects and returns the setup that follows.
func selectProjects(ctx context.Context, user *demo.User, ids []string) (task string, err error) {
	answer, err := user.Call(ctx, http.MethodPost, "/gcp/post-auth-retry",
		map[string]any{"selected_project_ids": ids})
	if err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK {
		return "", fmt.Errorf("the selection of %d projects answered %d %s",
			len(ids), answer.Status, answer.Body)
	}
	var started struct {
		TaskID string `json:"task_id"`
	}
	err = answer.Decode(&started)
	return started.TaskID, err
}

// awaitGrants waits until access is granted in a quarter of the projects of a setup. On a slow
// machine the setup may have passed that point before this sees it: the line that follows says so.
func (l *load) awaitGrants(ctx context.Context, user *demo.User, task string) error {
	const setPolicy = "cloudresourcemanager.projects.setIamPolicy"
	grants := func() int { return l.system.Google.CallCounts().ByMethod[setPolicy] }
	for enough := grants() + l.size.projects/4; ; {
		s, err := user.Status(ctx, task)
		if err == nil && (s.Complete || s.Step > grantAccess) {
			l.printf("the setup is at step %d already: %s", s.Step, s.Status)
			return nil
		}
		if err == nil && s.Step == grantAccess && grants() >= enough {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// checkGoogle checks at Google what the large setup says of itself.
func (l *load) checkGoogle(selected []string) {
	accounts := 0
	for _, p := range l.system.Google.Snapshot().Projects {
		if !slices.Contains(selected, p.ID) {
			continue
		}
		accounts += len(p.ServiceAccounts)
		roles := 0
		for _, b := range p.Bindings {
			members := slices.Sorted(slices.Values(b.Members))
			if len(slices.Compact(members)) != len(b.Members) {
				l.problem("%s of %s has a member twice", b.Role, p.ID)
			}
			if slices.ContainsFunc(b.Members, isAurora) {
				roles++
			}
		}
		if roles == 0 || len(p.EnabledAPIs) < len(enabled) {
			l.problem("%s has %d roles of Aurora and %d APIs", p.ID, roles, len(p.EnabledAPIs))
		}
	}
	if accounts != 2 {
		l.problem("there are %d service accounts, want 2", accounts)
	}
}

func isAurora(member string) bool { return strings.HasPrefix(member, "serviceAccount:aurora-") }
