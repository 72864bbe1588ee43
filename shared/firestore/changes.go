package firestore

import (
	"context"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"gcpconnect/shared/connect"
)

// SaveChanges writes entries of the user's ledger.
func (s *Store) SaveChanges(ctx context.Context, userID string, changes []connect.Change) error {
	return saveByID(ctx, s, userID, "changes", changes, func(c connect.Change) (string, any) { return c.ID, changeDocument(c) })
}

// Changes returns a page of the user's ledger, newest first. Those of the same
// time are ordered by their documents' names.
func (s *Store) Changes(ctx context.Context, userID string, q connect.ChangeQuery) (page []connect.Change, next string, err error) {
	last, err := connect.ParseCursor("changes", q.PageToken)
	if err != nil {
		return nil, "", err
	}
	query := s.selected(userID, q).OrderBy("PlannedAt", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc)
	if last != nil {
		query = query.StartAfter(last.PlannedAt, name(last.ID))
	}
	return list(ctx, s, query, q.PageSize, decodeChange, func(c connect.Change) connect.Cursor {
		return connect.Cursor{Of: "changes", PlannedAt: c.PlannedAt.UTC(), ID: c.ID}
	})
}

// CountChanges returns how many entries of the user's ledger a query selects,
// without reading them
// (https://cloud.google.com/firestore/docs/query-data/aggregation-queries).
func (s *Store) CountChanges(ctx context.Context, userID string, q connect.ChangeQuery) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	query := s.selected(userID, q)
	result, err := query.NewAggregationQuery().WithCount("n").Get(ctx)
	if err != nil {
		return 0, classify("count changes", err)
	}
	n, ok := result["n"].(*firestorepb.Value)
	if !ok {
		return 0, connect.Errorf(connect.Internal, "The changes could not be counted.")
	}
	return int(n.GetIntegerValue()), nil
}

// selected is a query's part of the user's ledger.
func (s *Store) selected(userID string, q connect.ChangeQuery) firestore.Query {
	query := s.below(userID, "changes").Query
	if q.SetupID != "" {
		query = query.Where("SetupID", "==", q.SetupID)
	}
	if q.ProjectID != "" {
		query = query.Where("ProjectID", "==", q.ProjectID)
	}
	if q.State != "" {
		query = query.Where("State", "==", string(q.State))
	}
	return query
}

// ChangesByID returns those of the entries that there are: one read, and no
// query.
func (s *Store) ChangesByID(ctx context.Context, userID string, ids []string) ([]connect.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	refs := make([]*firestore.DocumentRef, len(ids))
	for i, id := range ids {
		refs[i] = s.below(userID, "changes").Doc(name(id)) // as they are saved
	}
	snapshots, err := s.client.GetAll(ctx, refs)
	if err != nil {
		return nil, classify("read changes", err)
	}
	var changes []connect.Change
	for _, snapshot := range snapshots {
		if !snapshot.Exists() {
			continue
		}
		c, err := decodeChange(snapshot)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}
