package firestore

import (
	"context"
	"errors"
	"reflect"

	"cloud.google.com/go/firestore"
)

// refusal is an error of a caller's closure on its way out of a transaction.
// It hides what it holds: the client would take an error that wraps one of
// Firestore's for its own and run the transaction again.
type refusal struct{ error }

// transact runs one transaction. An error that fn wraps in refusal comes back
// as it was; others are Firestore's.
func (s *Store) transact(ctx context.Context, what string, fn func(t *firestore.Transaction) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.client.RunTransaction(ctx, func(_ context.Context, t *firestore.Transaction) error { return fn(t) })
	if own, ok := errors.AsType[refusal](err); ok {
		return own.error
	}
	if err != nil {
		return classify(what, err)
	}
	return nil
}

// working is a document within a transaction.
type working[T cloner[T]] struct {
	ref    *firestore.DocumentRef
	encode func(T) (any, error)
	before T // as it was read
	doc    T // for the closure to change
}

// cloner is a document that can copy itself deeply.
type cloner[T any] interface{ Clone() T }

// open reads a document; found is false if there is none, and it begins as zero.
func open[T cloner[T]](t *firestore.Transaction, ref *firestore.DocumentRef, zero T,
	decode func(*firestore.DocumentSnapshot) (T, error), encode func(T) (any, error),
) (w *working[T], found bool, err error) {
	snapshots, err := t.GetAll([]*firestore.DocumentRef{ref})
	if err != nil {
		return nil, false, err
	}
	doc := zero
	if found = snapshots[0].Exists(); found {
		if doc, err = decode(snapshots[0]); err != nil {
			return nil, false, refusal{err}
		}
	}
	return &working[T]{ref: ref, encode: encode, before: doc.Clone(), doc: doc}, found, nil
}

// save writes the document unless it is as it was read.
func (w *working[T]) save(t *firestore.Transaction) error {
	if reflect.DeepEqual(w.before, w.doc) {
		return nil
	}
	stored, err := w.encode(w.doc)
	if err != nil {
		return refusal{err}
	}
	return t.Set(w.ref, stored)
}
