package google

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"
	serviceusage "google.golang.org/api/serviceusage/v1"
)

// Google refuses a call whose mask names a field that there is not, and the write
// of a policy with it.
func TestMasksNameFieldsOfTheAnswers(t *testing.T) {
	t.Parallel()
	for mask, of := range map[string]any{
		serviceFields:   serviceusage.BatchGetServicesResponse{},
		operationFields: serviceusage.Operation{},
		writtenFields:   cloudresourcemanager.Policy{},
	} {
		outer, inner, _ := strings.Cut(strings.TrimSuffix(mask, ")"), "(")
		known := fieldNames(reflect.TypeOf(of))
		for _, name := range strings.Split(outer, ",") {
			if !slices.Contains(known, name) {
				t.Errorf("%q names %q; there are %v", mask, name, known)
			}
		}
		if inner == "" {
			continue
		}
		known = fieldNames(reflect.TypeFor[serviceusage.GoogleApiServiceusageV1Service]())
		for _, name := range strings.Split(inner, ",") {
			if !slices.Contains(known, name) {
				t.Errorf("%q names %q; there are %v", mask, name, known)
			}
		}
	}
}

func fieldNames(t reflect.Type) (names []string) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
