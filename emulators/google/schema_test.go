package google

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A document is a discovery document, as far as calls are checked by it.
type document struct {
	Schemas    map[string]*schema
	Parameters map[string]*parameter // of every method
	Resources  map[string]*resources
	Methods    map[string]*discoveryMethod
}

type resources struct {
	Resources map[string]*resources
	Methods   map[string]*discoveryMethod
}

type discoveryMethod struct {
	ID, FlatPath, HTTPMethod string
	Parameters               map[string]*parameter
	Request, Response        *schema
}

type parameter struct {
	Location, Type, Format string
	Repeated               bool
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Format               string
	Description          string
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

// published returns Google's own description of a method; nil: there is none.
func published(docs map[string]*document, m *method) (*document, *discoveryMethod) {
	version, _, _ := strings.Cut(m.path, "/")
	d := docs[m.api.prefix+"/"+version]
	if d == nil {
		return nil, nil
	}
	return d, d.find(m.verb, strings.NewReplacer("{scope}", "projects", "{", "", "}", "").Replace(m.path))
}

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

// errorDetails are the messages of google/rpc/error_details.proto that come in
// errors; the discovery documents do not have them.
var errorDetails = map[string]*schema{
	"google.rpc.ErrorInfo":           object("reason", text, "domain", text, "metadata", &schema{Type: "object", AdditionalProperties: text}),
	"google.rpc.Help":                object("links", list(object("description", text, "url", text))),
	"google.rpc.BadRequest":          object("fieldViolations", list(object("field", text, "description", text, "reason", text))),
	"google.rpc.PreconditionFailure": object("violations", list(object("type", text, "subject", text, "description", text))),
	"google.rpc.ResourceInfo":        object("resourceType", text, "resourceName", text, "owner", text, "description", text),
	"google.rpc.QuotaFailure":        object("violations", list(object("subject", text, "description", text))),
	"google.rpc.RetryInfo":           object("retryDelay", &schema{Type: "string", Format: "google-duration"}),
}

var text = &schema{Type: "string"}

// errorBody is how all of Google's APIs refuse.
var errorBody = object("error", object("code", &schema{Type: "integer", Format: "int32"}, "message", text, "status", text,
	"errors", list(object("message", text, "domain", text, "reason", text)),
	"details", list(&schema{Type: "object", AdditionalProperties: &schema{Type: "any", Description: "Contains field @type with type URL."}})))

func list(items *schema) *schema { return &schema{Type: "array", Items: items} }

func object(fields ...any) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}}
	for i := 0; i < len(fields); i += 2 {
		name, _ := fields[i].(string)
		s.Properties[name], _ = fields[i+1].(*schema)
	}
	return s
}

// httpCodes are how google/rpc/code.proto maps statuses; a failed precondition
// is seen as 412 too.
var httpCodes = map[string][]int{
	"INVALID_ARGUMENT": {400}, "FAILED_PRECONDITION": {400, 412}, "OUT_OF_RANGE": {400}, "UNAUTHENTICATED": {401},
	"PERMISSION_DENIED": {403}, "NOT_FOUND": {404}, "ALREADY_EXISTS": {409}, "ABORTED": {409}, "RESOURCE_EXHAUSTED": {429},
	"CANCELLED": {499}, "INTERNAL": {500}, "UNKNOWN": {500}, "DATA_LOSS": {500}, "UNIMPLEMENTED": {501},
	"UNAVAILABLE": {503}, "DEADLINE_EXCEEDED": {504},
}

// A reading is one JSON value being held against a document.
type reading struct {
	*document
	faults []string
	types  []string // @type of what was found within
	nulls  bool     // may stand for what is not there: readers take them, writers send none
}

func (r *reading) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// check reports what of a value is not as the schema says.
func (r *reading) check(path string, s *schema, value any) {
	switch {
	case s == nil:
		r.fault("%s has no schema", path)
		return
	case s.Ref != "":
		r.check(path, r.Schemas[s.Ref], value)
		return
	case s.Type == "any":
		return
	}
	switch v := value.(type) {
	case nil:
		if !r.nulls {
			r.fault("%s is null, which proto3 JSON leaves out", path)
		}
	case map[string]any:
		if s.Type != "object" {
			r.fault("%s is an object, not %s", path, s.Type)
			return
		}
		r.object(path, s, v)
	case []any:
		if s.Type != "array" {
			r.fault("%s is a list, not %s", path, s.Type)
			return
		}
		for i, inner := range v {
			r.check(fmt.Sprintf("%s[%d]", path, i), s.Items, inner)
		}
	case string:
		if s.Type != "string" {
			r.fault("%s is a string, not %s", path, s.Type)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			r.fault("%s: %s is not of the enumeration", path, v)
		}
		if !formed(s.Format, v) {
			r.fault("%s: %q is not of format %s", path, v, s.Format)
		}
	case bool:
		if s.Type != "boolean" {
			r.fault("%s is a boolean, not %s", path, s.Type)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != math.Trunc(v)) {
			r.fault("%s is the number %v, not %s", path, v, s.Type)
		}
	}
}

// object checks fields; those of an Any by its @type.
func (r *reading) object(path string, s *schema, value map[string]any) {
	name, typed := value["@type"].(string)
	if s.AdditionalProperties != nil && strings.Contains(s.AdditionalProperties.Description, "@type") {
		name, known := strings.CutPrefix(name, "type.googleapis.com/")
		if !typed || !known {
			r.fault("%s has the @type %q", path, name)
			return
		}
		inner := errorDetails[name]
		if inner == nil {
			inner = r.Schemas[name[strings.LastIndexByte(name, '.')+1:]]
		}
		r.types = append(r.types, name)
		for _, field := range sortedKeys(value) {
			if field != "@type" {
				r.check(path, &schema{Type: "object", Properties: fieldsOf(inner)}, map[string]any{field: value[field]})
			}
		}
		return
	}
	for _, field := range sortedKeys(value) {
		switch {
		case s.Properties[field] != nil:
			r.check(path+"."+field, s.Properties[field], value[field])
		case s.AdditionalProperties != nil:
			r.check(path+"."+field, s.AdditionalProperties, value[field])
		default:
			r.fault("%s.%s is not of the schema", path, field)
		}
	}
}

