// Package deployment runs the functions as Terraform would deploy them: one process
// a function, with the environment that a plan gives it, on an internet of its own
// where Google, Vault and the functions are at their real host names. What one
// function lacks, no other has for it.
package deployment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gcpconnect/emulators/parts"
)

// Resource is a resource that a plan would create.
type Resource struct {
	Address, Type, Name string
	Index               any
	Values              map[string]any
}

// Text returns a text at a path of blocks and attributes, or "". Blocks are lists
// whose first element is meant.
func (r Resource) Text(path ...string) string {
	text, _ := Dig(r.Values, path...).(string)
	return text
}

// Dig returns what a plan has at a path of blocks and attributes, or nil.
func Dig(value any, path ...string) any {
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

// Plan is what Terraform would create.
type Plan struct {
	Resources []Resource
	Outputs   map[string]any
}

// Of returns the resources of a type.
func (p *Plan) Of(kind string) []Resource {
	var found []Resource
	for _, r := range p.Resources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

// Service is a function's Cloud Run service.
type Service struct {
	Resource
	Function    string
	Account     string // email of the service account that it runs as
	Environment map[string]string
}

// Services returns the Cloud Run services by function. It fails on a variable whose
// value is not known before the apply.
func (p *Plan) Services() (map[string]Service, error) {
	found := map[string]Service{}
	for _, r := range p.Of("google_cloud_run_v2_service") {
		s := Service{Resource: r, Account: r.Text("template", "service_account"), Environment: map[string]string{}}
		list, _ := Dig(r.Values, "template", "containers", "env").([]any)
		for _, e := range list {
			name, _ := Dig(e, "name").(string)
			value, ok := Dig(e, "value").(string)
			if !ok {
				return nil, fmt.Errorf("%s: the plan does not know %s", r.Address, name)
			}
			s.Environment[name] = value
		}
		s.Function = s.Environment["FUNCTION_TARGET"]
		found[s.Function] = s
	}
	return found, nil
}

// Paths returns the functions by the load balancer's paths, in the syntax of
// http.ServeMux. A plan does not know what a path rule refers to; rules and backends
// are made of one map, in the order of its keys.
func (p *Plan) Paths() map[string]string {
	var functions []string
	for _, r := range p.Of("google_compute_backend_service") {
		if name, ok := r.Index.(string); ok {
			functions = append(functions, name)
		}
	}
	slices.Sort(functions)
	paths := map[string]string{}
	for _, r := range p.Of("google_compute_url_map") {
		rules, _ := Dig(r.Values, "path_matcher", "path_rule").([]any)
		for i, rule := range rules {
			list, _ := Dig(rule, "paths").([]any)
			for _, path := range list {
				text, _ := path.(string)
				paths[strings.TrimSuffix(text, "*")] = functions[i]
			}
		}
	}
	return paths
}

type module struct {
	Resources []Resource
	Children  []module `json:"child_modules"`
}

func (m module) all() []Resource {
	found := m.Resources
	for _, child := range m.Children {
		found = append(found, child.all()...)
	}
	return found
}

// PlanExample plans an example of a copy of the folder terraform, with its
// terraform.tfvars.example. Lines, each `argument = value`, replace arguments in the
// example's call of the module. It changes the copy. A plan depends on nothing but
// its sources, so it is kept in the user's cache and made once.
func PlanExample(ctx context.Context, terraform *parts.Terraform, folder, example string, lines ...string) (*Plan, error) {
	root := filepath.Join(folder, "examples", example)
	main := filepath.Join(root, "main.tf")
	content, err := os.ReadFile(main) //nolint:gosec // of the repository
	if err != nil {
		return nil, err
	}
	changed := string(content)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " = ")
		changed = regexp.MustCompile(`(?ms)^  `+name+` = \{.*?^  \}\n`).ReplaceAllString(changed, "")
		changed = strings.Replace(changed, "source = \"../..\"\n", "source = \"../..\"\n"+line+"\n", 1)
	}
	if err := os.WriteFile(main, []byte(changed), 0o600); err != nil { //nolint:gosec // in a copy
		return nil, err
	}
	shown, err := cached(terraform, folder, example, func() (shown []byte, err error) {
		for _, arguments := range [][]string{
			{"init", "-backend=false", "-input=false", "-no-color"},
			{"plan", "-input=false", "-no-color", "-refresh=false", "-out=plan", "-var-file=terraform.tfvars.example"},
			{"show", "-json", "plan"},
		} {
			if shown, err = Run(ctx, terraform, root, arguments...); err != nil {
				return nil, err
			}
		}
		return shown, nil
	})
	if err != nil {
		return nil, err
	}
	var plan struct {
		Values struct {
			Outputs map[string]struct{ Value any }
			Root    module `json:"root_module"`
		} `json:"planned_values"`
	}
	if err := json.Unmarshal(shown, &plan); err != nil {
		return nil, fmt.Errorf("read the plan of %s: %w", example, err)
	}
	p := &Plan{Resources: plan.Values.Root.all(), Outputs: map[string]any{}}
	for name, output := range plan.Values.Outputs {
		p.Outputs[name] = output.Value
	}
	if len(p.Resources) == 0 {
		return nil, fmt.Errorf("%s would create nothing", example)
	}
	return p, nil
}

