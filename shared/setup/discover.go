package setup

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

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
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for _, id := range projectIDs {
		group.Go(func() error {
			t, err := discoveryTask{User: userID, Generation: generation, Project: id, Run: run}.due(&connect.Discovery{})
			if err != nil {
				return err
			}
			if err := p.Queue.Enqueue(ctx, t); err != nil {
				return fmt.Errorf("enqueue discovery of %s: %w", id, err)
			}
			return nil
		})
	}
	return group.Wait()
}
