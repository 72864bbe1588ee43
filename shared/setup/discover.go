package setup

import (
	"context"
	"fmt"

	"gcpconnect/shared/connect"
)

// discoverResources hands one discovery task per project to the queue. With
// that the setup is complete: discovery reports for itself.
func discoverResources(ctx context.Context, r *Run) error {
	var ids []string
	for _, p := range r.Setup.Projects {
		if p.Access.OK() {
			ids = append(ids, p.ID)
		}
	}
	return r.enqueueDiscovery(ctx, r.Setup.UserID, r.Setup.Generation, runName(r.Setup.CreatedAt, r.Setup.ID), ids)
}

// enqueueDiscovery enqueues the first task of a discovery run for each
// project.
func (p *Parts) enqueueDiscovery(ctx context.Context, userID string, generation int64, run string, projectIDs []string) error {
	return concurrently(ctx, len(projectIDs), func(ctx context.Context, i int) error {
		t, err := discoveryTask{User: userID, Generation: generation, Project: projectIDs[i], Run: run}.due(&connect.Discovery{})
		if err != nil {
			return err
		}
		if err := p.Queue.Enqueue(ctx, t); err != nil {
			return fmt.Errorf("enqueue discovery of %s: %w", projectIDs[i], err)
		}
		return nil
	})
}
