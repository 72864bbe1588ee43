package firestore

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// list reads a page of a query, and one more document than that: it says
// whether there is a next page.
func list[T any](ctx context.Context, s *Store, query firestore.Query, pageSize int,
	decode func(*firestore.DocumentSnapshot) (T, error), position func(T) connect.Cursor,
) (page []T, next string, err error) {
	size, err := connect.PageSize(pageSize)
	if err != nil {
		return nil, "", err
	}
	timeout := s.timeout
	if size > connect.DefaultPageSize {
		timeout = s.bulkTimeout
	}
	page, err = fetchWithin(ctx, timeout, query.Limit(size+1), decode)
	if err != nil || len(page) <= size {
		return page, "", err
	}
	page = page[:size]
	next, err = position(page[size-1]).Token()
	return page, next, err
}

// early returns at most limit documents of which a field holds a time before
// another, the earliest first. Of those that have none it is zero. Documents
// that cannot be read keep it from none of the others: the error beside them is
// of those.
func early[T any](ctx context.Context, s *Store, of firestore.Query, field string, before time.Time, limit int, decode func(*firestore.DocumentSnapshot) (*T, error)) ([]T, error) {
	pointers, err := fetch(ctx, s, of.Where(field, ">", time.Time{}).Where(field, "<", before).OrderBy(field, firestore.Asc).Limit(limit), decode)
	return values(pointers), err
}

func values[T any](pointers []*T) []T {
	var documents []T
	for _, p := range pointers {
		documents = append(documents, *p)
	}
	return documents
}

// fetch returns the documents of a query that can be read, and the errors of
// those that cannot.
func fetch[T any](ctx context.Context, s *Store, query firestore.Query, decode func(*firestore.DocumentSnapshot) (T, error)) ([]T, error) {
	return fetchWithin(ctx, s.timeout, query, decode)
}

func fetchWithin[T any](ctx context.Context, timeout time.Duration, query firestore.Query, decode func(*firestore.DocumentSnapshot) (T, error)) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	snapshots, err := query.Documents(ctx).GetAll()
	if err != nil {
		return nil, classify("list", err)
	}
	var documents []T
	var faults []error
	for _, snapshot := range snapshots {
		one, err := decode(snapshot)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		documents = append(documents, one)
	}
	return documents, errors.Join(faults...)
}
