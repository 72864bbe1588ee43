// Package terraform_test holds the deployment to what the program is: it plans the
// examples and compares what would be made with the functions, the configuration,
// the database's indexes and the rules of who may do what.
//
// Google's provider is emulated (emulators/terraform), so that no network and no
// credentials are needed. With TERRAFORM_PROVIDER=registry Terraform takes the real
// one, which checks more.
package terraform_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"gcpconnect/emulators/parts/partstest"
)

// workplace is a copy of the configuration, with Terraform to work on it.
type workplace struct {
	folder, program, config string
}

func newWorkplace(t *testing.T) workplace {
	t.Helper()
	w := workplace{folder: t.TempDir()}
	found := partstest.Terraform(t)
	w.program = found.Program
	if os.Getenv("TERRAFORM_PROVIDER") != "registry" { //nolint:forbidigo // of the test run, not of the program
		w.config = found.Config
	}
	for _, file := range files(t) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		place := filepath.Join(w.folder, file)
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(place, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// files are the configuration's, without what Terraform left behind.
func files(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".terraform":
			return filepath.SkipDir
		case !d.IsDir() && !strings.HasPrefix(d.Name(), ".terraform") && !strings.Contains(d.Name(), "tfstate"):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// run runs Terraform in a folder of the workplace, and returns what it prints.
func (w workplace) run(t *testing.T, folder string, arguments ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.program, arguments...)
	cmd.Dir = filepath.Join(w.folder, folder)
	cmd.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+w.config, "GOOGLE_OAUTH_ACCESS_TOKEN=none")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("terraform %s in %s: %v\n%s\n%s", strings.Join(arguments, " "), folder, err, out, stderr.String())
	}
	return out
}

// roots are the folders that can be a root module.
func roots(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, file := range files(t) {
		if filepath.Base(file) == "versions.tf" {
			found = append(found, filepath.Dir(file))
		}
	}
	return found
}

func TestConfigurationIsFormattedValidAndTested(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.run(t, ".", "fmt", "-check", "-recursive", "-diff")
	for _, root := range roots(t) {
		t.Run(root, func(t *testing.T) {
			t.Parallel()
			w := newWorkplace(t)
			w.run(t, root, "init", "-backend=false", "-input=false", "-no-color")
			w.run(t, root, "validate", "-no-color")
			tests, err := filepath.Glob(filepath.Join(root, "tests", "*.tftest.hcl"))
			if err != nil || len(tests) == 0 {
				t.Fatalf("%s has no tests, %v", root, err)
			}
			out := string(w.run(t, root, "test", "-no-color"))
			if !strings.Contains(out, "Success!") || strings.Contains(out, "Success! 0 passed") {
				t.Errorf("terraform test printed\n%s", out)
			}
		})
	}
}

// resource is one that a plan would make.
type resource struct {
	Address, Type, Name string
	Index               any
	Values              map[string]any
}

// text returns a text at a path of blocks and attributes; blocks are lists whose
// first is meant.
func (r resource) text(path ...string) string {
	text, _ := dig(r.Values, path...).(string)
	return text
}

func dig(value any, path ...string) any {
	for _, name := range path {
		if list, ok := value.([]any); ok {
			if len(list) == 0 {
				return nil
			}
			value = list[0]
		}
		fields, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = fields[name]
	}
	return value
}

type module struct {
	Resources []resource
	Children  []module `json:"child_modules"`
}

func (m module) all() []resource {
	found := m.Resources
	for _, child := range m.Children {
		found = append(found, child.all()...)
	}
	return found
}

// plan is what an example would make.
type plan struct {
	resources []resource
	outputs   map[string]any
}

// of returns the resources of a type.
func (p plan) of(kind string) []resource {
	var found []resource
	for _, r := range p.resources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

var (
	plans   = map[string]plan{}
	plansMu sync.Mutex // one plan at a time: tests share them
)

// planned plans an example, with arguments changed in its call of the module.
func planned(t *testing.T, example string, lines ...string) plan {
	t.Helper()
	plansMu.Lock()
	defer plansMu.Unlock()
	key := strings.Join(append([]string{example}, lines...), " ")
	if p, ok := plans[key]; ok {
		return p
	}
	w, folder := newWorkplace(t), filepath.Join("examples", example)
	if file := filepath.Join(w.folder, folder, "main.tf"); len(lines) > 0 {
		changed := mustRead(t, file)
		for _, line := range lines {
			name, _, _ := strings.Cut(line, " = ")
			changed = regexp.MustCompile(`(?ms)^  `+name+` = \{.*?^  \}\n`).ReplaceAllString(changed, "")
			changed = strings.Replace(changed, "source = \"../..\"\n", "source = \"../..\"\n"+line+"\n", 1)
		}
		if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, folder, "init", "-backend=false", "-input=false", "-no-color")
	w.run(t, folder, "plan", "-input=false", "-no-color", "-refresh=false", "-out=plan", "-var-file=terraform.tfvars.example")
	var shown struct {
		Values struct {
			Outputs map[string]struct{ Value any }
			Root    module `json:"root_module"`
		} `json:"planned_values"`
	}
	if err := json.Unmarshal(w.run(t, folder, "show", "-json", "plan"), &shown); err != nil {
		t.Fatal(err)
	}
	p := plan{resources: shown.Values.Root.all(), outputs: map[string]any{}}
	for name, output := range shown.Values.Outputs {
		p.outputs[name] = output.Value
	}
	if len(p.resources) == 0 {
		t.Fatalf("%s would make nothing", example)
	}
	plans[key] = p
	return p
}

var examples = []string{"minimal", "production"}

func TestPlansMakeWhatIsCounted(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		p := planned(t, example)
		counts := map[string]int{}
		for _, r := range p.resources {
			counts[r.Type]++
		}
		var lines []string
		for kind, n := range counts {
			lines = append(lines, strings.TrimPrefix(kind, "google_")+" "+string(mustJSON(t, n)))
		}
		slices.Sort(lines)
		t.Logf("%s: %d resources: %s", example, len(p.resources), strings.Join(lines, ", "))
		if counts["google_cloud_run_v2_service"] == 0 || counts["google_compute_url_map"] > 0 != (example == "production") {
			t.Errorf("%s: %v", example, counts)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
