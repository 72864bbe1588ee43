package memory

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"gcpconnect/shared/connect"
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

// The size of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(asked int) (int, error) {
	if asked == 0 {
		return defaultPage, nil
	}
	if asked < 1 || asked > maxPage {
		return 0, connect.Errorf(connect.Invalid, "page_size must be between 1 and %d.", maxPage)
	}
	return asked, nil
}

// cursor is a page token: the position of the last thing of a page. It is a
// position and not an offset, so that what is added or deleted between two
// pages neither repeats nor hides anything else.
type cursor struct {
	Of        string    // which method gave it
	PlannedAt time.Time `json:",omitzero"`
	Project   string    `json:",omitempty"`
	Type      string    `json:",omitempty"`
	Name      string    `json:",omitempty"`
	ID        string
}

func (c cursor) token() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", connect.Errorf(connect.Internal, "The next page cannot be named.").Because(err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// parseCursor returns nil for the empty token, the one of the first page.
func parseCursor(of, token string) (*cursor, error) {
	if token == "" {
		return nil, nil
	}
	broken := connect.Errorf(connect.Invalid, "page_token is not one that this list gave.")
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, broken.Because(err)
	}
	var c cursor
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return nil, broken.Because(err)
	}
	if c.Of != of {
		return nil, broken
	}
	return &c, nil
}
