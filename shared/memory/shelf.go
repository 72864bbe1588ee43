package memory

import (
	"maps"
	"slices"
)

// shelf keeps things by ID and reads them in an order. It is sorted when it
// is read, not when it is written, so that saving thousands costs as much
// each as saving one. The zero shelf but for compare is empty.
type shelf[T any] struct {
	compare func(a, b *T) int // 0 for the same thing only
	byID    map[string]*T
	sorted  []*T // nil: to be made
}

// put adds a thing or replaces the one of that ID.
func (s *shelf[T]) put(id string, thing T) {
	if old, found := s.byID[id]; found {
		if s.compare(old, &thing) != 0 {
			s.sorted = nil
		}
		*old = thing
		return
	}
	if s.byID == nil {
		s.byID = map[string]*T{}
	}
	s.byID[id] = &thing
	s.sorted = nil
}

// remove removes the thing of that ID.
func (s *shelf[T]) remove(id string) {
	delete(s.byID, id)
	s.sorted = nil
}

// after returns the things that come after position, which need not be there;
// all of them if it is nil. They belong to the shelf.
func (s *shelf[T]) after(position *T) []*T {
	if s.sorted == nil {
		s.sorted = slices.SortedFunc(maps.Values(s.byID), s.compare)
	}
	if position == nil {
		return s.sorted
	}
	at, found := slices.BinarySearchFunc(s.sorted, position, s.compare)
	if found {
		at++
	}
	return s.sorted[at:]
}
