package terraform_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/cloudbuild/v1"
	"sigs.k8s.io/yaml"
)

// builds are the files that Cloud Build's triggers name.
var builds = []string{"../cloudbuild.yaml", "deploy.yaml"}

// parse reads a build as Cloud Build does: nothing may be in it that the API does
// not know.
func parse(t *testing.T, file string) *cloudbuild.Build {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	build := new(cloudbuild.Build)
	if err := yaml.UnmarshalStrict(content, build); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var written, understood any // Go takes timeOut for timeout; the API does not
	if err := errors.Join(yaml.Unmarshal(content, &written), json.Unmarshal(mustJSON(t, build), &understood)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, understood); diff != "" {
		t.Errorf("%s is not understood as it is written (-written +understood):\n%s", file, diff)
	}
	return build
}

func step(t *testing.T, build *cloudbuild.Build, id string) *cloudbuild.BuildStep {
	t.Helper()
	for _, s := range build.Steps {
		if s.Id == id {
			return s
		}
	}
	t.Fatalf("there is no step %s", id)
	return nil
}

func TestCloudBuildTakesTheBuilds(t *testing.T) {
	t.Parallel()
	for _, file := range builds {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			build := parse(t, file)
			whole := seconds(t, build.Timeout)
			ids := map[string]bool{"-": true} // begins at once
			for _, s := range build.Steps {
				if s.Id == "" || ids[s.Id] {
					t.Errorf("the ID %q is none, or that of two steps", s.Id)
				}
				for _, id := range s.WaitFor {
					if !ids[id] {
						t.Errorf("%s waits for %q, which no step before it is", s.Id, id)
					}
				}
				ids[s.Id] = true
				if len(s.WaitFor) == 0 {
					t.Errorf("%s does not say what it waits for", s.Id)
				}
				if limit := seconds(t, s.Timeout); limit > whole {
					t.Errorf("%s may take %v, longer than all together", s.Id, limit)
				}
				checkCommand(t, s)
			}
			o := build.Options
			if o.Logging != "CLOUD_LOGGING_ONLY" { // what an account of one's own requires, where no bucket is named
				t.Errorf("logs go to %q", o.Logging)
			}
			if build.ServiceAccount != "projects/$PROJECT_ID/serviceAccounts/$_SERVICE_ACCOUNT" {
				t.Errorf("it runs as %q", build.ServiceAccount)
			}
		})
	}
}

func seconds(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d%time.Second != 0 || !strings.HasSuffix(text, "s") || strings.ContainsAny(text, "hm") {
		t.Errorf("the timeout %q is none in whole seconds", text)
	}
	return d
}

// makes are the targets that a command makes.
var makes = regexp.MustCompile(`(?m)\bmake (?:--silent )?([a-z]+)`)

// checkCommand checks what a step runs: one of the two ways to say it, in Bash
// that can be read, with what there is.
func checkCommand(t *testing.T, s *cloudbuild.BuildStep) {
	t.Helper()
	if (s.Script == "") == (len(s.Args) == 0) || s.Script != "" && s.Entrypoint != "" {
		t.Errorf("%s must have a script, or else arguments", s.Id)
	}
	if s.Script != "" {
		if !strings.HasPrefix(s.Script, "#!/usr/bin/env bash\nset -euo pipefail\n") {
			t.Errorf("%s is no Bash that stops at what fails", s.Id)
		}
		command := exec.CommandContext(t.Context(), "bash", "-n")
		command.Stdin = strings.NewReader(s.Script)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s.Id, err, output)
		}
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	said := s.Script + strings.Join(s.Args, " ")
	for _, target := range makes.FindAllStringSubmatch(said, -1) {
		if !regexp.MustCompile(`(?m)^` + target[1] + `:`).Match(makefile) {
			t.Errorf("%s makes %s, which is no target", s.Id, target[1])
		}
	}
	for _, path := range regexp.MustCompile(`(?:terraform/traffic|\.ci/run|\./functions/cmd/[a-z]+)\b`).FindAllString(said, -1) {
		if _, err := os.Stat(filepath.Join("..", path)); err != nil {
			t.Errorf("%s runs %s: %v", s.Id, path, err)
		}
	}
}

