package google

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A document is a discovery document, as far as answers are checked by it.
type document struct {
	Schemas   map[string]*schema
	Resources map[string]*resources
	Methods   map[string]*discoveryMethod
}

type resources struct {
	Resources map[string]*resources
	Methods   map[string]*discoveryMethod
}

type discoveryMethod struct {
	FlatPath, HTTPMethod string
	Response             struct {
		Ref string `json:"$ref"`
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Format               string
	Enum                 []string
	Items                *schema
	Properties           map[string]*schema
	AdditionalProperties *schema
}

// documents reads the discovery documents that ship with the official client.
var documents = sync.OnceValues(func() (map[string]*document, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		return nil, fmt.Errorf("find google.golang.org/api: %w", err)
	}
	out := map[string]*document{}
	for _, name := range strings.Fields("cloudresourcemanager/v1 cloudresourcemanager/v3 cloudbilling/v1 serviceusage/v1 iam/v1 iamcredentials/v1 orgpolicy/v2 cloudasset/v1") {
		service, _, _ := strings.Cut(name, "/")
		data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), name, service+"-api.json"))
		if err != nil {
			return nil, err
		}
		d := new(document)
		if err := json.Unmarshal(data, d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = d
	}
	return out, nil
})

// find returns the method of a path under a version, such as
// v1/projects/p:getIamPolicy.
func (d *document) find(verb, path string) *discoveryMethod {
	var search func(map[string]*resources, map[string]*discoveryMethod) *discoveryMethod
	search = func(inner map[string]*resources, methods map[string]*discoveryMethod) *discoveryMethod {
		for _, m := range methods {
			if m.HTTPMethod != verb {
				continue
			}
			if _, ok := match(strings.Split(m.FlatPath, "/"), strings.Split(path, "/")); ok {
				return m
			}
		}
		for _, r := range inner {
			if m := search(r.Resources, r.Methods); m != nil {
				return m
			}
		}
		return nil
	}
	return search(d.Resources, d.Methods)
}

// check reports what of a value the schema does not know.
func (d *document) check(path string, s *schema, value any) []string {
	if s == nil || value == nil || s.Type == "any" {
		return nil
	}
	if s.Ref != "" {
		return d.check(path, d.Schemas[s.Ref], value)
	}
	var faults []string
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			switch {
			case s.Properties[name] != nil:
				faults = append(faults, d.check(path+"."+name, s.Properties[name], inner)...)
			case s.AdditionalProperties != nil:
				faults = append(faults, d.check(path+"."+name, s.AdditionalProperties, inner)...)
			default:
				faults = append(faults, path+"."+name+" is not of the schema")
			}
		}
	case []any:
		if s.Type != "array" {
			return []string{path + " must not be a list"}
		}
		for i, inner := range v {
			faults = append(faults, d.check(fmt.Sprintf("%s[%d]", path, i), s.Items, inner)...)
		}
	case string:
		if s.Type != "string" {
			faults = append(faults, path+" must be "+s.Type)
		}
		if len(s.Enum) > 0 && !contains(s.Enum, v) {
			faults = append(faults, path+": "+v+" is not of the enumeration")
		}
	case bool:
		if s.Type != "boolean" {
			faults = append(faults, path+" must be "+s.Type)
		}
	case float64:
		if s.Type != "integer" && s.Type != "number" {
			faults = append(faults, path+" must be "+s.Type)
		}
	}
	return faults
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

// teeWriter keeps what is answered.
type teeWriter struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (w *teeWriter) WriteHeader(code int) { w.status = code; w.ResponseWriter.WriteHeader(code) }
func (w *teeWriter) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return w.ResponseWriter.Write(p)
}

// checkAnswers fails the test when a successful answer has a field that the
// discovery document does not have.
func checkAnswers(t *testing.T, next http.Handler) http.Handler {
	docs, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		version, _, _ := strings.Cut(path, "/")
		d := docs[service+"/"+version]
		if d == nil {
			next.ServeHTTP(w, r)
			return
		}
		tee := &teeWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(tee, r)
		if tee.status != http.StatusOK || len(tee.body) == 0 {
			return
		}
		m := d.find(r.Method, path)
		if m == nil {
			t.Errorf("%s %s is not in the discovery document", r.Method, r.URL.Path)
			return
		}
		var value any
		if err := json.Unmarshal(tee.body, &value); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			return
		}
		for _, fault := range d.check("", &schema{Ref: m.Response.Ref}, value) {
			t.Errorf("%s %s answers: %s", r.Method, r.URL.Path, fault)
		}
	})
}
