package connect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
)

// The size of a page of a list.
const (
	DefaultPageSize = 100
	MaxPageSize     = 1000
)

// PageSize returns the size to use for the one that was asked for: 0 asks for
// the default. One that is out of range is Invalid.
func PageSize(asked int) (int, error) {
	if asked == 0 {
		return DefaultPageSize, nil
	}
	if asked < 1 || asked > MaxPageSize {
		return 0, Errorf(Invalid, "page_size must be between 1 and %d.", MaxPageSize)
	}
	return asked, nil
}

// Cursor is what a page token holds: the position of the last thing of a
// page. It is a position and not an offset, so that what is added or deleted
// between two pages neither repeats nor hides anything else.
type Cursor struct {
	Of        string    // which list gave it
	PlannedAt time.Time `json:",omitzero"`
	ProjectID string    `json:",omitempty"`
	Type      string    `json:",omitempty"`
	Name      string    `json:",omitempty"`
	ID        string
}

// Token returns the page token that stands for c.
func (c Cursor) Token() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", Errorf(Internal, "The next page cannot be named.").Because(err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// ParseCursor returns the position that a token of the list stands for, nil
// for the empty token, which is the first page's. Any other text than a token
// of that list is Invalid.
func ParseCursor(of, token string) (*Cursor, error) {
	if token == "" {
		return nil, nil
	}
	broken := Errorf(Invalid, "page_token is not one that this list gave.")
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, broken.Because(err)
	}
	var c Cursor
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return nil, broken.Because(err)
	}
	if year := c.PlannedAt.UTC().Year(); c.Of != of || year < 1 || year > 9999 { // a year that databases have
		return nil, broken
	}
	return &c, nil
}
