package functions

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gcpconnect/shared/connect"
)

// fields says what becomes of fields that a function does not know.
type fields bool

const (
	ignoreUnknown fields = false // frontends written for the original send some
	refuseUnknown fields = true
)

// decode reads a JSON object from the request's body, if there is one, into v.
// Fields that v does not have are ignored.
func decode(r *http.Request, v any) error { return decodeWith(r, v, ignoreUnknown) }

// decodeStrict is decode for requests that only frontends of this connector
// make: a field that v does not have is a mistake, and is named.
func decodeStrict(r *http.Request, v any) error { return decodeWith(r, v, refuseUnknown) }

func decodeWith(r *http.Request, v any, unknown fields) error {
	content, err := body(r)
	if err != nil {
		return err
	}
	_, err = parse(content, v, unknown)
	return err
}

// body reads a request's body, which can be read again after that.
func body(r *http.Request) ([]byte, error) {
	content, err := io.ReadAll(r.Body)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(large)
	}
	if err != nil {
		return nil, connect.Errorf(connect.Invalid, "The body could not be read.").Because(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	return content, nil
}

// parse is decode for a body in hand. It reports whether there was an object.
// Nothing may follow the object, and no field may be there twice: of two
// readers each could take another one for true.
func parse(content []byte, v any, unknown fields) (given bool, err error) {
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return false, nil
	}
	d := json.NewDecoder(bytes.NewReader(content))
	if unknown == refuseUnknown {
		d.DisallowUnknownFields()
	}
	err = d.Decode(v)
	if err == nil && content[0] == '{' {
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return false, connect.Errorf(connect.Invalid, "The body holds more than one JSON object.")
		}
		return true, checkNames(content)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return false, connect.Errorf(connect.Invalid, "%s must be %s.", wrong.Field, describe(wrong.Type.Kind().String())).Because(err)
	}
	if err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok { // which has no type of its own
			return false, connect.Errorf(connect.Invalid, "The body has the field %s, which is not known here.", field)
		}
	}
	return false, connect.Errorf(connect.Invalid, "The body must be a JSON object.").Because(err)
}

// checkNames refuses valid JSON that is not UTF-8, or in which an object names
// a field twice, be it in other letters: encoding/json takes those for the
// same.
func checkNames(content []byte) error {
	if !utf8.Valid(content) {
		return connect.Errorf(connect.Invalid, "The body must be UTF-8.")
	}
	d := json.NewDecoder(bytes.NewReader(content))
	var walk func() error
	walk = func() error {
		token, err := d.Token()
		if err != nil {
			return err
		}
		if token != json.Delim('{') && token != json.Delim('[') {
			return nil
		}
		seen := map[string]bool{}
		for d.More() {
			if token == json.Delim('{') {
				key, err := d.Token()
				if err != nil {
					return err
				}
				name, _ := key.(string)
				if seen[fold(name)] {
					return connect.Errorf(connect.Invalid, "The body has the field %q twice.", name)
				}
				seen[fold(name)] = true
			}
			if err := walk(); err != nil {
				return err
			}
		}
		_, err = d.Token() // the end
		return err
	}
	return walk()
}

// fold is the same for names that encoding/json takes for the same field.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

// describe says what a Go kind is called in JSON.
func describe(kind string) string {
	switch kind {
	case "slice":
		return "a list"
	case "bool":
		return "true or false"
	case "struct", "map":
		return "an object"
	}
	return "a " + kind
}

// distinct returns the values without repetitions, in their order.
func distinct(values []string) []string {
	seen := make(map[string]bool, len(values))
	var result []string
	for _, v := range values {
		if !seen[v] {
			seen[v] = true
			result = append(result, v)
		}
	}
	return result
}

// pageSize reads page_size; 0 is the default.
func pageSize(query url.Values) (int, error) {
	text := query.Get("page_size")
	if text == "" {
		return 0, nil
	}
	size, err := strconv.Atoi(text)
	if err != nil || size < 1 || size > connect.MaxPageSize {
		return 0, connect.Errorf(connect.Invalid, "page_size must be a number from 1 to %d.", connect.MaxPageSize)
	}
	return size, nil
}

// checkUTF8 refuses what no database can look for.
func checkUTF8(query url.Values, names ...string) error {
	for _, name := range names {
		if !utf8.ValidString(query.Get(name)) {
			return connect.Errorf(connect.Invalid, "%s must be UTF-8.", name)
		}
	}
	return nil
}
