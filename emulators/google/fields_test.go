package google

import (
	"net/url"
	"testing"
)

// What is answered is what is asked for: the syntax of
// https://cloud.google.com/apis/docs/system-parameters.
func TestFieldsSelectPartsOfAnAnswer(t *testing.T) {
	t.Parallel()
	answer := map[string]any{
		"name": "n", "n": 12345678901234567,
		"services": []any{map[string]any{"name": "a", "config": map[string]any{"title": "A", "quota": 1}}, map[string]any{"name": "b"}},
	}
	for fields, want := range map[string]string{
		"name":                          `{"name":"n"}`,
		"n,unset":                       `{"n":12345678901234567}`,
		"services(name)":                `{"services":[{"name":"a"},{"name":"b"}]}`,
		"services/config/title":         `{"services":[{"config":{"title":"A"}},{}]}`,
		"services/config(title),name":   `{"name":"n","services":[{"config":{"title":"A"}},{}]}`,
		"services/name,services/config": `{"services":[{"config":{"quota":1,"title":"A"},"name":"a"},{"name":"b"}]}`,
		"services/config/quota,services/config/title": `{"services":[{"config":{"quota":1,"title":"A"}},{}]}`,
		"services,services/name":                      `{"services":[{"config":{"quota":1,"title":"A"},"name":"a"},{"name":"b"}]}`,
		"services/name,services":                      `{"services":[{"config":{"quota":1,"title":"A"},"name":"a"},{"name":"b"}]}`,
		"services(name,config/quota)":                 `{"services":[{"config":{"quota":1},"name":"a"},{"name":"b"}]}`,
	} {
		got, err := render(answer, url.Values{"fields": {fields}, "prettyPrint": {"false"}})
		if err != nil || string(got) != want {
			t.Errorf("fields=%s gives %s, %v; want %s", fields, got, err, want)
		}
	}
	for _, fields := range []string{",", "a,", "a(b", "a)", "a()", "a/", "/a", "a(b)c", "(a)", "*", "services/*"} {
		if got, err := render(answer, url.Values{"fields": {fields}}); err == nil || err.code != 400 {
			t.Errorf("fields=%s gives %s, %v", fields, got, err)
		}
	}
	if got, err := render(map[string]int{"a": 1}, nil); err != nil || string(got) != "{\n  \"a\": 1\n}" {
		t.Errorf("without parameters it is %s, %v", got, err)
	}
}
