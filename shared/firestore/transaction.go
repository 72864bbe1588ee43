package firestore

import (
	"context"
	"errors"
	"reflect"

	"cloud.google.com/go/firestore"

	"gcpconnect/shared/connect"
)

// refusal is an error of a caller's closure on its way out of a transaction.
// It hides what it holds: the client would take an error that wraps one of
// Firestore's for its own and run the transaction again.
type refusal struct{ error }

// errApplied ends a run that found the writes of a run before it.
var errApplied = refusal{errors.New("applied")}

// tries is how often a call begins anew whose commit's answer was lost.
const tries = 3

// transaction is one run of a transaction.
type transaction struct {
	*firestore.Transaction
	id string // names the call, and with it all runs; what it writes carries it
}

// transact runs one transaction. An error that fn wraps in refusal comes back
// as it was; others are Firestore's.
//
// The answer to a commit can be lost. The client then repeats the commit, is
// told that the transaction is over, or was aborted, and cannot know whether
// it took effect. But documents know: each carries the name of the call that
// wrote it last. So the call begins anew, and a run that reads its own name
// has succeeded before: the closure does not run on top of itself. (Unless
// another call has written the document since: then it runs again, upon what
// that one left.)
//
// A call that is cut off takes some seconds more: the client rolls back.
func (s *Store) transact(ctx context.Context, what string, fn func(t *transaction) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	id := connect.NewID()
	for try := 1; ; try++ {
		err := s.client.RunTransaction(ctx, func(_ context.Context, t *firestore.Transaction) error { return fn(&transaction{t, id}) })
		if own, ok := errors.AsType[refusal](err); ok {
			if own == errApplied {
				return nil
			}
			return own.error
		}
		if err == nil {
			return nil
		}
		if !lost(err) || try == tries || ctx.Err() != nil {
			return classify(what, err)
		}
	}
}

// working is a document within a transaction.
type working[T cloner[T]] struct {
	ref    *firestore.DocumentRef
	encode func(doc T, tx string) (any, error)
	before T    // as it was read
	doc    T    // for the closure to change
	ours   bool // the call has written it in a run before
}

// cloner is a document that can copy itself deeply.
type cloner[T any] interface{ Clone() T }

// open reads a document; found is false if there is none, and it begins as zero.
func open[T cloner[T]](t *transaction, ref *firestore.DocumentRef, zero T,
	decode func(*firestore.DocumentSnapshot) (T, error), encode func(T, string) (any, error),
) (w *working[T], found bool, err error) {
	snapshots, err := t.GetAll([]*firestore.DocumentRef{ref})
	if err != nil {
		return nil, false, err
	}
	w = &working[T]{ref: ref, encode: encode, doc: zero}
	if found = snapshots[0].Exists(); found {
		if w.doc, err = decode(snapshots[0]); err != nil {
			return nil, false, refusal{err}
		}
		tx, _ := snapshots[0].DataAt("Tx") // documents of the first release have none
		w.ours = tx == t.id
	}
	w.before = w.doc.Clone()
	return w, found, nil
}

// save writes the document unless it is as it was read.
func (w *working[T]) save(t *transaction) error {
	if reflect.DeepEqual(w.before, w.doc) {
		return nil
	}
	stored, err := w.encode(w.doc, t.id)
	if err != nil {
		return refusal{err}
	}
	return t.Set(w.ref, stored)
}