// cached returns the result of build, which depends only on Terraform, its provider
// and the files of a folder. With the registry's provider the result is not kept.
func cached(terraform *parts.Terraform, folder, example string, build func() ([]byte, error)) ([]byte, error) {
	cache, err := os.UserCacheDir()
	if err != nil || terraform.Config == "" {
		return build()
	}
	version, err := exec.Command(terraform.Program, "version").Output() //nolint:gosec,noctx // found on this machine; it prints a line
	if err != nil {
		return nil, fmt.Errorf("terraform version: %w", err)
	}
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s %s %s", version, terraform.Provider, example) // never fails
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)         //nolint:gosec // of the repository
		relative, _ := filepath.Rel(folder, path) // below it
		_, _ = fmt.Fprintf(sum, "\n%s %d\n%s", relative, len(content), content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	file := filepath.Join(cache, "gcpconnect", "plan-"+hex.EncodeToString(sum.Sum(nil))[:16]+".json")
	if shown, err := os.ReadFile(file); err == nil { //nolint:gosec // a name that is made here
		return shown, nil
	}
	shown, err := build()
	if err != nil {
		return nil, err
	}
	own, err := os.CreateTemp(filepath.Dir(file), "plan-*.new") // others may make the same plan
	if err != nil {
		return nil, fmt.Errorf("keep the plan: %w", err)
	}
	_, err = own.Write(shown)
	if err = errors.Join(err, own.Close()); err == nil { // half a plan is not kept
		err = os.Rename(own.Name(), file)
	}
	return shown, err
}

// Run runs Terraform in a folder and returns what it prints.
func Run(ctx context.Context, terraform *parts.Terraform, folder string, arguments ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, terraform.Program, arguments...) //nolint:gosec // found on this machine
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+terraform.Config, "GOOGLE_OAUTH_ACCESS_TOKEN=none",
		"GOGC=400") // it allocates much and lives for seconds
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("terraform %s in %s: %w\n%s\n%s", strings.Join(arguments, " "), folder, err, out, stderr.String())
	}
	return out, nil
}

// CopyConfiguration copies the folder terraform without what Terraform left behind.
func CopyConfiguration(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".terraform":
			return filepath.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), ".terraform") || strings.Contains(d.Name(), "tfstate"):
			return nil
		}
		content, err := os.ReadFile(path) //nolint:gosec // of the repository
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		place := filepath.Join(to, relative)
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			return err
		}
		return os.WriteFile(place, content, 0o600) //nolint:gosec // below the folder of the copy
	})
}