func fieldsOf(s *schema) map[string]*schema {
	if s == nil {
		return nil
	}
	return s.Properties
}

var (
	wholeNumber  = regexp.MustCompile(`^-?[0-9]+$`)
	durationForm = regexp.MustCompile(`^-?[0-9]+(\.[0-9]{1,9})?s$`)
)

// formed reports whether a string has a format
// (https://developers.google.com/discovery/v1/type-format).
func formed(format, v string) bool {
	switch format {
	case "int64", "uint64":
		return wholeNumber.MatchString(v)
	case "byte":
		_, standard := base64.StdEncoding.DecodeString(v)
		_, forURLs := base64.URLEncoding.DecodeString(v)
		return standard == nil || forURLs == nil
	case "google-datetime", "date-time":
		_, err := time.Parse(time.RFC3339Nano, v)
		return err == nil
	case "google-duration":
		return durationForm.MatchString(v)
	}
	return true
}

// heldBack keeps an answer until it has been checked, so that a caller that has it
// finds it counted.
type heldBack struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (w *heldBack) WriteHeader(code int) { w.status = code }
func (w *heldBack) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return len(p), nil
}

// Flush gives out what there is: the rest will not come.
func (w *heldBack) Flush() {
	w.ResponseWriter.WriteHeader(w.status)
	_, _ = w.ResponseWriter.Write(w.body)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// An inspector holds every exchange against the discovery documents, and fails
// the test where a successful one is not as they say. What is refused may have
// been asked in any way.
type inspector struct {
	t    *testing.T
	next http.Handler
	docs map[string]*document

	mu    sync.Mutex
	seen  map[*method]*exchanges
	types map[string]int // @type in answers
}

// exchanges are how many were checked.
type exchanges struct{ answered, refused int }

func inspect(t *testing.T, next http.Handler) *inspector {
	t.Helper()
	docs, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	return &inspector{t: t, next: next, docs: docs, seen: map[*method]*exchanges{}, types: map[string]int{}}
}

func (i *inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, _, _ := route(r)
	if m == nil || m.api == oauthAPI {
		i.next.ServeHTTP(w, r)
		return
	}
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		i.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	held := &heldBack{ResponseWriter: w, status: http.StatusOK}
	i.next.ServeHTTP(held, r)
	i.check(m, r, sent, held)
	w.WriteHeader(held.status)
	w.Write(held.body)
}

func (i *inspector) check(m *method, r *http.Request, sent []byte, held *heldBack) {
	d, as := published(i.docs, m)
	if as == nil {
		i.t.Errorf("%s %s is not in the discovery document", r.Method, r.URL.Path)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen[m] == nil {
		i.seen[m] = new(exchanges)
	}
	read := &reading{document: d}
	if held.status == http.StatusOK {
		i.seen[m].answered++
		read.request(as, r.URL.Query(), sent)
		read.body("answer", as.Response, held.body)
	} else {
		i.seen[m].refused++
		read.refusal(m, held.status, held.body)
	}
	for _, name := range read.types {
		i.types[name]++
	}
	for _, fault := range read.faults {
		i.t.Errorf("%s %s (%d): %s", r.Method, r.URL.Path, held.status, fault)
	}
}

// count returns what was checked of a method so far.
func (i *inspector) count(m *method) exchanges {
	i.mu.Lock()
	defer i.mu.Unlock()
	if seen := i.seen[m]; seen != nil {
		return *seen
	}
	return exchanges{}
}

func (r *reading) body(path string, s *schema, body []byte) {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		r.fault("%s: %v", path, err)
		return
	}
	r.check(path, s, value)
}

// request checks what was asked with success.
func (r *reading) request(as *discoveryMethod, query url.Values, body []byte) {
	for name, values := range query {
		p := as.Parameters[name]
		if p == nil || p.Location != "query" {
			p = r.Parameters[name]
		}
		switch {
		case p == nil:
			r.fault("there is no parameter %s", name)
		case len(values) > 1 && !p.Repeated:
			r.fault("parameter %s is not repeated", name)
		case p.Type == "integer":
			if _, err := strconv.Atoi(values[0]); err != nil {
				r.fault("parameter %s is no integer: %v", name, err)
			}
		}
	}
	body = bytes.TrimSpace(body)
	switch {
	case as.Request != nil && len(body) > 0:
		r.nulls = true
		r.body("request", as.Request, body)
		r.nulls = false
	case as.Request == nil && len(body) > 0 && string(body) != "{}":
		r.fault("the request has a body: %s", body)
	}
}

// refusal checks an error's envelope and details. Whether there is a list
// errors[] is a matter of the service.
func (r *reading) refusal(m *method, code int, body []byte) {
	before := len(r.faults)
	r.body("refusal", errorBody, body)
	if len(r.faults) > before {
		return
	}
	var e struct {
		Error struct {
			Code            int
			Message, Status string
			Errors          []any
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		r.fault("refusal: %v", err)
		return
	}
	if e.Error.Code != code || e.Error.Message == "" || !slices.Contains(httpCodes[e.Error.Status], code) || (len(e.Error.Errors) > 0) != m.api.withErrors {
		r.fault("refuses with code %d, status %s, message %q and %d errors", e.Error.Code, e.Error.Status, e.Error.Message, len(e.Error.Errors))
	}
}
