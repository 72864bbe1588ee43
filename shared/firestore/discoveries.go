package firestore

import (
	"context"
	"time"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// Discoveries returns the user's discoveries, ordered by project ID.
func (s *Store) Discoveries(ctx context.Context, userID string) ([]connect.Discovery, error) {
	pointers, err := fetch(ctx, s, s.below(userID, "discoveries").OrderBy("ProjectID", firestore.Asc), decodeDiscovery)
	return values(pointers), err
}

// StalledDiscoveries returns discoveries, of all users, that stall before a time.
func (s *Store) StalledDiscoveries(ctx context.Context, before time.Time, limit int) ([]connect.Discovery, error) {
	return early(ctx, s, s.client.CollectionGroup("discoveries").Query, "StallsAt", before, limit, decodeDiscovery)
}

// UpdateDiscovery runs fn over the user's connection, without its
// projects, and a project's discovery.
func (s *Store) UpdateDiscovery(ctx context.Context, userID, projectID string, fn func(c *connect.Connection, d *connect.Discovery) error) (*connect.Connection, *connect.Discovery, error) {
	var c *working[*connect.Connection]
	var d *working[*connect.Discovery]
	err := s.transact(ctx, "update discovery", func(t *transaction) (err error) {
		if c, err = s.openLean(t, userID); err != nil {
			return err
		}
		ref, zero := s.below(userID, "discoveries").Doc(name(projectID)), &connect.Discovery{UserID: userID, ProjectID: projectID}
		if d, _, err = open(t, ref, zero, decodeDiscovery, encodeDiscovery); err != nil {
			return err
		}
		if c.ours || d.ours {
			return errApplied
		}
		if err := fn(c.doc, d.doc); err != nil {
			return refusal{err}
		}
		c.doc.Projects = nil // they are not for fn to change
		if err := d.save(t); err != nil {
			return err
		}
		return c.save(t)
	})
	if err != nil {
		return nil, nil, err
	}
	return c.doc, d.doc, nil
}

// DeleteDiscoveries deletes the user's discoveries of older generations.
func (s *Store) DeleteDiscoveries(ctx context.Context, userID string, before int64) error {
	return s.deleteAll(ctx, "delete discoveries", s.below(userID, "discoveries").Where("Generation", "<", before))
}
