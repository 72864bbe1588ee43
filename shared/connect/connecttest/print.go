package connecttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// Printed is a value in every way that a value is printed, marshalled and
// logged, for a search for what it must not show.
func Printed(v any) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v|%+v|%#v|%s|%q|%x|%d|", v, v, v, v, v, v, v)
	if encoded, err := json.Marshal(v); err == nil { // what cannot be marshalled is not seen
		out.Write(encoded)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).With("with", v).Error("failed", "value", v, slog.Group("group", slog.Any("value", v)))
	}
	return out.String()
}

// WantNotPrinted fails if one of the values shows a secret, however it is printed,
// marshalled or logged: by itself, behind a pointer, or within another value.
func WantNotPrinted(t testing.TB, secret string, values map[string]any) {
	t.Helper()
	for name, v := range values {
		pointer := reflect.New(reflect.TypeOf(v))
		pointer.Elem().Set(reflect.ValueOf(v))
		for form, v := range map[string]any{
			"itself": v, "a pointer": pointer.Interface(), "a list": []any{v}, "a map": map[string]any{"k": v},
			"a field": struct{ Field any }{v}, "an error": fmt.Errorf("failed: %v", v),
		} {
			if shown := Leaked(Printed(v), secret); shown != "" {
				t.Errorf("%s as %s shows its secret: %s", name, form, shown)
			}
		}
	}
}

// PrintedError is Printed for an error and everything within.
func PrintedError(err error) string {
	var text string
	for ; err != nil; err = errors.Unwrap(err) {
		text += Printed(err)
	}
	return text
}

// Leaked returns where in a text a secret is, as itself, in hexadecimal or as
// a list of bytes; "" if it is not there.
func Leaked(text, secret string) string {
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]")
	for _, shown := range []string{secret, fmt.Sprintf("%x", secret), numbers} {
		if i := strings.Index(text, shown); i >= 0 {
			return text[max(0, i-200):min(len(text), i+len(shown)+50)]
		}
	}
	return ""
}
