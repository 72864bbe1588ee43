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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gcpconnect/emulators/deployment"
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/parts/partstest"
)

// workplace is a copy of the configuration, with Terraform to work on it.
type workplace struct {
	folder    string
	terraform *parts.Terraform
}

func newWorkplace(t *testing.T) workplace {
	t.Helper()
	w := workplace{t.TempDir(), partstest.Terraform(t)}
	if os.Getenv("TERRAFORM_PROVIDER") == "registry" { //nolint:forbidigo // of the test run, not of the program
		w.terraform.Config = ""
	}
	if err := deployment.CopyConfiguration(".", w.folder); err != nil {
		t.Fatal(err)
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
	out, err := deployment.Run(t.Context(), w.terraform, filepath.Join(w.folder, folder), arguments...)
	if err != nil {
		t.Fatal(err)
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

var (
	plans   = map[string]*deployment.Plan{}
	plansMu sync.Mutex // one plan at a time: tests share them
)

// planned plans an example, with arguments changed in its call of the module.
func planned(t *testing.T, example string, lines ...string) *deployment.Plan {
	t.Helper()
	plansMu.Lock()
	defer plansMu.Unlock()
	key := strings.Join(append([]string{example}, lines...), " ")
	if p, ok := plans[key]; ok {
		return p
	}
	w := newWorkplace(t)
	p, err := deployment.PlanExample(t.Context(), w.terraform, w.folder, example, lines...)
	if err != nil {
		t.Fatal(err)
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
		for _, r := range p.Resources {
			counts[r.Type]++
		}
		var lines []string
		for kind, n := range counts {
			lines = append(lines, strings.TrimPrefix(kind, "google_")+" "+string(mustJSON(t, n)))
		}
		slices.Sort(lines)
		t.Logf("%s: %d resources: %s", example, len(p.Resources), strings.Join(lines, ", "))
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
