package connecttest

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gcpconnect/shared/connect"
)

// The suites see a forgotten field only if filled fills it.
func TestFilledLeavesNoFieldEmpty(t *testing.T) {
	everyFieldIsFilled[connect.Login](t)
	everyFieldIsFilled[connect.Connection](t)
	everyFieldIsFilled[connect.Setup](t)
	everyFieldIsFilled[connect.Change](t)
	everyFieldIsFilled[connect.Resource](t)
	everyFieldIsFilled[connect.Discovery](t)
	everyFieldIsFilled[connect.Token](t)
}

func everyFieldIsFilled[T any](t *testing.T) {
	t.Helper()
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if v.IsZero() {
			t.Errorf("%s is empty", path)
		}
		switch {
		case v.Type() == timeType:
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				walk(path+"[]", v.Index(i))
			}
		}
	}
	walk(reflect.TypeFor[T]().Name(), reflect.ValueOf(filled[T]("seed")))
}

func TestFilledGivesTheSameAgainInOtherMemory(t *testing.T) {
	one, two := filled[connect.Setup]("seed"), filled[connect.Setup]("seed")
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("two fillings of one seed differ:\n%s", diff)
	}
	scramble(&one)
	if diff := cmp.Diff(two, filled[connect.Setup]("seed")); diff != "" {
		t.Errorf("scrambling one filling changed another:\n%s", diff)
	}
}

func TestScrambleReachesSharedMemory(t *testing.T) {
	v := filled[connect.Setup]("seed")
	shallow := v
	scramble(&shallow)
	if v.Projects[0].Operations != nil || v.Selected[0] != "" {
		t.Error("a shallow copy was scrambled, and what it shared stayed as it was")
	}
	r := filled[connect.Resource]("seed")
	other := r
	scramble(&other)
	if len(r.Labels) != 0 {
		t.Error("a shallow copy was scrambled, and its map stayed as it was")
	}
}
