package memory

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"slices"
	"time"
)

// table holds the documents of one kind, each with a revision that no other
// state of any document of the table ever had. The zero table is empty. What
// is in it is never handed out and never changed in place.
type table[T cloner[T]] struct {
	rows map[string]row[T]
	last int64 // newest revision
}

type row[T any] struct {
	doc      T
	revision int64 // at least 1
}

// cloner is a document that can copy itself deeply.
type cloner[T any] interface{ Clone() T }

// get returns a copy of a document.
func (t *table[T]) get(key string) (doc T, found bool) {
	r, found := t.rows[key]
	if !found {
		return doc, false
	}
	return r.doc.Clone(), true
}

// keys iterates over the keys, in no order.
func (t *table[T]) keys() iter.Seq[string] { return maps.Keys(t.rows) }

// all iterates over the documents, in no order; they belong to the table.
func (t *table[T]) all(yield func(T) bool) {
	for _, r := range t.rows {
		if !yield(r.doc) {
			return
		}
	}
}

// deleteFunc deletes the documents that match selects and returns how many
// they were.
func (t *table[T]) deleteFunc(match func(T) bool) int {
	before := len(t.rows)
	maps.DeleteFunc(t.rows, func(_ string, r row[T]) bool { return match(r.doc) })
	return before - len(t.rows)
}

// open begins work on the document of that key, or on zero if there is none.
func (t *table[T]) open(key string, zero T) *working[T] {
	if r, found := t.rows[key]; found {
		return &working[T]{table: t, key: key, revision: r.revision, before: r.doc, doc: r.doc.Clone()}
	}
	return &working[T]{table: t, key: key, before: zero.Clone(), doc: zero}
}

// working is a document within a transaction.
type working[T cloner[T]] struct {
	table    *table[T]
	key      string
	revision int64 // that was read; 0: there was none
	before   T     // as it was read
	doc      T     // for the closure to change
	// whole puts back what the closure does not get to see; nil: it sees all.
	whole func(T) T
}

func (w *working[T]) stale() bool { return w.table.rows[w.key].revision != w.revision }

func (w *working[T]) save() bool {
	if reflect.DeepEqual(w.before, w.doc) {
		return false
	}
	t := w.table
	if t.rows == nil {
		t.rows = map[string]row[T]{}
	}
	t.last++
	stored := w.doc.Clone()
	if w.whole != nil {
		stored = w.whole(stored)
	}
	t.rows[w.key] = row[T]{doc: stored, revision: t.last}
	return true
}

// participant is a working document of any kind.
type participant interface {
	stale() bool // another transaction has written it since it was read
	save() bool  // writes it; false if nothing changed
}

// transact runs one transaction. open reads the documents under the lock and
// says how many they are; run calls the closure without it and returns all
// the documents that the transaction is about. Both run again, on fresh
// copies, when one of these was written meanwhile, even if this transaction
// has only read it: a decision about one document rests on the other.
func (s *Store) transact(ctx context.Context, open func() (int, error), run func() ([]participant, error)) error {
	for {
		if err := alive(ctx); err != nil {
			return err
		}
		if err := s.begin(open); err != nil {
			return err
		}
		documents, err := run()
		if err != nil {
			return err
		}
		if s.commit(documents) {
			return nil
		}
	}
}

func (s *Store) begin(open func() (int, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Transactions++
	read, err := open()
	s.counts.Reads += int64(read)
	return err
}

func (s *Store) commit(documents []participant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(documents, participant.stale) {
		return false
	}
	for _, d := range documents {
		if d.save() {
			s.counts.Writes++
		}
	}
	s.forgetSetups(time.Now())
	return true
}
