package terraform_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"regexp"
	"slices"
	"testing"

	"gcpconnect/functions"
)

var update = flag.Bool("update", false, "write the folder files from the program instead of comparing them with it")

// TestFilesAreTheProgramsOwn compares the folder files with the program. Terraform
// reads no files outside of its folder, so what it takes from the program is
// generated or copied.
func TestFilesAreTheProgramsOwn(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]byte{
		"files/functions.json": functionsJSON(t),
		"files/queues.json":    []byte(mustRead(t, "../shared/cloudtasks/queues.json")),
		"files/indexes.json":   []byte(mustRead(t, "../shared/firestore/indexes.json")),
		"files/policy.hcl":     []byte(mustRead(t, "../shared/vault/policy.hcl")),
	} {
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("terraform/%s is not what the program gives (%v): write it with\ngo test ./terraform -run TestFiles -update", file, err)
		}
	}
}

// functionsJSON returns functions.Table as functions.tf reads it: a list with one
// function a line.
func functionsJSON(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	for i, f := range functions.Table() {
		line, err := json.Marshal(struct {
			Name     string           `json:"name"`
			Caller   functions.Caller `json:"caller"`
			LoginKey bool             `json:"login_key"`
			Tokens   bool             `json:"tokens"`
			Queue    bool             `json:"queue"`
			Platform bool             `json:"platform"`
			Paths    []string         `json:"paths"`
			Costly   []string         `json:"costly_paths"`
		}{f.Name, f.Caller, f.Needs.LoginKey, f.Needs.Tokens, f.Needs.Queue, f.Needs.Platform, balancerPaths(f), costlyPaths(f)})
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(map[bool]string{true: "[\n  ", false: ",\n  "}[i == 0])
		text.Write(line)
	}
	text.WriteString("\n]\n")
	return text.Bytes()
}

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// balancerPaths returns the contract's paths of f in the load balancer's syntax. The
// queue and the scheduler call a function at its own address, so it has none.
func balancerPaths(f functions.Function) []string {
	paths := []string{}
	if f.Caller == functions.CallerQueue || f.Caller == functions.CallerScheduler {
		return paths
	}
	for _, r := range f.Routes {
		if path := wildcard.ReplaceAllString(r.Path, "*"); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// costlyPaths returns the paths of f, each a regular expression, at which a request
// may ask Google, begin a login or change something.
func costlyPaths(f functions.Function) []string {
	paths := []string{}
	if len(balancerPaths(f)) == 0 {
		return paths
	}
	for _, r := range f.Routes {
		path := wildcard.ReplaceAllString(r.Path, "[^/]+")
		if (f.Needs.Tokens || r.Method != http.MethodGet) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}
