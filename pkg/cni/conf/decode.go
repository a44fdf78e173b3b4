package conf

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/agnivade/levenshtein"
)

// Decode reads a JSON object into the struct that into points to. Unlike
// encoding/json it goes on past the first mistake: each value of a wrong type
// is reported with its path and leaves its field as it was; each unknown key is
// a warning, with the known key that it may have been meant for. Keys match in
// either case, as runtimes send both.
//
// Fields of type json.RawMessage are taken as they are. Keys that start with
// "_" (comments) or "cni.dev/" (reserved by the CNI specification) are known. A
// field tagged `conf:"open"` holds an object that others write into too: its
// unknown keys are theirs and give no warning.
func Decode(data []byte, into any, r *Report) {
	DecodeAt("", data, into, r)
}

// DecodeAt is Decode for a value of any type that stands at a path of a larger
// configuration, the rest of which is somebody else's.
func DecodeAt(path string, data []byte, into any, r *Report) {
	value(path, data, reflect.ValueOf(into).Elem(), false, r)
}

// MAC is an EUI-48 hardware address as a configuration holds it.
type MAC net.HardwareAddr

// MarshalText is the inverse of UnmarshalText. Without it, encoding/json writes
// the bytes in base64.
func (m MAC) MarshalText() ([]byte, error) { return []byte(net.HardwareAddr(m).String()), nil }

// UnmarshalText accepts the forms of net.ParseMAC.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = nil
		return nil
	}
	mac, err := net.ParseMAC(string(text))
	if err == nil && (len(mac) != 6 || mac[0]&1 != 0 || [6]byte(mac) == [6]byte{}) {
		err = fmt.Errorf("not a unicast EUI-48 address")
	}
	*m = MAC(mac)
	return err
}

var text = reflect.TypeFor[encoding.TextUnmarshaler]()

// wanted describes the types whose JSON form is not plain from their kind.
var wanted = map[reflect.Type]string{
	reflect.TypeFor[netip.Addr]():   `an IP address such as "10.1.0.2" or "fd00::2"`,
	reflect.TypeFor[netip.Prefix](): `a subnet such as "10.1.0.0/24" or "fd00::/64"`,
	reflect.TypeFor[MAC]():          `a unicast MAC address such as "02:42:0a:01:00:02"`,
}

func want(t reflect.Type) string {
	if w, ok := wanted[t]; ok {
		return w
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list, each element " + want(t.Elem())
	case reflect.Struct:
		return "an object"
	case reflect.Map:
		return "an object, each value " + want(t.Elem())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	default:
		return "a whole number"
	}
}

func value(path string, data json.RawMessage, v reflect.Value, open bool, r *Report) {
	t := v.Type()
	switch {
	case bytes.Equal(data, []byte("null")) && path != "":
	case t == reflect.TypeFor[json.RawMessage]():
		v.SetBytes(data)
	case t.Kind() == reflect.Pointer:
		target := reflect.New(t.Elem())
		value(path, data, target.Elem(), open, r)
		v.Set(target)
	case reflect.PointerTo(t).Implements(text):
		scalar(path, data, v, r)
	case t.Kind() == reflect.Struct:
		object(path, data, v, open, r)
	case t.Kind() == reflect.Slice:
		list(path, data, v, open, r)
	default:
		scalar(path, data, v, r)
	}
}

// scalar also decodes maps, whose keys are the user's own.
func scalar(path string, data json.RawMessage, v reflect.Value, r *Report) {
	target := reflect.New(v.Type())
	if err := json.Unmarshal(data, target.Interface()); err != nil {
		r.wrong(path, data, want(v.Type()))
		return
	}
	v.Set(target.Elem())
}

func list(path string, data json.RawMessage, v reflect.Value, open bool, r *Report) {
	if v.Type().Elem().Kind() == reflect.Struct && !open && quick(data, v) {
		return
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		r.wrong(path, data, want(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(raw), len(raw)))
	for i, elem := range raw {
		value(fmt.Sprintf("%s[%d]", path, i), elem, v.Index(i), open, r)
	}
}

// quick decodes a list of objects of which nothing is to be said, and reports
// whether it did: to look at each value by itself takes ten times as long. Two keys
// that differ in case alone have a warning, so capitals are not for here.
func quick(data json.RawMessage, v reflect.Value) bool {
	for _, c := range data {
		if 'A' <= c && c <= 'Z' || c == '\\' || c > unicode.MaxASCII {
			return false
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	target := reflect.New(v.Type())
	if err := d.Decode(target.Interface()); err != nil || target.Elem().IsNil() {
		return false
	}
	v.Set(target.Elem())
	return true
}

func object(path string, data json.RawMessage, v reflect.Value, open bool, r *Report) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		r.wrong(cmp.Or(path, "configuration"), data, "a JSON object")
		return
	}
	fields, seen := map[string]field{}, map[string]string{}
	collect(v, fields)
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		name := join(path, key)
		if f, ok := lookup(fields, key); ok {
			if other, twice := seen[f.name]; twice {
				r.Warn(name, "counts, rather than %q, which is the same key", other)
			}
			seen[f.name] = key
			value(name, raw[key], f.value, open || f.open, r)
		} else if !open && !strings.HasPrefix(key, "_") && !strings.HasPrefix(key, "cni.dev/") {
			r.Warn(name, "unknown key%s", suggestion(key, fields))
		}
	}
}

// A field is where the value of a key goes.
type field struct {
	name  string
	value reflect.Value
	open  bool // unknown keys inside are somebody else's
}

// collect gathers the settable fields of v by JSON name, embedded structs too.
func collect(v reflect.Value, into map[string]field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			collect(v.Field(i), into)
		case f.IsExported() && name != "" && name != "-":
			into[name] = field{name, v.Field(i), f.Tag.Get("conf") == "open"}
		}
	}
}

func lookup(fields map[string]field, key string) (field, bool) {
	if f, ok := fields[key]; ok {
		return f, true
	}
	for name, f := range fields {
		if strings.EqualFold(name, key) {
			return f, true
		}
	}
	return field{}, false
}

// suggestion names the known key nearest to an unknown one, if one is near.
func suggestion(key string, fields map[string]field) string {
	best, distance := "", 1+len(key)/4
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if d := levenshtein.ComputeDistance(strings.ToLower(key), strings.ToLower(name)); d <= distance {
			best, distance = name, d-1
		}
	}
	if best == "" {
		return ", ignored"
	}
	return fmt.Sprintf(", ignored; did you mean %q?", best)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
