package google

import (
	"net/url"
	"slices"
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
		wanted, err := maskOf(url.Values{"fields": {fields}})
		if err != nil {
			t.Errorf("fields=%s is refused: %v", fields, err)
		}
		got, err := render(answer, wanted, true)
		if err != nil || string(got) != want {
			t.Errorf("fields=%s gives %s, %v; want %s", fields, got, err, want)
		}
	}
	for _, fields := range []string{",", "a,", "a(b", "a)", "a()", "a/", "/a", "a(b)c", "(a)", "*", "services/*"} {
		if got, err := maskOf(url.Values{"fields": {fields}}); err == nil || err.code != 400 {
			t.Errorf("fields=%s gives %s, %v", fields, got, err)
		}
	}
	if got, err := render(map[string]int{"a": 1}, nil, false); err != nil || string(got) != "{\n  \"a\": 1\n}" {
		t.Errorf("without parameters it is %s, %v", got, err)
	}
}

// A request gets the parts that it asks for, and one with a bad mask changes
// nothing.
func TestARequestIsAnsweredWithTheFieldsThatItWants(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token, err := r.MintToken(demo)
	if err != nil {
		t.Fatal(err)
	}
	const names = "/serviceusage/v1/projects/" + shop + "/services:batchGet?names=projects/" + shop + "/services/compute.googleapis.com"
	if status, got := r.raw(t, "GET", names+"&fields=services(state)&prettyPrint=false", token, ""); status != 200 || got != `{"services":[{"state":"ENABLED"}]}`+"\n" {
		t.Errorf("it is answered %d %q", status, got)
	}
	before, _ := r.Project(shop)
	if status, got := r.raw(t, "POST", "/serviceusage/v1/projects/"+shop+"/services/dns.googleapis.com:enable?fields=a(", token, "{}"); status != 400 {
		t.Errorf("a bad mask is answered %d %s", status, got)
	}
	if after, _ := r.Project(shop); !slices.Equal(after.EnabledAPIs, before.EnabledAPIs) {
		t.Errorf("a request that is refused enables %v", after.EnabledAPIs)
	}
}
