// Package shared_test holds the rule of which package may import which.
package shared_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// module is this module's path; packages of other modules are written whole.
const module = "gcpconnect/"

// allowed lists, for each room, the rooms of this module that it may import,
// and the modules beyond the standard library. A room that is not listed may
// not exist.
var allowed = map[string]struct{ rooms, modules []string }{
	"shared/connect":              {nil, nil},
	"shared/connect/connecttest":  {[]string{"shared/connect"}, []string{"github.com/google/go-cmp", "go.opentelemetry.io/otel/propagation"}},
	"shared/discovery":            {[]string{"shared/connect"}, nil},
	"shared/setup":                {[]string{"shared/connect"}, slices.Concat([]string{"golang.org/x/sync"}, telling)},
	"shared/calls":                {[]string{"shared/connect"}, telling},
	"shared/retry":                {[]string{"shared/connect"}, []string{"github.com/googleapis/gax-go"}},
	"shared/oauth":                {[]string{"shared/calls", "shared/connect", "shared/retry"}, []string{"golang.org/x/oauth2", "github.com/coreos/go-oidc"}},
	"shared/google":               {[]string{"shared/calls", "shared/connect", "shared/retry", "shared/setup", "shared/discovery"}, []string{"cloud.google.com/go/auth", "google.golang.org/api", "golang.org/x/net", "golang.org/x/time"}},
	"shared/memory":               {[]string{"shared/connect"}, []string{"go.opentelemetry.io/otel/propagation"}},
	"shared/firestore":            {[]string{"shared/connect"}, []string{"cloud.google.com/go/firestore", "google.golang.org/api/option", "google.golang.org/grpc"}},
	"shared/cloudtasks":           {[]string{"shared/connect"}, []string{"cloud.google.com/go/cloudtasks", "github.com/googleapis/gax-go", "go.opentelemetry.io/otel/propagation", "google.golang.org/api/option", "google.golang.org/grpc", "google.golang.org/protobuf"}},
	"shared/vault":                {[]string{"shared/connect"}, []string{"github.com/hashicorp/vault/api", "google.golang.org/api/iamcredentials", "google.golang.org/api/option"}},
	"shared/secretmanager":        {[]string{"shared/connect"}, []string{"cloud.google.com/go/secretmanager", "google.golang.org/api", "google.golang.org/grpc"}},
	"shared/telemetry":            {[]string{"shared/connect"}, []string{"go.opentelemetry.io/otel"}},
	"shared/config":               {[]string{"shared/connect", "shared/setup"}, []string{"github.com/sethvargo/go-envconfig"}},
	"shared/identity":             {[]string{"shared/connect"}, []string{"github.com/coreos/go-oidc", "golang.org/x/sync"}},
	"functions":                   {[]string{"shared/connect", "shared/identity", "shared/setup", "shared/discovery", "shared/oauth", "shared/telemetry"}, slices.Concat([]string{"github.com/GoogleCloudPlatform/functions-framework-go", "github.com/rs/cors", "golang.org/x/sync"}, telling)},
	"functions/functionstest":     {[]string{"functions"}, []string{"github.com/pb33f/libopenapi", "github.com/pb33f/libopenapi-validator"}},
	"functions/app":               {everything, everything},
	"functions/cmd/gcpconnect":    {everything, everything},
	"functions/cmd/image":         {nil, []string{"github.com/google/go-containerregistry", "github.com/spdx/tools-golang", "golang.org/x/crypto/x509roots"}},
	"functions/cmd/smoke":         {[]string{"functions", "shared/connect"}, nil},
	"emulators":                   {[]string{"emulators/demo", "emulators/google", "emulators/stack", "shared/telemetry"}, nil},
	"emulators/console":           {[]string{"emulators/google"}, nil},
	"emulators/secretmanager":     {nil, []string{"cloud.google.com/go/secretmanager", "google.golang.org/grpc"}},
	"emulators/tasks":             {nil, []string{"cloud.google.com/go/cloudtasks", "google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto", "golang.org/x/time"}},
	"emulators/load":              {[]string{"emulators/demo", "emulators/google", "emulators/parts", "emulators/stack", "functions/app", "shared/config", "shared/telemetry"}, nil},
	"emulators/bench":             {[]string{"emulators/demo", "emulators/google", "emulators/parts", "emulators/stack", "functions", "shared/connect"}, []string{"cloud.google.com/go/cloudtasks", "golang.org/x/sync", "google.golang.org/api/option", "google.golang.org/grpc"}},
	"emulators/demo":              {[]string{"emulators/stack"}, nil},
	"emulators/google/googletest": {[]string{"emulators/google"}, nil},
	"emulators/google":            {nil, []string{"github.com/go-jose/go-jose"}},
	"emulators/parts":             {[]string{"shared/connect"}, nil},
	"emulators/parts/partstest":   {[]string{"emulators/parts"}, nil},
	"emulators/stack":             {everything, everything},
	"emulators/stack/stacktest":   {everything, everything},
	"emulators/deployment":        {[]string{"emulators/google", "emulators/parts", "emulators/secretmanager", "emulators/tasks"}, []string{"cloud.google.com/go/cloudtasks", "github.com/hashicorp/vault/api"}},
	"terraform":                   {nil, nil}, // tests alone
}

// telling is what rooms tell of their work with: the API of OpenTelemetry. Its
// SDK and exporters are for shared/telemetry alone.
var telling = []string{"go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/trace"}

// everything marks the rooms where the parts are put together.
var everything = []string{"*"}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImportsPointInward(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		rule, known := allowed[room]
		if !known {
			t.Errorf("%s is no room of the house: add it to the table with what it may import", room)
			continue
		}
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module)
			switch {
			case isOwn && strings.HasPrefix(own, "emulators/") && !inside(room, "emulators"):
				t.Errorf("%s imports %s: nothing outside emulators does", room, own)
			case isOwn && !matches(rule.rooms, own, false):
				t.Errorf("%s imports %s, which points the wrong way", room, own)
			case !isOwn && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") && !matches(rule.modules, imported, true):
				t.Errorf("%s imports %s, which is not for this room", room, imported)
			}
		}
	}
}

func matches(rules []string, imported string, below bool) bool {
	return slices.ContainsFunc(rules, func(rule string) bool {
		return rule == "*" || rule == imported || below && strings.HasPrefix(imported, rule+"/")
	})
}

func inside(room, folder string) bool { return room == folder || strings.HasPrefix(room, folder+"/") }

func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", path.Join(module, "..."))
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		if len(p.Imports) > 0 { // a room of tests alone has none
			packages = append(packages, p)
		}
	}
	if len(packages) < 10 {
		t.Fatalf("go list names %d packages: the rule would not be checked", len(packages))
	}
	return packages
}
