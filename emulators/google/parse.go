package google

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

//go:embed default.json
var defaultScenario []byte

// DefaultScenario returns the scenario that is built in: the product's
// demonstration.
func DefaultScenario() *Scenario {
	s, err := ParseScenario(defaultScenario)
	if err != nil {
		panic("default scenario: " + err.Error()) // a test parses it
	}
	return s
}

// ParseScenario reads a scenario. Its errors, all at once, name each fault by
// its path, such as projects[2].number. A field that is not of the format is a
// fault too, for a misspelt one would silently test nothing.
func ParseScenario(data []byte) (*Scenario, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	if d.More() {
		return nil, errors.New("scenario: text after its end")
	}
	var f findings
	f.shape("", raw, reflect.TypeFor[Scenario]())
	if err := f.err(); err != nil {
		return nil, err
	}
	s := new(Scenario)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// findings collects faults under their paths.
type findings struct{ errs []error }

func (f *findings) add(path, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("scenario: %s: %s", path, fmt.Sprintf(format, args...)))
}

func (f *findings) err() error { return errors.Join(f.errs...) }

// shape compares raw JSON with the Go type it is for, so that unknown fields
// and wrong kinds are reported under their full paths.
func (f *findings) shape(path string, raw any, t reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if raw == nil {
		return
	}
	kind := func(ok bool, want string) bool {
		if !ok {
			f.add(strings.TrimPrefix(path, "."), "must be %s", want)
		}
		return ok
	}
	switch {
	case t == reflect.TypeFor[Duration]():
		text, ok := raw.(string)
		if kind(ok, "a duration such as \"80ms\"") {
			if _, err := parseDuration(text); err != nil {
				f.add(strings.TrimPrefix(path, "."), "%s", err)
			}
		}
	case t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
	case t.Kind() == reflect.Struct:
		object, ok := raw.(map[string]any)
		if !kind(ok, "an object") {
			return
		}
		fields := jsonFields(t)
		for _, name := range sortedKeys(object) {
			field, known := fields[name]
			if !known {
				f.add(strings.TrimPrefix(path+"."+name, "."), "unknown field")
				continue
			}
			f.shape(path+"."+name, object[name], field)
		}
	case t.Kind() == reflect.Slice:
		list, ok := raw.([]any)
		if !kind(ok, "a list") {
			return
		}
		for i, item := range list {
			f.shape(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
		}
	case t.Kind() == reflect.Map:
		object, ok := raw.(map[string]any)
		if !kind(ok, "an object") {
			return
		}
		for _, name := range sortedKeys(object) {
			f.shape(path+"."+name, object[name], t.Elem())
		}
	case t.Kind() == reflect.String:
		_, ok := raw.(string)
		kind(ok, "a string")
	case t.Kind() == reflect.Bool:
		_, ok := raw.(bool)
		kind(ok, "true or false")
	case t.Kind() == reflect.Int:
		n, ok := raw.(json.Number)
		if ok {
			_, err := strconv.Atoi(n.String())
			ok = err == nil
		}
		kind(ok, "a whole number")
	case t.Kind() == reflect.Float64:
		_, ok := raw.(json.Number)
		kind(ok, "a number")
	}
}

func jsonFields(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous {
			for name, inner := range jsonFields(field.Type) {
				fields[name] = inner
			}
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = field.Type
	}
	return fields
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// project makes the nth project of the generator, n from 0.
func (g Generator) project(n int) Project {
	first, width := g.First, g.Width
	if first == 0 {
		first = 1
	}
	if width == 0 {
		width = 3
	}
	text := fmt.Sprintf("%0*d", width, first+n)
	fill := func(s string) string { return strings.ReplaceAll(s, "{n}", text) }
	p := g.Project
	p.ID, p.Number, p.Name = fill(p.ID), fill(p.Number), fill(p.Name)
	p.Resources = slices.Clone(p.Resources)
	for i := range p.Resources {
		p.Resources[i].Name = fill(p.Resources[i].Name)
	}
	return p
}

func (s *Scenario) role(name string) (role, bool) {
	if r, ok := predefined[name]; ok {
		return r, true
	}
	allow, ok := s.Roles[name]
	return role{allow: allow, where: onProject | onAccount}, ok
}

func (s *Scenario) serviceExists(name string) bool {
	return catalog[name] || slices.Contains(s.Services, name)
}

// clone returns a copy that shares nothing with s.
func (s *Scenario) clone() *Scenario {
	data, err := json.Marshal(s)
	if err != nil {
		panic("scenario cannot be encoded: " + err.Error()) // all its types can
	}
	c := new(Scenario)
	if err := json.Unmarshal(data, c); err != nil {
		panic("scenario cannot be decoded: " + err.Error())
	}
	return c
}
