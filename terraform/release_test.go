package terraform_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/emulators/parts/partstest"
	"gcpconnect/functions"
)

// worker runs steps of builds as Cloud Build does, with programs that only say
// that they were called, and do what a test has them do.
type worker struct {
	folder string
	env    []string
}

const root = "terraform/examples/production"

// newWorker makes a worker. Programs are Bash, by name; what they are called with
// is kept.
func newWorker(t *testing.T, programs map[string]string) worker {
	t.Helper()
	w := worker{folder: t.TempDir()}
	bin := t.TempDir()
	path, _ := os.LookupEnv("PATH")
	w.env = []string{
		"PATH=" + bin + ":" + path, "CALLS=" + filepath.Join(w.folder, "calls"), "HOME=" + w.folder,
		"PROJECT_ID=p", "COMMIT_SHA=c0ffee", "_BUCKET=b", "_IMAGE=europe-west1-docker.pkg.dev/p/aurora/gcpconnect", "_NAME=aurora", "_REGION=europe-west1", "_ROOT=" + root,
	}
	for name, body := range programs {
		write(t, filepath.Join(bin, name), "#!/usr/bin/env bash\necho \""+name+" $*\" >>\"$CALLS\"\n"+body, 0o700)
	}
	traffic, err := os.ReadFile("traffic")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(w.folder, "terraform", "traffic"), string(traffic), 0o700)
	if err := os.MkdirAll(filepath.Join(w.folder, root), 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// run runs a step and returns the calls that it made and what it said.
func (w worker) run(t *testing.T, file, id string) (calls []string, said string, err error) {
	t.Helper()
	s := step(t, parse(t, file), id)
	command := exec.CommandContext(t.Context(), "bash")
	command.Stdin, command.Dir, command.Env = strings.NewReader(s.Script), w.folder, slices.Concat(w.env, s.Env)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	made, _ := os.ReadFile(filepath.Join(w.folder, "calls"))
	for line := range strings.Lines(string(made)) {
		calls = append(calls, strings.TrimSpace(line))
	}
	return calls, out.String(), err
}

const digest = "sha256:0123"

func TestAPlanIsKeptWithWhatItWasMadeFor(t *testing.T) {
	t.Parallel()
	w := newWorker(t, map[string]string{
		"gcloud":    "",
		"terraform": "",
	})
	write(t, filepath.Join(w.folder, "dist", "digest"), digest+"\n", 0o600)
	calls, said, err := w.run(t, "../cloudbuild.yaml", "plan")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var shown []string
	for _, call := range calls {
		shown = append(shown, regexp.MustCompile(`\d{8}T\d{6}Z`).ReplaceAllString(call, "TIME"))
	}
	read := exec.CommandContext(t.Context(), partstest.Terraform(t).Program, "-chdir="+filepath.Join(w.folder, root), "init", "-backend=false", "-no-color")
	if out, err := read.CombinedOutput(); err != nil || strings.Contains(string(out), "empty directory") {
		t.Errorf("Terraform does not read what is written for it: %v\n%s", err, out)
	}
	if diff := cmp.Diff([]string{
		"gcloud storage cp gs://b/terraform.tfvars " + root + "/",
		"terraform -chdir=" + root + " init -backend-config=bucket=b",
		"terraform -chdir=" + root + " plan -lock=false -var=image=europe-west1-docker.pkg.dev/p/aurora/gcpconnect@" + digest + " -out=" + w.folder + "/dist/plan",
		"gcloud storage cp dist/plan " + root + "/.terraform.lock.hcl dist/digest dist/image.spdx.json gs://b/deployments/c0ffee/TIME/",
	}, shown); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// What a deployment finds in the bucket, and Google's opinion of the image.
const bucket = `
case "$*" in
"storage ls "*) printf 'gs://b/deployments/c0ffee/20261128T010203Z/\ngs://b/deployments/c0ffee/20261127T010203Z/\n' ;;
"storage cp "*) echo ` + digest + ` >dist/digest ;;
"artifacts docker images describe "*) echo "$LEVEL" ;;
esac`

func TestOnlyWhatCloudBuildMadeIsDeployed(t *testing.T) {
	t.Parallel()
	const image = "europe-west1-docker.pkg.dev/p/aurora/gcpconnect@" + digest
	for name, c := range map[string]struct {
		program, level, want string
		calls                int
	}{
		"what it made and signed for":   {bucket, "3", "", 4},
		"what somebody else has pushed": {bucket, "unknown", "SLSA build level unknown, not 3", 3},
		"what is not there":             {`case "$2" in docker) echo 'Image not found' >&2; exit 1 ;; esac` + bucket, "3", "Image not found", 3},
		"a commit without a plan":       {`echo 'matched no objects' >&2; exit 1`, "3", "There is no plan for c0ffee", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, map[string]string{"gcloud": c.program})
			w.env = append(w.env, "LEVEL="+c.level)
			calls, said, err := w.run(t, "deploy.yaml", "image")
			if (err == nil) != (c.want == "") || !strings.Contains(said, c.want) {
				t.Errorf("it ended with %v, and said\n%s\nwant %q", err, said, c.want)
			}
			all := []string{
				"gcloud storage ls gs://b/deployments/c0ffee/",
				"gcloud storage cp gs://b/deployments/c0ffee/20261128T010203Z/plan gs://b/deployments/c0ffee/20261128T010203Z/.terraform.lock.hcl gs://b/deployments/c0ffee/20261128T010203Z/digest gs://b/deployments/c0ffee/20261128T010203Z/image.spdx.json dist/",
				"gcloud artifacts docker images describe " + image + " --format=value(image_summary.slsa_build_level)",
				"gcloud artifacts sbom load --source=dist/image.spdx.json --uri=" + image + " --destination=gs://b/sbom",
			}
			if diff := cmp.Diff(all[:c.calls], calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADeploymentThatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails string // what does
		want  []string
	}{
		"none":                            {"", []string{"apply", "latest", "output", "smoke"}},
		"one of another image":            {"image", nil},
		"one whose plan is not done":      {"apply", []string{"apply", "back"}},
		"one whose traffic does not move": {"latest", []string{"apply", "latest", "back"}},
		"one that nobody can tell of":     {"output", []string{"apply", "latest", "output", "back"}},
		"one that answers as it must not": {"smoke", []string{"apply", "latest", "output", "smoke", "back"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, map[string]string{
				"gcloud": `case "$*" in
*"services list"*"to-revisions"*) printf 'aurora-login --to-revisions=aurora-login-1=100\naurora-plan --to-revisions=aurora-plan-7=90,aurora-plan-6=10\n' ;;
*"services list"*) printf 'aurora-login\naurora-plan\n' ;;
*"update-traffic"*"to-latest"*) [ "$FAILS" != latest ] ;;
esac`,
				"terraform": `case "$2" in
show) [ "$FAILS" = image ] && digest=sha256:4567 || digest=sha256:0123; printf '{"variables":{"image":{"value":"%s"}}}' "$_IMAGE@$digest" ;;
*) [ "$2" != "$FAILS" ] ;;
esac`,
				"go": `cat >/dev/null; [ "$FAILS" != smoke ]`,
			})
			w.env = append(w.env, "FAILS="+c.fails)
			write(t, filepath.Join(w.folder, "dist", "folder"), "gs://b/deployments/c0ffee/20261128T010203Z/\n", 0o600)
			write(t, filepath.Join(w.folder, "dist", ".terraform.lock.hcl"), "", 0o600)
			write(t, filepath.Join(w.folder, "dist", "digest"), digest+"\n", 0o600)
			calls, said, err := w.run(t, "deploy.yaml", "deploy")
			if (err == nil) != (c.fails == "") {
				t.Errorf("it ended with %v, and said\n%s", err, said)
			}
			if len(calls) < 4 || !strings.HasPrefix(calls[0], "gcloud run services list --region europe-west1") ||
				calls[1] != "gcloud storage cp dist/traffic gs://b/deployments/c0ffee/20261128T010203Z/" ||
				calls[2] != "terraform -chdir="+root+" init -lockfile=readonly -backend-config=bucket=b" ||
				!strings.HasPrefix(calls[3], "terraform -chdir="+root+" show -json ") {
				t.Fatalf("it does not begin by keeping what serves:\n%s", strings.Join(calls, "\n"))
			}
			if got := events(calls[4:]); !slices.Equal(got, c.want) {
				t.Errorf("it does %v, want %v:\n%s", got, c.want, strings.Join(calls, "\n"))
			}
		})
	}
}

// events are what the calls of a deployment come to. Traffic goes back only if
// all of it does.
func events(calls []string) []string {
	var events []string
	back := map[string]bool{}
	for _, call := range calls {
		switch {
		case strings.Contains(call, " apply -lock-timeout=10m ") && strings.HasSuffix(call, "/dist/plan"):
			events = append(events, "apply")
		case strings.HasPrefix(call, "gcloud run services list"):
			events = append(events, "latest")
		case strings.Contains(call, " output "):
			events = append(events, "output")
		case strings.HasPrefix(call, "go run ./functions/cmd/smoke"):
			events = append(events, "smoke")
		case strings.Contains(call, "--to-revisions="):
			back[call] = true
		}
	}
	const update = "gcloud run services update-traffic --region europe-west1 --quiet "
	if back[update+"aurora-login --to-revisions=aurora-login-1=100"] && back[update+"aurora-plan --to-revisions=aurora-plan-7=90,aurora-plan-6=10"] {
		events = append(events, "back")
	} else if len(back) > 0 {
		events = append(events, fmt.Sprint(back))
	}
	return events
}

// cloudService is one of Cloud Run's, as its API v1 has it.
type cloudService struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       struct {
		Template json.RawMessage `json:"template,omitempty"`
		Traffic  []traffic       `json:"traffic"`
	} `json:"spec"`
	Status status `json:"status"`
}

type metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Generation  int               `json:"generation"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type traffic struct {
	Revision string `json:"revisionName,omitempty"`
	Percent  int    `json:"percent,omitempty"`
	Latest   bool   `json:"latestRevision,omitempty"`
	Tag      string `json:"tag,omitempty"`
}

type status struct {
	Generation int                 `json:"observedGeneration"`
	Ready      string              `json:"latestReadyRevisionName"`
	Created    string              `json:"latestCreatedRevisionName"`
	URL        string              `json:"url"`
	Conditions []map[string]string `json:"conditions"`
	Traffic    []traffic           `json:"traffic"`
}

// cloudRun is as much of Cloud Run's API as gcloud needs to move traffic.
type cloudRun struct {
	mu       sync.Mutex
	services map[string]*cloudService
}

// add adds a service whose newest revision is ready.
func (c *cloudRun) add(name, function, newest string, serving ...traffic) {
	s := &cloudService{APIVersion: "serving.knative.dev/v1", Kind: "Service"}
	s.Metadata = metadata{Name: name, Namespace: "1", Generation: 1, Labels: map[string]string{"cloud.googleapis.com/location": "europe-west1"}, Annotations: map[string]string{}}
	if function != "" {
		s.Metadata.Labels["function"] = function
	}
	s.Spec.Template, s.Spec.Traffic = json.RawMessage(`{"spec":{"containers":[{"image":"i"}]}}`), serving
	s.Status = status{Ready: newest, Created: newest, URL: "https://" + name + ".example"}
	for _, condition := range []string{"Ready", "ConfigurationsReady", "RoutesReady"} {
		s.Status.Conditions = append(s.Status.Conditions, map[string]string{"type": condition, "status": "True"})
	}
	s.settle()
	c.services[name] = s
}

// settle gives traffic to the revisions that it is to go to.
func (s *cloudService) settle() {
	s.Status.Generation, s.Status.Traffic = s.Metadata.Generation, nil
	for _, t := range s.Spec.Traffic {
		if t.Latest {
			t.Revision = s.Status.Ready
		}
		s.Status.Traffic = append(s.Status.Traffic, t)
	}
}

// serving is what each service's traffic goes to, by revision.
func (c *cloudRun) serving() map[string][]traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	serving := map[string][]traffic{}
	for name, s := range c.services {
		serving[name] = slices.SortedFunc(slices.Values(s.Status.Traffic), func(a, b traffic) int { return strings.Compare(a.Revision, b.Revision) })
	}
	return serving
}

func (c *cloudRun) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, one := strings.CutPrefix(r.URL.Path, "/apis/serving.knative.dev/v1/namespaces/p/services/")
	if r.URL.Host != "europe-west1-run.example" || one && c.services[name] == nil {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPut {
		changed := new(cloudService)
		if err := json.NewDecoder(r.Body).Decode(changed); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		changed.Metadata.Generation++
		changed.settle()
		c.services[name] = changed
	}
	var answer any = c.services[name]
	if !one {
		list := []*cloudService{}
		for _, s := range c.services {
			list = append(list, s)
		}
		answer = map[string]any{"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": list}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// Google's own gcloud moves the traffic here, of services that are emulated.
func TestTrafficOfAllFunctionsMovesAtOnceAndBack(t *testing.T) {
	t.Parallel()
	partstest.Gcloud(t)
	run := &cloudRun{services: map[string]*cloudService{}}
	latest := traffic{Percent: 100, Latest: true}
	run.add("aurora-login", "login", "aurora-login-2", latest)
	run.add("aurora-plan", "plan", "aurora-plan-9", traffic{Revision: "aurora-plan-8", Percent: 90}, traffic{Revision: "aurora-plan-7", Percent: 10}, traffic{Revision: "aurora-plan-1", Tag: "old"})
	run.add("aurora-website", "", "aurora-website-5", traffic{Revision: "aurora-website-1", Percent: 100})         // which is none of ours
	run.add("my-aurora-login", "login", "my-aurora-login-5", traffic{Revision: "my-aurora-login-1", Percent: 100}) // of another installation
	server := httptest.NewServer(run)
	defer server.Close()
	move := func(input string, arguments ...string) string {
		t.Helper()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "token"), "token", 0o600)
		command := exec.CommandContext(t.Context(), "./traffic", arguments...)
		path, _ := os.LookupEnv("PATH")
		command.Env = []string{
			"PATH=" + path, "HOME=" + dir, "http_proxy=" + server.URL, "CLOUDSDK_CONFIG=" + filepath.Join(dir, "config"),
			"CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN=http://run.example/", "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE=" + filepath.Join(dir, "token"),
			"CLOUDSDK_CORE_PROJECT=p", "CLOUDSDK_CORE_DISABLE_PROMPTS=1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=true",
			"CLOUDSDK_CORE_DISABLE_FILE_LOGGING=true", "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=true",
		}
		var faults bytes.Buffer
		command.Stdin, command.Stderr = strings.NewReader(input), &faults
		out, err := command.Output()
		if err != nil {
			t.Fatalf("traffic %v: %v\n%s", arguments, err, faults.String())
		}
		return string(out)
	}
	before := run.serving()
	kept := move("", "show", "europe-west1", "aurora")
	if want := "aurora-login --to-revisions=aurora-login-2=100\naurora-plan --to-revisions=aurora-plan-8=90,aurora-plan-7=10\n"; kept != want {
		t.Errorf("what serves is shown as\n%swant\n%s", kept, want)
	}
	run.mu.Lock()
	run.services["aurora-login"].Status.Ready = "aurora-login-3" // deployed
	run.mu.Unlock()
	move("", "latest", "europe-west1", "aurora")
	want := map[string][]traffic{
		"aurora-login": {{Revision: "aurora-login-3", Percent: 100, Latest: true}}, "aurora-plan": {{Revision: "aurora-plan-1", Tag: "old"}, {Revision: "aurora-plan-9", Percent: 100, Latest: true}},
		"aurora-website": before["aurora-website"], "my-aurora-login": before["my-aurora-login"],
	}
	if diff := cmp.Diff(want, run.serving()); diff != "" {
		t.Errorf("after latest (-want +got):\n%s", diff)
	}
	move(kept, "set", "europe-west1")
	want["aurora-login"], want["aurora-plan"] = []traffic{{Revision: "aurora-login-2", Percent: 100}}, before["aurora-plan"]
	if diff := cmp.Diff(want, run.serving()); diff != "" {
		t.Errorf("after set (-want +got):\n%s", diff)
	}
}

// Where things are, the smoke test has from Terraform; nobody is asked here.
func TestTheSmokeTestKnowsWhereEverythingIs(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			outputs := map[string]any{} // as terraform output -json has them
			for name, value := range planned(t, example).Outputs {
				outputs[name] = map[string]any{"value": value}
			}
			command := exec.CommandContext(t.Context(), "go", "run", "../functions/cmd/smoke", "-patience=0")
			command.Stdin = bytes.NewReader(mustJSON(t, outputs))
			command.Env = append(os.Environ(), "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1")
			out, err := command.CombinedOutput()
			if err == nil || strings.Contains(string(out), "the output") {
				t.Errorf("%v\n%s", err, out)
			}
			for _, f := range functions.Table() {
				path, _, _ := strings.Cut(f.Routes[0].Path, "{")
				if !strings.Contains(string(out), path) && !strings.Contains(string(out), "aurora-"+f.Name+"-") {
					t.Errorf("%s is not looked at:\n%s", f.Name, out)
				}
			}
		})
	}
}
