// Command image builds the container image of the program, without a Docker
// daemon and without a base image:
//
//	go run ./functions/cmd/image -dir dist/image
//
// What is in the image is the static program and the certificates of the
// authorities that it trusts. There is no shell, no package manager and no
// library beside it: nothing to attack, and nothing to keep patched but what
// go.mod names. Other ways to build one (ko, buildpacks) begin with somebody
// else's image, which has to be fetched, believed and followed.
//
// It writes an OCI layout (https://github.com/opencontainers/image-spec) to the
// folder and, beside it, a list of what is in the image as SPDX JSON. It says
// the image's digest, which is the same whenever and wherever the same source
// is built by the same Go: a deployment of what has not changed changes nothing.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Where things are in the image. Go's TLS looks for the certificates there.
const (
	programPath = "/gcpconnect"
	rootsPath   = "/etc/ssl/certs/ca-certificates.crt"
)

// nonroot is the user that the program runs as, who owns nothing.
const nonroot = "65532:65532"

// always is when everything was made: the same image is made at any time.
var always = v1.Time{Time: time.Unix(0, 0).UTC()}

// platform is what Cloud Run runs
// (https://cloud.google.com/run/docs/container-contract#languages).
var platform = v1.Platform{OS: "linux", Architecture: "amd64"}

func main() {
	dir := flag.String("dir", "dist/image", "folder of the OCI layout; what is there is replaced")
	flag.Parse()
	digest, err := run(context.Background(), *dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// run builds the image into a folder and returns its digest.
func run(ctx context.Context, dir string) (v1.Hash, error) {
	work, err := os.MkdirTemp("", "image")
	if err != nil {
		return v1.Hash{}, fmt.Errorf("make a folder to build in: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	program := filepath.Join(work, "gcpconnect")
	if err := compile(ctx, program); err != nil {
		return v1.Hash{}, err
	}
	image, err := assemble(program)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("assemble the image: %w", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("assemble the image: %w", err)
	}
	list, err := inventory(program, digest)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("list what is in the image: %w", err)
	}
	if err := write(dir, image); err != nil {
		return v1.Hash{}, err
	}
	return digest, os.WriteFile(filepath.Clean(dir)+".spdx.json", list, 0o644) //nolint:gosec // a file for everybody
}

// compile builds the program: static, and with nothing of the machine that it
// is built on.
func compile(ctx context.Context, program string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "gcpconnect/functions/cmd/gcpconnect") //nolint:gosec // a name that is made here
	command.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture, "GOAMD64=v1", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOFIPS140=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, output)
	}
	return nil
}

// assemble puts the image together: what changes least comes first, so that it
// is stored and sent once.
func assemble(program string) (v1.Image, error) {
	binary, err := os.ReadFile(program) //nolint:gosec // a name that is made here
	if err != nil {
		return nil, err
	}
	roots, err := layer(rootsPath, 0o444, trusted())
	if err != nil {
		return nil, err
	}
	programs, err := layer(programPath, 0o555, binary)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: roots, History: v1.History{Created: always, CreatedBy: "image: certificates of authorities"}},
		mutate.Addendum{Layer: programs, History: v1.History{Created: always, CreatedBy: "image: go build ./functions/cmd/gcpconnect"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = platform.OS, platform.Architecture, always
	config.Config = v1.Config{
		Entrypoint: []string{programPath}, User: nonroot, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":       "gcpconnect",
			"org.opencontainers.image.description": "The Google Cloud connector of Aurora: FUNCTION_TARGET chooses the function.",
			"org.opencontainers.image.licenses":    "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// layer is a layer of one file and its folders, which root owns and nobody may
// write.
func layer(name string, mode int64, content []byte) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	for i := range parts[:len(parts)-1] {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.Join(parts[:i+1], "/") + "/", Mode: 0o555}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.Join(parts, "/"), Mode: mode, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// trusted are the certificates that Mozilla trusts, as PEM. Those that it trusts
// with a condition, which such a file cannot say, are left out.
func trusted() []byte {
	var file bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes everything
		}
	}
	return file.Bytes()
}

// write writes the image as the only one of an OCI layout. It replaces a layout
// and nothing else.
func write(dir string, image v1.Image) error {
	_, err := os.Stat(filepath.Join(dir, "oci-layout"))
	if entries, failed := os.ReadDir(dir); failed == nil && len(entries) > 0 && err != nil {
		return fmt.Errorf("%s has something else in it than an image", dir)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace the image: %w", err)
	}
	if _, err := layout.Write(dir, index); err != nil {
		return fmt.Errorf("write the image: %w", errors.Join(err, os.RemoveAll(dir)))
	}
	return nil
}
