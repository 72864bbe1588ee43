package parts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// terraformProvider is the version of Google's provider whose schema the emulated
// one has.
const terraformProvider = "7.45.0"

// Terraform is Terraform with Google's provider emulated.
type Terraform struct {
	Program string
	// Provider is the emulated provider's program, whose name says what it was built
	// from.
	Provider string
	// Config is a file for TF_CLI_CONFIG_FILE, with which Terraform takes the
	// emulated provider and asks no registry.
	Config string
}

// FindTerraform returns Terraform with the emulated provider, whose files it puts
// into a folder. The provider is built before, the first time.
func FindTerraform(ctx context.Context, folder string) (*Terraform, error) {
	program, err := exec.LookPath("terraform")
	if err != nil {
		return nil, &MissingError{"terraform", "see https://developer.hashicorp.com/terraform/install"}
	}
	source, err := sourceOf(ctx, "emulators/terraform")
	if err != nil {
		return nil, err
	}
	provider, err := build(ctx, source, ".")
	if err != nil {
		return nil, err
	}
	mirror := filepath.Join(folder, "mirror")
	place := filepath.Join(mirror, "registry.terraform.io", "hashicorp", "google", terraformProvider, runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, fmt.Errorf("terraform: %w", err)
	}
	if err := os.Symlink(provider, filepath.Join(place, "terraform-provider-google_v"+terraformProvider)); err != nil {
		return nil, fmt.Errorf("terraform: %w", err)
	}
	t := &Terraform{Program: program, Provider: provider, Config: filepath.Join(folder, "terraform.rc")}
	content := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\ndisable_checkpoint = true\n", mirror)
	if err := os.WriteFile(t.Config, []byte(content), 0o600); err != nil {
		return nil, fmt.Errorf("terraform: %w", err)
	}
	return t, nil
}
