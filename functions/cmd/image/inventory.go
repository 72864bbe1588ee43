package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// rootsModule is where the certificates come from.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// inventory is the list of what is in the image, as SPDX 2.3 JSON
// (https://spdx.github.io/spdx-spec/v2.3/): the program with the modules that
// are compiled into it, which it says itself, and the certificates.
func inventory(program string, digest v1.Hash) ([]byte, error) {
	built, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	roots, err := version(rootsModule)
	if err != nil {
		return nil, err
	}
	l := list{&spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: "gcpconnect",
		DocumentNamespace: "https://spdx.org/spdxdocs/gcpconnect-" + digest.Hex,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "gcpconnect/functions/cmd/image"}},
			Created:  always.Format(time.RFC3339),
		},
	}}
	image := l.add("DOCUMENT", common.TypeRelationshipDescribe, "gcpconnect", digest.String(), "pkg:oci/gcpconnect@"+strings.ReplaceAll(digest.String(), ":", "%3A"))
	image.PrimaryPackagePurpose = "CONTAINER"
	image.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: digest.Hex}}
	binary := l.add(image.PackageSPDXIdentifier, common.TypeRelationshipContains, built.Path, "", "")
	binary.PrimaryPackagePurpose, binary.PackageFileName = "APPLICATION", programPath
	binary.PackageLicenseDeclared = "Apache-2.0"
	certificates := l.module(image.PackageSPDXIdentifier, common.TypeRelationshipContains, rootsModule, roots)
	certificates.PackageFileName = rootsPath
	l.module(binary.PackageSPDXIdentifier, common.TypeRelationshipDependsOn, "stdlib", strings.TrimPrefix(built.GoVersion, "go"))
	for _, m := range built.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		l.module(binary.PackageSPDXIdentifier, common.TypeRelationshipDependsOn, m.Path, m.Version)
	}
	content, err := json.MarshalIndent(l.Document, "", "  ")
	return append(content, '\n'), err
}

// version is that of a module which this very program is made of.
func version(module string) (string, error) {
	if self, ok := debug.ReadBuildInfo(); ok {
		for _, m := range self.Deps {
			if m.Path == module {
				return m.Version, nil
			}
		}
	}
	return "", fmt.Errorf("this program does not know its version of %s: build it with modules", module)
}

type list struct{ *spdx.Document }

// add adds a package that something has.
func (l list) add(owner common.ElementID, has, name, version, purl string) *spdx.Package {
	p := &spdx.Package{
		PackageName: name, PackageVersion: version, PackageDownloadLocation: "NOASSERTION",
		PackageSPDXIdentifier:   common.ElementID(fmt.Sprintf("Package-%d", len(l.Packages))),
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
	}
	if purl != "" {
		p.PackageExternalReferences = []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}}
	}
	l.Packages = append(l.Packages, p)
	l.Relationships = append(l.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(owner)), Relationship: has, RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier)),
	})
	return p
}

// module adds a Go module that something has.
func (l list) module(owner common.ElementID, has, path, version string) *spdx.Package {
	p := l.add(owner, has, path, version, "pkg:golang/"+path+"@"+version)
	p.PrimaryPackagePurpose = "LIBRARY"
	return p
}
