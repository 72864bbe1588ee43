package firestore

import (
	"context"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// SaveChanges writes entries of the user's ledger.
func (s *Store) SaveChanges(ctx context.Context, userID string, changes []connect.Change) error {
	ledger := s.below(userID, "changes")
	byID := map[string]connect.Change{}
	for _, c := range changes {
		if c.ID == "" {
			return connect.Errorf(connect.Internal, "A change without an ID cannot be stored.")
		}
		byID[c.ID] = c
	}
	documents := map[*firestore.DocumentRef]any{}
	for id, c := range byID {
		documents[ledger.Doc(name(id))] = c
	}
	return s.saveAll(ctx, "save changes", documents)
}

// Changes returns a page of the user's ledger, newest first. Those of the same
// time are ordered by their documents' names.
func (s *Store) Changes(ctx context.Context, userID string, q connect.ChangeQuery) (page []connect.Change, next string, err error) {
	last, err := connect.ParseCursor("changes", q.PageToken)
	if err != nil {
		return nil, "", err
	}
	query := s.below(userID, "changes").OrderBy("PlannedAt", firestore.Desc).OrderBy(firestore.DocumentID, firestore.Desc)
	if q.SetupID != "" {
		query = query.Where("SetupID", "==", q.SetupID)
	}
	if q.State != "" {
		query = query.Where("State", "==", string(q.State))
	}
	if last != nil {
		query = query.StartAfter(last.PlannedAt, name(last.ID))
	}
	return list(ctx, query, q.PageSize, decodeChange, func(c connect.Change) connect.Cursor {
		return connect.Cursor{Of: "changes", PlannedAt: c.PlannedAt.UTC(), ID: c.ID}
	})
}

// list reads a page of a query, and one more document than that: it says
// whether there is a next page.
func list[T any](ctx context.Context, query firestore.Query, pageSize int,
	decode func(*firestore.DocumentSnapshot) (T, error), position func(T) connect.Cursor,
) (page []T, next string, err error) {
	size, err := connect.PageSize(pageSize)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	snapshots, err := query.Limit(size + 1).Documents(ctx).GetAll()
	if err != nil {
		return nil, "", classify("list", err)
	}
	for i, snapshot := range snapshots {
		if i == size {
			next, err = position(page[size-1]).Token()
			return page, next, err
		}
		one, err := decode(snapshot)
		if err != nil {
			return nil, "", err
		}
		page = append(page, one)
	}
	return page, "", nil
}
