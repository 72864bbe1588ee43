package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
)

// build runs the command in a folder of the module and returns what it said and
// the image that it wrote.
func build(t *testing.T, module, dir string) (string, v1.Image) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "run", "gcpconnect/functions/cmd/image", "-dir", dir)
	command.Dir = module
	var faults bytes.Buffer
	command.Stderr = &faults
	said, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, faults.String())
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("the layout has %v, %v, want one image", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(said)), image
}

// file is what an image says of one.
type file struct {
	Mode     fs.FileMode
	Uid, Gid int
}

// unpack returns what is in an image, by name, with the content of files.
func unpack(t *testing.T, image v1.Image) (map[string]file, map[string][]byte) {
	t.Helper()
	archive := mutate.Extract(image)
	defer func() { _ = archive.Close() }()
	files, contents := map[string]file{}, map[string][]byte{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		name := "/" + strings.TrimSuffix(h.Name, "/")
		files[name] = file{h.FileInfo().Mode(), h.Uid, h.Gid}
		if contents[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheImage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "image")
	said, image := build(t, "../../..", dir)
	files, contents := unpack(t, image)
	list, err := os.ReadFile(dir + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("is a valid one of the digest that the command says", func(t *testing.T) {
		t.Parallel()
		if err := validate.Image(image); err != nil {
			t.Error(err)
		}
		if digest, err := image.Digest(); err != nil || digest.String() != said {
			t.Errorf("the digest is %v, %v, and the command says %q", digest, err, said)
		}
	})
	t.Run("has the program, the certificates and nothing else, which nobody may write", func(t *testing.T) {
		t.Parallel()
		folder := file{Mode: fs.ModeDir | 0o555}
		if diff := cmp.Diff(map[string]file{
			"/gcpconnect": {Mode: 0o555}, "/etc": folder, "/etc/ssl": folder, "/etc/ssl/certs": folder, "/etc/ssl/certs/ca-certificates.crt": {Mode: 0o444},
		}, files); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
	t.Run("runs the program as nobody", func(t *testing.T) {
		t.Parallel()
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		labels := config.Config.Labels
		config.Config.Labels = nil
		if diff := cmp.Diff(v1.Config{Entrypoint: []string{"/gcpconnect"}, User: "65532:65532", WorkingDir: "/"}, config.Config); diff != "" {
			t.Errorf("configuration (-want +got):\n%s", diff)
		}
		if config.OS != "linux" || config.Architecture != "amd64" || labels["org.opencontainers.image.title"] != "gcpconnect" {
			t.Errorf("it is for %s/%s, of %v", config.OS, config.Architecture, labels)
		}
	})
	t.Run("has a program that needs no library and tells nothing of where it was built", func(t *testing.T) {
		t.Parallel()
		checkProgram(t, contents[programPath])
	})
	t.Run("trusts who signs for Google and for most Vaults", func(t *testing.T) {
		t.Parallel()
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[rootsPath]) {
			t.Fatal("there are no certificates in the file")
		}
		var subjects []string
		for _, subject := range pool.Subjects() { //nolint:staticcheck // of a pool that is not the system's it is whole
			subjects = append(subjects, string(subject))
		}
		for _, authority := range []string{"GTS Root R1", "GTS Root R4", "GlobalSign Root R46", "ISRG Root X1", "DigiCert Global Root G2"} {
			if !slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(s, authority) }) {
				t.Errorf("it does not trust %s", authority)
			}
		}
	})
	t.Run("has a list of all that is in it", func(t *testing.T) {
		t.Parallel()
		checkInventory(t, list, said, contents[programPath])
	})
}

func checkProgram(t *testing.T, program []byte) {
	t.Helper()
	binary, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 || binary.Machine != elf.EM_X86_64 {
		t.Errorf("it is for %v and needs %v, %v", binary.Machine, libraries, err)
	}
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic linker")
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if info.Path != "gcpconnect/functions/cmd/gcpconnect" || settings["-trimpath"] != "true" || settings["CGO_ENABLED"] != "0" || settings["vcs.revision"] != "" {
		t.Errorf("it is %s, made with %v", info.Path, settings)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(program, []byte(filepath.Dir(here))) {
		t.Error("it names the folder that it was built in")
	}
}

func checkInventory(t *testing.T, list []byte, digest string, program []byte) {
	t.Helper()
	document, err := json.Read(bytes.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	ids, versions := map[spdx.ElementID]bool{"DOCUMENT": true}, map[string]string{}
	for _, p := range document.Packages {
		if ids[p.PackageSPDXIdentifier] {
			t.Errorf("two have the ID %s", p.PackageSPDXIdentifier)
		}
		ids[p.PackageSPDXIdentifier] = true
		versions[p.PackageName] = p.PackageVersion
	}
	has := map[spdx.ElementID]bool{}
	for _, r := range document.Relationships {
		if !ids[r.RefA.ElementRefID] || !ids[r.RefB.ElementRefID] {
			t.Errorf("%v %s %v is about nothing in the list", r.RefA, r.Relationship, r.RefB)
		}
		has[r.RefB.ElementRefID] = true
	}
	for id := range ids {
		if id != "DOCUMENT" && !has[id] {
			t.Errorf("nothing has %s", id)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"gcpconnect": digest, info.Path: "", rootsModule: versions[rootsModule], "stdlib": strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want[m.Path] = m.Version
	}
	if diff := cmp.Diff(want, versions); diff != "" || versions[rootsModule] == "" || len(info.Deps) < 10 {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
}

func TestTheSameSourceMakesTheSameImageAnywhere(t *testing.T) {
	t.Parallel()
	dir, elsewhere := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "other", "place")
	for _, part := range []string{"functions", "shared"} {
		if err := os.CopyFS(filepath.Join(elsewhere, part), os.DirFS(filepath.Join("../../..", part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("../../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(elsewhere, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, _ := build(t, "../../..", dir)
	list, err := os.ReadFile(dir + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	second, _ := build(t, elsewhere, dir) // in the place of the first
	if first != second {
		t.Errorf("built here it is %s, built elsewhere %s", first, second)
	}
	if again, err := os.ReadFile(dir + ".spdx.json"); err != nil || !bytes.Equal(list, again) {
		t.Errorf("the list of what is in it differs, %v", err)
	}
}

func TestNothingButAnImageIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := assemble(precious)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(dir, image); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("write: %v, want a refusal", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestTheImageIsPushedByItsDigest(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/project/aurora"
	dir := filepath.Join(t.TempDir(), "image")
	command := exec.CommandContext(t.Context(), "make", "--silent", "push", "IMAGE_DIR="+dir, "REPOSITORY="+repository)
	command.Dir = "../../.."
	var faults bytes.Buffer
	command.Stderr = &faults
	said, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, faults.String())
	}
	name, digest, _ := strings.Cut(strings.TrimSpace(string(said)), "@")
	if name != repository+"/gcpconnect" {
		t.Errorf("it says %q", said)
	}
	response, err := http.Get(server.URL + "/v2/project/aurora/gcpconnect/manifests/" + digest)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Docker-Content-Digest") != digest {
		t.Errorf("the registry answers %d %v for %s", response.StatusCode, response.Header, digest)
	}
}