var (
	// pinned is an image that is always the same, with the version for people.
	pinned = regexp.MustCompile(`^([a-z0-9./-]+):[a-z0-9.-]*[0-9]\.[0-9]+\.[0-9]+[a-z0-9.-]*@sha256:[0-9a-f]{64}$`)
	// substituted is what Cloud Build or, in scripts, the shell puts something in
	// the place of.
	substituted = regexp.MustCompile(`\$\{?([A-Z_][A-Z0-9_]*)`)
	// given are the substitutions that Cloud Build knows by itself and those of
	// the shell that are used.
	given = []string{"PROJECT_ID", "COMMIT_SHA", "PATH", "PWD"}
)

func TestNothingInTheBuildsIsLeftToChance(t *testing.T) {
	t.Parallel()
	images := map[string]string{}
	for _, file := range builds {
		build := parse(t, file)
		for _, s := range build.Steps {
			parts := pinned.FindStringSubmatch(s.Name)
			if parts == nil {
				t.Errorf("%s: %s runs %s, which is not pinned by version and digest", file, s.Id, s.Name)
				continue
			}
			if other := images[parts[1]]; other != "" && other != s.Name {
				t.Errorf("%s and %s are both used", other, s.Name)
			}
			images[parts[1]] = s.Name
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, line := range strings.Split(string(content), "\n") {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				for _, name := range substituted.FindAllStringSubmatch(line, -1) {
					used[name[1]] = true
				}
			}
		}
		for _, name := range given {
			delete(used, name)
		}
		if want, got := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(build.Substitutions)); !slices.Equal(want, got) {
			t.Errorf("%s uses %v and declares %v", file, want, got)
		}
		if !build.Options.AutomapSubstitutions {
			t.Errorf("%s: scripts do not see substitutions", file)
		}
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	language := regexp.MustCompile(`(?m)^go (1\.[0-9]+)`).FindSubmatch(module)
	if language == nil || !strings.HasPrefix(images["golang"], "golang:"+string(language[1])+".") {
		t.Errorf("builds run %s, and the module is of Go %s", images["golang"], language)
	}
}

// Cloud Build signs for the images that it pushes itself, and for no other.
func TestWhatIsBuiltIsWhatCloudBuildPushesAndSignsFor(t *testing.T) {
	t.Parallel()
	build := parse(t, "../cloudbuild.yaml")
	script := step(t, build, "image").Script
	dir := regexp.MustCompile(`IMAGE_DIR=(\S+)`).FindStringSubmatch(script)
	if dir == nil || len(build.Artifacts.Oci) != 1 || build.Artifacts.Oci[0].File != "/workspace/"+dir[1] {
		t.Errorf("the image is written to %v, and pushed from %+v", dir, build.Artifacts.Oci)
	}
	if got := build.Artifacts.Oci[0].RegistryPath; got != "$_IMAGE" {
		t.Errorf("it is pushed to %q", got)
	}
	if len(build.Images) > 0 || build.Options.RequestedVerifyOption != "VERIFIED" {
		t.Errorf("images %v, verify option %q: want no image of a Docker daemon, and provenance of the other", build.Images, build.Options.RequestedVerifyOption)
	}
	for _, s := range build.Steps {
		if strings.Contains(s.Name, "docker") || strings.Contains(s.Script, "docker ") {
			t.Errorf("%s uses Docker", s.Id)
		}
	}
}

// What is planned is what is tested, and nobody deploys by planning.
func TestTheBuildChangesNothingAndPlansLast(t *testing.T) {
	t.Parallel()
	build := parse(t, "../cloudbuild.yaml")
	plan := step(t, build, "plan")
	for _, before := range []string{"test", "image"} {
		if !slices.Contains(plan.WaitFor, before) {
			t.Errorf("plan does not wait for %s", before)
		}
	}
	for _, s := range build.Steps {
		if regexp.MustCompile(`terraform\b.*\bapply\b|gcloud run\b`).MatchString(s.Script) {
			t.Errorf("%s deploys, which nobody has approved", s.Id)
		}
	}
	if s := step(t, build, "test"); !slices.Contains(s.Env, "CI=true") || !strings.Contains(s.Script, ".ci/run") {
		t.Errorf("tests may be left out: %+v", s)
	}
}
