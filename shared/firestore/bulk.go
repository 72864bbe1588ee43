package firestore

import (
	"context"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// saveByID writes documents of a collection of the user's, each by itself and
// under the ID that encode returns with it: a batch that failed half-way is
// written again by the caller. Of several with the same ID the last
// counts.
func saveByID[T any](ctx context.Context, s *Store, userID, collection string, values []T, encode func(T) (id string, document any)) error {
	documents := make(map[string]any, len(values))
	for _, v := range values {
		id, document := encode(v)
		if id == "" {
			return connect.Errorf(connect.Internal, "What has no ID cannot be stored among %s.", collection)
		}
		documents[name(id)] = document
	}
	ctx, cancel := context.WithTimeout(ctx, s.bulkTimeout)
	defer cancel()
	below := s.below(userID, collection)
	return s.inBulk(ctx, "save "+collection, func(w *firestore.BulkWriter, started func(*firestore.BulkWriterJob)) error {
		for name, document := range documents {
			job, err := w.Set(below.Doc(name), document)
			if err != nil {
				return err
			}
			started(job)
		}
		return nil
	})
}

// deletePage is how many documents are read before they are deleted: memory
// is bounded by it, whatever there is.
const deletePage = 1000

// deleteAll deletes the documents that a query selects. Nothing of them but
// their names is read.
func (s *Store) deleteAll(ctx context.Context, what string, q firestore.Query) error {
	ctx, cancel := context.WithTimeout(ctx, s.bulkTimeout)
	defer cancel()
	q = q.Select().Limit(deletePage)
	for {
		snapshots, err := q.Documents(ctx).GetAll()
		if err != nil {
			return classify(what, err)
		}
		if len(snapshots) == 0 {
			return nil
		}
		err = s.inBulk(ctx, what, func(w *firestore.BulkWriter, started func(*firestore.BulkWriterJob)) error {
			for _, snapshot := range snapshots {
				job, err := w.Delete(snapshot.Ref)
				if err != nil {
					return err
				}
				started(job)
			}
			return nil
		})
		if err != nil || len(snapshots) < deletePage {
			return err
		}
	}
}

// inBulk runs write and waits for what it started.
func (s *Store) inBulk(ctx context.Context, what string, write func(w *firestore.BulkWriter, started func(*firestore.BulkWriterJob)) error) error {
	if err := connect.Overdue(ctx); err != nil { // no transaction finds out that another has taken over
		return classify(what, err)
	}
	w := s.client.BulkWriter(ctx)
	var jobs []*firestore.BulkWriterJob
	err := write(w, func(job *firestore.BulkWriterJob) { jobs = append(jobs, job) })
	w.End()
	for _, job := range jobs {
		if _, failed := job.Results(); err == nil {
			err = failed
		}
	}
	if err != nil {
		return classify(what, err)
	}
	return nil
}
