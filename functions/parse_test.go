package functions

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gcpconnect/shared/connect"
)

func TestParseSelectionNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want []string
		err  string
	}{
		"no body retries":         {"", nil, ""},
		"projects":                {`{"selected_project_ids":["a","b"]}`, []string{"a", "b"}, ""},
		"a project named twice":   {`{"selected_project_ids":["a","a"]}`, []string{"a"}, ""},
		"other fields":            {`{"selected_project_ids":["a"],"x":1}`, []string{"a"}, ""},
		"an empty list":           {`{"selected_project_ids":[]}`, nil, "at least 1"},
		"no list":                 {`{}`, nil, "selected_project_ids is missing"},
		"an empty ID":             {`{"selected_project_ids":["a",""]}`, nil, "selected_project_ids[1]"},
		"a number":                {`{"selected_project_ids":[7]}`, nil, "selected_project_ids[0]"},
		"text in place of a list": {`{"selected_project_ids":"a"}`, nil, "selected_project_ids must be a list"},
		"not an object":           {`[]`, nil, "JSON object"},
		"not JSON":                {`{`, nil, "JSON object"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseSelection([]byte(tt.body), ignoreUnknown)
			if tt.err != "" {
				if connect.CodeOf(err) != connect.Invalid || !strings.Contains(connect.MessageOf(err), tt.err) {
					t.Errorf("error = %v, want an invalid argument with %q", err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("parseSelection = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestParseTakesOneObjectThatSaysEachThingOnce(t *testing.T) {
	t.Parallel()
	type request struct {
		Name  string `json:"name"`
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	for name, tt := range map[string]struct {
		body    string
		unknown fields
		err     string
	}{
		"an object":                          {`{"name":"a","items":[{"id":"1"},{"id":"2"}]}`, refuseUnknown, ""},
		"nothing":                            {" \n", refuseUnknown, ""},
		"a field that is not known, ignored": {`{"x":{"y":1}}`, ignoreUnknown, ""},
		"a field that is not known, refused": {`{"x":1}`, refuseUnknown, `the field "x"`},
		"one within a list, refused":         {`{"items":[{"x":1}]}`, refuseUnknown, `the field "x"`},
		"a field twice":                      {`{"name":"a","name":"b"}`, ignoreUnknown, `"name" twice`},
		"a field twice, strictly":            {`{"name":"a","name":"b"}`, refuseUnknown, `"name" twice`},
		"a field in other letters":           {`{"name":"a","NAME":"b"}`, ignoreUnknown, `"NAME" twice`},
		"a field in letters of other signs":  {`{"ſ":1,"s":2}`, ignoreUnknown, `"s" twice`},
		"a field escaped":                    {`{"name":"a","\u006eame":"b"}`, ignoreUnknown, `"name" twice`},
		"a field twice in what is ignored":   {`{"x":{"y":1,"y":2}}`, ignoreUnknown, `"y" twice`},
		"a field twice within a list":        {`{"items":[{"id":"a"},{"id":"a","id":"b"}]}`, ignoreUnknown, `"id" twice`},
		"the same field in two objects":      {`{"items":[{"id":"a"},{"id":"a"}]}`, ignoreUnknown, ""},
		"a second object":                    {`{"name":"a"}{"name":"b"}`, ignoreUnknown, "more than one"},
		"more behind the object":             {`{"name":"a"}]`, ignoreUnknown, "more than one"},
		"no UTF-8":                           {"{\"name\":\"\xff\"}", ignoreUnknown, "UTF-8"},
		"null":                               {`null`, ignoreUnknown, "JSON object"},
		"a list":                             {`[{"name":"a"}]`, ignoreUnknown, "JSON object"},
		"a depth without end":                {`{"x":` + strings.Repeat("[", 100_000), ignoreUnknown, "JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given, err := parse([]byte(tt.body), &request{}, tt.unknown)
			if tt.err == "" {
				if err != nil || given != (strings.TrimSpace(tt.body) != "") {
					t.Errorf("parse = %t, %v", given, err)
				}
				return
			}
			if connect.CodeOf(err) != connect.Invalid || !strings.Contains(connect.MessageOf(err), tt.err) {
				t.Errorf("error = %v, want an invalid argument with %q", err, tt.err)
			}
		})
	}
}

// FuzzNames: what encoding/json takes for one field, we take for one.
func FuzzNames(f *testing.F) {
	f.Add("name", "NAME")
	f.Add("ſ", "s")
	f.Add("K", "k")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.EqualFold(a, b) != (fold(a) == fold(b)) && utf8.ValidString(a) && utf8.ValidString(b) {
			t.Errorf("fold(%q) = %q, fold(%q) = %q", a, fold(a), b, fold(b))
		}
	})
}

func FuzzParseSelection(f *testing.F) {
	f.Add([]byte(`{"selected_project_ids":["a","b"]}`))
	f.Add([]byte(`{"selected_project_ids":[null]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := parseSelection(body, ignoreUnknown)
		if err != nil && connect.CodeOf(err) != connect.Invalid {
			t.Errorf("parseSelection(%q) = %v, want an invalid argument", body, err)
		}
		if slices.Contains(ids, "") {
			t.Errorf("parseSelection(%q) = %q: an empty ID", body, ids)
		}
	})
}

func FuzzParseAccess(f *testing.F) {
	f.Add([]byte(`{"projects":[{"projectId":"a","enabled":true},{"id":"b","enabled":false}]}`))
	f.Add([]byte(`{"projects":[{"id":"b"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		changes, err := parseAccess(body)
		if err != nil && connect.CodeOf(err) != connect.Invalid {
			t.Errorf("parseAccess(%q) = %v, want an invalid argument", body, err)
		}
		for _, c := range changes {
			if c.ID == "" {
				t.Errorf("parseAccess(%q) = %v: an empty ID", body, changes)
			}
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("code=4/abc&state=xyz")
	f.Add("error=access_denied&state=xyz")
	f.Add("state=")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		a, err := parseAnswer(form)
		if err != nil {
			if connect.CodeOf(err) != connect.Invalid {
				t.Errorf("parseAnswer(%q) = %v, want an invalid argument", query, err)
			}
			return
		}
		if a.State == "" || a.Code == "" && a.Error == "" {
			t.Errorf("parseAnswer(%q) lacks state, or code and error", query)
		}
	})
}

// FuzzState runs what the callback does with a state of anybody's making: it
// is hashed for the look-up and for the cookie's name.
func FuzzState(f *testing.F) {
	f.Add("abc")
	f.Add(strings.Repeat("x", 512))
	f.Fuzz(func(t *testing.T, state string) {
		for _, secure := range []bool{false, true} {
			e := &edge{Deps: Deps{SecureCookies: secure}}
			c := e.cookie(connect.Hash(state), "v", connect.LoginLifetime)
			if err := c.Valid(); err != nil {
				t.Errorf("cookie for state %q: %v", state, err)
			}
		}
	})
}
