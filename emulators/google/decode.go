package google

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// decode reads a request body as Google's front ends read proto3 JSON: a name
// is that of the schema in either spelling (serviceIds, service_ids) and no
// other, and all that is wrong is said at once, each with its path.
func decode(body []byte, into any) *apiError {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil {
		return invalid("Invalid JSON payload received. %s", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return invalid("Invalid JSON payload received. Unexpected token.")
	}
	if _, ok := raw.(map[string]any); !ok {
		return invalid(`Invalid JSON payload received. Unknown name "": Root element must be a message.`)
	}
	var p payload
	p.walk("", raw, reflect.TypeOf(into).Elem())
	if err := p.refusal(); err != nil {
		return err
	}
	known, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(known, into)
	}
	if err != nil {
		return invalid("Invalid JSON payload received. %s", err)
	}
	return nil
}

// A payload collects what is wrong with a body.
type payload struct{ faults [][2]string } // path and text

func (p *payload) add(path, format string, args ...any) {
	p.faults = append(p.faults, [2]string{path, fmt.Sprintf(format, args...)})
}

func (p *payload) refusal() *apiError {
	if len(p.faults) == 0 {
		return nil
	}
	var texts []string
	var violations []any
	for _, f := range p.faults {
		texts = append(texts, f[1])
		violations = append(violations, map[string]string{"field": f[0], "description": f[1]})
	}
	e := invalid("%s", strings.Join(texts, "\n"))
	return e.with(map[string]any{"@type": typeURL + "BadRequest", "fieldViolations": violations})
}

// An enum is a string of which only some values exist.
type enum interface {
	values() (name string, values []string)
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// walk compares raw JSON with the Go type it is for, and spells its names as
// encoding/json wants them. What has an UnmarshalJSON judges for itself.
func (p *payload) walk(path string, raw any, t reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if raw == nil || reflect.PointerTo(t).Implements(unmarshaler) {
		return
	}
	switch value := raw.(type) {
	case map[string]any:
		switch t.Kind() {
		case reflect.Struct:
			p.object(path, value, jsonFields(t))
		case reflect.Map:
			for _, name := range sortedKeys(value) {
				p.walk(join(path, name), value[name], t.Elem())
			}
		case reflect.Interface:
		default:
			p.add(path, "Invalid JSON payload received. Unknown name %q%s: Proto field is not a message.", last(path), within(path))
		}
		return
	case []any:
		switch t.Kind() {
		case reflect.Slice:
			for i, item := range value {
				p.walk(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
			}
		case reflect.Interface:
		default:
			p.add(path, "Invalid JSON payload received. Unknown name %q%s: Proto field is not repeating, cannot start list.", last(path), within(path))
		}
		return
	case string:
		if e, ok := reflect.Zero(t).Interface().(enum); ok {
			if name, values := e.values(); !slices.Contains(values, value) {
				p.add(path, "Invalid value at '%s' (type.googleapis.com/%s), %q", path, name, value)
			}
			return
		}
		if t.Kind() == reflect.String || t.Kind() == reflect.Interface {
			return
		}
	case bool:
		if t.Kind() == reflect.Bool || t.Kind() == reflect.Interface {
			return
		}
	case json.Number:
		if _, err := value.Int64(); t.Kind() == reflect.Int && err == nil || t.Kind() == reflect.Float64 || t.Kind() == reflect.Interface {
			return
		}
	}
	var kind string
	switch t.Kind() {
	case reflect.String:
		kind = "TYPE_STRING"
	case reflect.Bool:
		kind = "TYPE_BOOL"
	case reflect.Int:
		kind = "TYPE_INT32"
	default:
		kind = "type.googleapis.com/google.protobuf.Value"
	}
	encoded, _ := json.Marshal(raw) // it was decoded from JSON
	p.add(path, "Invalid value at '%s' (%s), %s", path, kind, encoded)
}

func (p *payload) object(path string, object map[string]any, fields map[string]reflect.Type) {
	spellings := map[string]string{}
	for name := range fields {
		spellings[name], spellings[snake(name)] = name, name
	}
	for _, name := range sortedKeys(object) {
		field, known := spellings[name]
		if !known {
			p.add(path, "Invalid JSON payload received. Unknown name %q%s: Cannot find field.", name, within(join(path, name)))
			continue
		}
		p.walk(join(path, snake(name)), object[name], fields[field])
		if name != field {
			object[field] = object[name]
			delete(object, name)
		}
	}
}

// join makes a path of the names as the .proto files spell them.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// within says where the last name of a path is, unless at the root.
func within(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return " at '" + path[:i] + "'"
	}
	return ""
}

func snake(name string) string {
	var out strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
