package google

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// render is an answer as its request wants it: no more than the wanted fields, and
// indented unless it is to be compact
// (https://cloud.google.com/apis/docs/system-parameters).
func render(body any, wanted fieldMask, compact bool) ([]byte, *apiError) {
	whole, err := json.Marshal(body)
	if err != nil {
		return nil, internalError()
	}
	if wanted != nil {
		var parts any
		d := json.NewDecoder(bytes.NewReader(whole))
		d.UseNumber()
		if err := d.Decode(&parts); err != nil {
			return nil, internalError()
		}
		if whole, err = json.Marshal(wanted.of(parts)); err != nil {
			return nil, internalError()
		}
	}
	if compact {
		return whole, nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, whole, "", "  "); err != nil {
		return nil, internalError()
	}
	return indented.Bytes(), nil
}

func internalError() *apiError {
	return errorf(http.StatusInternalServerError, "INTERNAL", "Internal error encountered.")
}

// A fieldMask says which fields of an object are wanted, and which of their own; nil
// is all of them.
type fieldMask map[string]fieldMask

// of returns the wanted part of an answer. Names that it does not have are let
// pass: they may be of fields that are not set.
func (m fieldMask) of(v any) any {
	if m == nil {
		return v
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = m.of(v[i])
		}
	case map[string]any:
		for name := range v {
			below, wanted := m[name]
			if !wanted {
				delete(v, name)
				continue
			}
			v[name] = below.of(v[name])
		}
	}
	return v
}

// and is what either of two masks wants.
func (m fieldMask) and(other fieldMask) fieldMask {
	if m == nil || other == nil {
		return nil
	}
	for name, below := range other {
		if before, twice := m[name]; twice {
			below = before.and(below)
		}
		m[name] = below
	}
	return m
}

// maskOf reads the mask of a request, such as a,b/c,d(e,f/g); nil if it has none.
// There are no wildcards.
func maskOf(query url.Values) (fieldMask, *apiError) {
	fields := query.Get("fields")
	if fields == "" {
		return nil, nil
	}
	p := fieldsParser{fields}
	m, ok := p.list()
	if !ok || p.rest != "" {
		return nil, invalid("Invalid field selection %s", fields)
	}
	return m, nil
}

type fieldsParser struct{ rest string }

func (p *fieldsParser) next(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	p.rest = rest
	return ok
}

func (p *fieldsParser) list() (fieldMask, bool) {
	m := fieldMask{}
	for {
		name, below, ok := p.path()
		if !ok {
			return nil, false
		}
		m = m.and(fieldMask{name: below})
		if !p.next(",") {
			return m, true
		}
	}
}

func (p *fieldsParser) path() (name string, below fieldMask, ok bool) {
	name = p.rest
	if end := strings.IndexAny(p.rest, ",/()"); end >= 0 {
		name = p.rest[:end]
	}
	p.rest = p.rest[len(name):]
	ok = name != "" && name != "*"
	switch {
	case !ok:
	case p.next("/"):
		var field string
		var further fieldMask
		field, further, ok = p.path()
		below = fieldMask{field: further}
	case p.next("("):
		below, ok = p.list()
		ok = ok && p.next(")")
	}
	return name, below, ok
}
