// Package roundtrip tests that what is written as JSON, to a file, a store or a
// socket, is what is read from it.
package roundtrip

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

// Check writes a value of type T with something in each of its fields, and the
// zero value, and reads them.
func Check[T any](t *testing.T) {
	t.Helper()
	for _, data := range written[T](t) {
		var found T
		err := json.Unmarshal(data, &found)
		again, againErr := json.Marshal(found)
		if err != nil || againErr != nil || string(again) != string(data) {
			t.Errorf("%T: %s: found %s, %v, %v", found, data, again, err, againErr)
		}
	}
}

// CheckDecode is Check for what is read by conf.Decode.
func CheckDecode[T any](t *testing.T) {
	t.Helper()
	Check[T](t)
	for _, data := range written[T](t) {
		var plain, found T
		var rep conf.Report
		conf.Decode(data, &found, &rep)
		if err := json.Unmarshal(data, &plain); err != nil || rep.Err() != nil || len(rep.Warnings()) > 0 || !reflect.DeepEqual(found, plain) {
			t.Errorf("%T: %s: found %+v, %v, %v; want %+v, %v", found, data, found, rep.Err(), rep.Warnings(), plain, err)
		}
	}
}

// written returns the JSON of the zero value, and of one that has everything.
func written[T any](t *testing.T) (out [][]byte) {
	t.Helper()
	var zero, full T
	fill(t, reflect.ValueOf(&full).Elem())
	for _, v := range []T{zero, full} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

var samples = []reflect.Value{
	reflect.ValueOf(netip.MustParseAddr("fd00::2")),
	reflect.ValueOf(netip.MustParsePrefix("10.1.0.0/24")),
	reflect.ValueOf(netip.MustParseAddrPort("[fd00::3]:53")),
	reflect.ValueOf(conf.MAC{2, 0, 0, 0, 0, 0x13}),
	reflect.ValueOf(time.Unix(1_700_000_000, 0).UTC()),
	reflect.ValueOf(json.RawMessage(`{"key":"value"}`)),
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	for _, s := range samples {
		if s.Type() == v.Type() {
			v.Set(s)
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("net/c1/eth0")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	default:
		t.Fatalf("no sample of a %s", v.Type())
	}
}
