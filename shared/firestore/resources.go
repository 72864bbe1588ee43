package firestore

import (
	"context"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// SaveResources writes discovered resources.
func (s *Store) SaveResources(ctx context.Context, userID string, resources []connect.Resource) error {
	return saveByID(ctx, s, userID, "resources", resources, func(r connect.Resource) (string, any) { return r.ID, encodeResource(r) })
}

// Resources returns a page of the user's resources. Those of the same project,
// type and name are ordered by their documents' names.
func (s *Store) Resources(ctx context.Context, userID string, q connect.ResourceQuery) (page []connect.Resource, next string, err error) {
	last, err := connect.ParseCursor("resources", q.PageToken)
	if err != nil {
		return nil, "", err
	}
	query := s.below(userID, "resources").OrderBy("ProjectID", firestore.Asc).OrderBy("Type", firestore.Asc).
		OrderBy("Name", firestore.Asc).OrderBy(firestore.DocumentID, firestore.Asc)
	if q.ProjectID != "" {
		query = query.Where("ProjectID", "==", q.ProjectID)
	}
	if q.Type != "" {
		query = query.Where("Type", "==", q.Type)
	}
	if last != nil {
		query = query.StartAfter(last.ProjectID, last.Type, last.Name, name(last.ID))
	}
	return list(ctx, s, query, q.PageSize, decodeResource, func(r connect.Resource) connect.Cursor {
		return connect.Cursor{Of: "resources", ProjectID: r.ProjectID, Type: r.Type, Name: r.Name, ID: r.ID}
	})
}

// DeleteResources deletes the user's resources that the filter selects.
func (s *Store) DeleteResources(ctx context.Context, userID string, f connect.ResourceFilter) error {
	query := s.below(userID, "resources").Query
	if f.ProjectID != "" {
		query = query.Where("ProjectID", "==", f.ProjectID)
	}
	switch {
	case f.Run == "" && f.NotRun != "":
		query = query.Where("Run", "!=", f.NotRun)
	case f.Run != "" && f.Run == f.NotRun:
		return nil
	case f.Run != "":
		query = query.Where("Run", "==", f.Run)
	}
	return s.deleteAll(ctx, "delete resources", query)
}
