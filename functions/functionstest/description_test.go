package functionstest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/go-yaml"
	"github.com/pb33f/jsonschema/v6"

	"gcpconnect/functions"
	"gcpconnect/functions/functionstest"
)

// object is a part of the description as it is written.
type object = map[string]any

// description is the description as it is written.
func description(t *testing.T) object {
	t.Helper()
	var written, read object
	if err := yaml.Unmarshal([]byte(functions.OpenAPI), &written); err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(written)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &read); err != nil { // the numbers as JSON has them
		t.Fatal(err)
	}
	return read
}

// walk shows every object of the description, with the JSON pointer to it.
func walk(at string, part any, show func(at string, part object)) {
	switch part := part.(type) {
	case object:
		show(at, part)
		for _, key := range slices.Sorted(maps.Keys(part)) {
			walk(at+"/"+strings.NewReplacer("~", "~0", "/", "~1", "%", "%25", " ", "%20", "{", "%7B", "}", "%7D").Replace(key), part[key], show)
		}
	case []any:
		for i, item := range part {
			walk(fmt.Sprint(at, "/", i), item, show)
		}
	}
}

func TestTheDescriptionIsOpenAPI(t *testing.T) {
	t.Parallel()
	c, err := functionstest.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Valid(); err != nil {
		t.Error(err)
	}
}

// What is described is what there is, but for the queue's own.
func TestTheDescriptionListsEveryRoute(t *testing.T) {
	t.Parallel()
	var there, described []string
	for _, f := range functions.Table() {
		for _, r := range f.Routes {
			if f.Caller != functions.CallerQueue {
				there = append(there, r.Method+" "+r.Path)
			}
		}
	}
	paths, _ := description(t)["paths"].(object)
	for path, item := range paths {
		operations, _ := item.(object)
		for method := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(there)
	slices.Sort(described)
	if diff := cmp.Diff(there, described); diff != "" {
		t.Errorf("-there +described:\n%s", diff)
	}
}

func TestTheDescriptionsExamplesAreWhatTheyAreExamplesOf(t *testing.T) {
	t.Parallel()
	d := description(t)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", d); err != nil {
		t.Fatal(err)
	}
	checked := 0
	check := func(at string, examples ...any) {
		schema, err := compiler.Compile("openapi.json#" + at)
		if err != nil {
			t.Error(err)
			return
		}
		for _, example := range examples {
			checked++
			if err := schema.Validate(example); err != nil {
				t.Errorf("%s\n%v", at, err)
			}
		}
	}
	walk("", d, func(at string, part object) {
		switch examples := part["examples"].(type) {
		case []any: // of a schema
			check(at, examples...)
		case object: // of a body
			for _, example := range examples {
				value, _ := example.(object)
				check(at+"/schema", value["value"])
			}
		}
		if example, ok := part["example"]; ok {
			check(at+"/schema", example)
		}
	})
	if checked < 40 {
		t.Errorf("there are %d examples", checked)
	}
}

func TestTheDescriptionHasTheWordsOfEveryEndingOfALogin(t *testing.T) {
	t.Parallel()
	d := description(t)
	components, _ := d["components"].(object)
	schemas, _ := components["schemas"].(object)
	ending, _ := schemas["LoginEnding"].(object)
	values, _ := ending["oneOf"].([]any)
	var described []functions.LoginEnding
	for _, v := range values {
		one, _ := v.(object)
		described = append(described, functions.LoginEnding{Value: fmt.Sprint(one["const"]), Text: fmt.Sprint(one["description"])})
	}
	if diff := cmp.Diff(functions.LoginEndings(), described); diff != "" {
		t.Errorf("-there +described:\n%s", diff)
	}
}
