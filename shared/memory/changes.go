package memory

import (
	"cmp"
	"context"

	"gcpconnect/shared/connect"
)

// newestFirst orders a user's ledger. Changes planned at the same time are ordered
// by ID, downwards too, as a Firestore index orders them by itself.
func newestFirst(a, b *connect.Change) int {
	return cmp.Or(b.PlannedAt.Compare(a.PlannedAt), cmp.Compare(b.ID, a.ID))
}

// SaveChanges writes entries of the user's ledger. Of two with the same ID
// the later stands.
func (s *Store) SaveChanges(ctx context.Context, userID string, changes []connect.Change) error {
	if err := alive(ctx); err != nil {
		return err
	}
	for _, c := range changes {
		if c.ID == "" {
			return connect.Errorf(connect.Internal, "A change without an ID cannot be stored.")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ledger := &s.user(userID).ledger
	for _, c := range changes {
		ledger.put(c.ID, c)
	}
	s.counts.Writes += int64(len(changes))
	return nil
}

// selects reports whether a query is for a change.
func selects(q connect.ChangeQuery, c *connect.Change) bool {
	return (q.SetupID == "" || c.SetupID == q.SetupID) && (q.ProjectID == "" || c.ProjectID == q.ProjectID) && (q.State == "" || c.State == q.State)
}

// CountChanges returns how many entries of the user's ledger a query selects.
func (s *Store) CountChanges(ctx context.Context, userID string, q connect.ChangeQuery) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.user(userID).ledger.after(nil) {
		if selects(q, c) {
			n++
		}
	}
	s.counts.Reads += int64(n/1000 + 1) // as an aggregation is billed
	return n, nil
}

// Changes returns a page of the user's ledger, newest first.
func (s *Store) Changes(ctx context.Context, userID string, q connect.ChangeQuery) (page []connect.Change, next string, err error) {
	if err := alive(ctx); err != nil {
		return nil, "", err
	}
	size, err := connect.PageSize(q.PageSize)
	if err != nil {
		return nil, "", err
	}
	position, err := connect.ParseCursor("changes", q.PageToken)
	if err != nil {
		return nil, "", err
	}
	var last *connect.Change
	if position != nil {
		last = &connect.Change{PlannedAt: position.PlannedAt, ID: position.ID}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.user(userID).ledger.after(last) {
		if !selects(q, c) {
			continue
		}
		if len(page) == size {
			end := page[size-1]
			next, err = connect.Cursor{Of: "changes", PlannedAt: end.PlannedAt.UTC(), ID: end.ID}.Token()
			break
		}
		page = append(page, *c)
	}
	s.counts.Reads += int64(len(page))
	return page, next, err
}

// ChangesByID returns those of the entries that there are.
func (s *Store) ChangesByID(ctx context.Context, userID string, ids []string) ([]connect.Change, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var changes []connect.Change
	ledger := &s.user(userID).ledger
	for _, id := range ids {
		if c := ledger.byID[id]; c != nil {
			changes = append(changes, *c)
		}
	}
	s.counts.Reads += int64(len(changes))
	return changes, nil
}
