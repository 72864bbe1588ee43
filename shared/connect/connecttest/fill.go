package connecttest

import (
	"fmt"
	"reflect"
	"time"

	"gcpconnect/shared/connect"
)

// filled returns a T all of whose fields, also those of later releases, hold
// something else than their zero value, and each something of its own. The
// same seed gives the same T again, in memory of its own: so a copy to
// compare with does not depend on the Clone methods.
func filled[T any](seed string) T {
	var v T
	n := 0
	fill(reflect.ValueOf(&v).Elem(), seed, &n)
	return v
}

var timeType = reflect.TypeFor[time.Time]()

// firstTime has microseconds and is not in UTC: both must survive, the latter
// as a point in time.
var firstTime = time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.FixedZone("", 5*3600+1800))

func fill(v reflect.Value, path string, n *int) {
	*n++
	if v.Type() == timeType {
		v.Set(reflect.ValueOf(firstTime.Add(time.Duration(*n) * 1000001 * time.Microsecond)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		// Quotes, slashes, dots and letters beyond ASCII: what is stored is
		// data, whatever it looks like.
		v.SetString(fmt.Sprintf("%s %d é/\"'.`☁", path, *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name, n)
		}
		if version := v.FieldByName("Version"); version.IsValid() { // another's is not read, or not kept
			version.SetInt(connect.SchemaVersion)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), path, n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, path, n)
			fill(value, path, n)
			v.SetMapIndex(key, value)
		}
	default:
		panic(fmt.Sprintf("connecttest: %s is a %s, which fill does not know yet", path, v.Type()))
	}
}

// scramble changes everything that is reachable from *v, in place: a value
// that shares memory with it shows that.
func scramble[T any](v *T) { scrub(reflect.ValueOf(v).Elem()) }

func scrub(v reflect.Value) {
	switch {
	case v.Type() == timeType:
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			scrub(v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			scrub(v.Index(i))
		}
	case v.Kind() == reflect.Map:
		v.Clear()
	case v.Kind() == reflect.Pointer && !v.IsNil():
		scrub(v.Elem())
	}
	if v.CanSet() {
		v.SetZero()
	}
}
