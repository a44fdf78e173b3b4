package conf

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

type member struct {
	Address netip.Addr     `json:"address"`
	MAC     MAC            `json:"mac"`
	Blocks  []netip.Prefix `json:"blocks"`
	Count   int            `json:"count"`
	Option  *bool          `json:"option"`
	Nested  struct {
		Name string `json:"name"`
	} `json:"nested"`
}

// What quick decodes means what it means to who looks at each value, who has
// nothing to say of it.
func FuzzQuick(f *testing.F) {
	for _, text := range []string{
		`[]`, `null`, `[null]`, `[{}]`, `[{"address": "192.0.2.1", "blocks": ["10.1.0.0/24", "fd00::/64"]}, {"mac": "02:00:00:00:00:0c"}]`,
		`[{"address": ""}]`, `[{"address": 7}]`, `[{"mac": "01:00:00:00:00:00"}]`, `[{"count": 7, "option": true, "nested": {"name": "x"}}]`,
		`[{"count": 7.5}]`, `[{"count": "7"}]`, `[{"nested": {"nam": "x"}}]`, `[{"_note": 1}]`, `[{"Address": "192.0.2.1"}]`, `[{"addreſs": "192.0.2.1"}]`,
		`[{"address": "192.0.2.1", "address": null}]`, `[{"blocks": null}]`, `[{"blocks": [null]}]`, `[{"option": null}]`, `[{"nested": null}]`, `{}`, `[[]]`, `[{"\u0041ddress": "192.0.2.1"}]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) || twice(json.NewDecoder(bytes.NewReader(data))) {
			return
		}
		var fast, slow []member
		if !quick(data, reflect.ValueOf(&fast).Elem()) {
			return
		}
		var raw []json.RawMessage
		var rep Report
		if err := json.Unmarshal(data, &raw); err != nil {
			t.Fatalf("%s is no list, but quick takes it", data)
		}
		slow = make([]member, len(raw))
		for i, elem := range raw {
			value("list", elem, reflect.ValueOf(&slow).Elem().Index(i), false, &rep)
		}
		if rep.Err() != nil || len(rep.Warnings()) > 0 || !reflect.DeepEqual(fast, slow) {
			t.Errorf("%s: quick finds %+v, else %+v, %v, %v", data, fast, slow, rep.Err(), rep.Warnings())
		}
	})
}

// twice reports whether an object of a value has a key twice. The standard leaves
// open what that means.
func twice(d *json.Decoder) bool {
	open, err := d.Token()
	if err != nil || open != json.Delim('{') && open != json.Delim('[') {
		return err != nil
	}
	seen := map[json.Token]bool{}
	for d.More() {
		if open == json.Delim('{') {
			key, keyErr := d.Token()
			if keyErr != nil || seen[key] {
				return true
			}
			seen[key] = true
		}
		if twice(d) {
			return true
		}
	}
	_, err = d.Token()
	return err != nil
}
