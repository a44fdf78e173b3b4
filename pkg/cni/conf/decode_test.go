package conf

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample has a field of every kind that configurations have.
type sample struct {
	Embedded
	Text    string         `json:"text"`
	Flag    bool           `json:"flag"`
	Maybe   *bool          `json:"maybe"`
	Number  int            `json:"number"`
	Small   uint8          `json:"small"`
	Addr    netip.Addr     `json:"addr"`
	Prefix  netip.Prefix   `json:"prefix"`
	MAC     MAC            `json:"mac"`
	List    []int          `json:"list"`
	Sets    [][]inner      `json:"sets"`
	Inner   inner          `json:"inner"`
	Pointer *inner         `json:"pointer"`
	Open    inner          `json:"open" conf:"open"`
	Map     map[string]int `json:"map"`
	Raw     json.RawMessage
	RawKey  json.RawMessage `json:"raw"`
	Hidden  string          `json:"-"`
	lower   string
}

type inner struct {
	Port   int `json:"port"`
	Nested struct {
		Deep bool `json:"deep"`
	} `json:"nested"`
}

// Embedded is exported, as encoding/json wants of embedded structs.
type Embedded struct {
	Name string `json:"name"`
}

func decode(text string) (sample, *Report) {
	s, r := sample{Number: 42, Flag: true, lower: "l"}, &Report{}
	Decode([]byte(text), &s, r)
	return s, r
}

func TestDecode(t *testing.T) {
	s, r := decode(`{"name": "n", "text": "t", "flag": false, "maybe": true, "number": -3, "small": 255,
		"addr": "10.1.0.1", "prefix": "fd00::/64", "mac": "02:00:00:00:00:01", "list": [1, 2],
		"sets": [[{"port": 1}], []], "inner": {"port": 2, "nested": {"deep": true}}, "pointer": {"port": 3},
		"open": {"port": 4, "theirs": 5}, "map": {"Any": 6}, "raw": {"x": [1]}, "_comment": 1, "cni.dev/x": 2}`)
	if len(r.Problems()) > 0 || len(r.Warnings()) > 0 || r.Err() != nil {
		t.Error(r.Problems(), r.Warnings())
	}
	yes := true
	want := sample{
		Embedded: Embedded{"n"}, Text: "t", Maybe: &yes, Number: -3, Small: 255,
		Addr: netip.MustParseAddr("10.1.0.1"), Prefix: netip.MustParsePrefix("fd00::/64"), MAC: MAC{2, 0, 0, 0, 0, 1},
		List: []int{1, 2}, Sets: [][]inner{{{Port: 1}}, {}}, Inner: inner{Port: 2}, Pointer: &inner{Port: 3},
		Open: inner{Port: 4}, Map: map[string]int{"Any": 6}, RawKey: json.RawMessage(`{"x": [1]}`), lower: "l",
	}
	want.Inner.Nested.Deep = true
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// One problem each, with the path of the value, what was found and what is wanted.
func TestDecodeProblems(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                                   `configuration: found [], want a JSON object`,
		`"x"`:                                  `configuration: found "x", want a JSON object`,
		`{"text": 1}`:                          `text: found 1, want a string`,
		`{"flag": "yes"}`:                      `flag: found "yes", want true or false`,
		`{"maybe": 0}`:                         `maybe: found 0, want true or false`,
		`{"number": "3"}`:                      `number: found "3", want a whole number`,
		`{"number": 1.5}`:                      `number: found 1.5, want a whole number`,
		`{"number": 1e30}`:                     `number: found 1e30, want a whole number`,
		`{"small": 256}`:                       `small: found 256, want a whole number, 0 or more`,
		`{"small": -1}`:                        `small: found -1, want a whole number, 0 or more`,
		`{"addr": "10.1.0"}`:                   `addr: found "10.1.0", want an IP address such as "10.1.0.2" or "fd00::2"`,
		`{"prefix": "10.1.0.0"}`:               `prefix: found "10.1.0.0", want a subnet such as "10.1.0.0/24" or "fd00::/64"`,
		`{"mac": "01:00:00:00:00:01"}`:         `mac: found "01:00:00:00:00:01", want a unicast MAC address such as "02:42:0a:01:00:02"`,
		`{"mac": 1}`:                           `mac: found 1, want a unicast MAC address such as "02:42:0a:01:00:02"`,
		`{"list": 1}`:                          `list: found 1, want a list, each element a whole number`,
		`{"list": [1, "x", 3]}`:                `list[1]: found "x", want a whole number`,
		`{"sets": [{"port": 1}]}`:              `sets[0]: found {"port": 1}, want a list, each element an object`,
		`{"sets": [[1]]}`:                      `sets[0][0]: found 1, want a JSON object`,
		`{"sets": [[{}, {"port": ""}]]}`:       `sets[0][1].port: found "", want a whole number`,
		`{"inner": [1]}`:                       `inner: found [1], want a JSON object`,
		`{"inner": {"nested": {"deep": 1}}}`:   `inner.nested.deep: found 1, want true or false`,
		`{"pointer": {"port": []}}`:            `pointer.port: found [], want a whole number`,
		`{"open": {"port": "x", "theirs": 1}}`: `open.port: found "x", want a whole number`,
		`{"map": {"a": "b"}}`:                  `map: found {"a": "b"}, want an object, each value a whole number`,
		`{"text": ["` + strings.Repeat("x", 99) + `"]}`: `text: found ["` + strings.Repeat("x", 58) + `…, want a string`,
	} {
		s, r := decode(text)
		if err := r.Err(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if s.Number != 42 || !s.Flag {
			t.Errorf("%s: a default is lost: %+v", text, s)
		}
	}
}

func TestDecodeGoesOn(t *testing.T) {
	s, r := decode(`{"flag": 1, "number": "x", "text": "t", "list": [1, "x", 3]}`)
	want := []string{
		`flag: found 1, want true or false`, `list[1]: found "x", want a whole number`, `number: found "x", want a whole number`,
	}
	if !slices.Equal(r.Problems(), want) {
		t.Errorf("%q, want %q", r.Problems(), want)
	}
	if s.Text != "t" || !slices.Equal(s.List, []int{1, 0, 3}) {
		t.Errorf("what is right is lost: %+v", s)
	}
}

// null is as if the key were not there.
func TestDecodeNull(t *testing.T) {
	s, r := decode(`{"text": null, "flag": null, "maybe": null, "number": null, "addr": null, "prefix": null, "mac": null,
		"list": null, "sets": null, "inner": null, "pointer": null, "open": null, "map": null, "raw": null}`)
	if len(r.Problems()) > 0 || len(r.Warnings()) > 0 {
		t.Error(r.Problems(), r.Warnings())
	}
	if want, _ := decode(`{}`); !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestDecodeKeysInEitherCase(t *testing.T) {
	s, r := decode(`{"TEXT": "t", "Name": "n", "InNeR": {"PORT": 5}, "Sets": [[{"Port": 6}]]}`)
	if s.Text != "t" || s.Name != "n" || s.Inner.Port != 5 || s.Sets[0][0].Port != 6 || len(r.Warnings()) > 0 {
		t.Errorf("%+v %q", s, r.Warnings())
	}
	s, r = decode(`{"Text": "other", "text": "this"}`)
	if want := []string{`text: counts, rather than "Text", which is the same key`}; s.Text != "this" || !slices.Equal(r.Warnings(), want) {
		t.Errorf("%q %q, want %q", s.Text, r.Warnings(), want)
	}
}

func TestDecodeUnknownKeys(t *testing.T) {
	for text, want := range map[string]string{
		`{"tekst": 1}`:                     `tekst: unknown key, ignored; did you mean "text"?`,
		`{"nmber": 1}`:                     `nmber: unknown key, ignored; did you mean "number"?`,
		`{"NUMBERS": 1}`:                   `NUMBERS: unknown key, ignored; did you mean "number"?`,
		`{"colour": 1}`:                    `colour: unknown key, ignored`,
		`{"hidden": 1}`:                    `hidden: unknown key, ignored`,
		`{"inner": {"prot": 1}}`:           `inner.prot: unknown key, ignored; did you mean "port"?`,
		`{"sets": [[{}, {"ports": 1}]]}`:   `sets[0][1].ports: unknown key, ignored; did you mean "port"?`,
		`{"open": {"nested": {"dep": 1}}}`: ``,
		`{"": 1}`:                          `: unknown key, ignored`,
	} {
		_, r := decode(text)
		if got := strings.Join(r.Warnings(), "; "); got != want || r.Err() != nil {
			t.Errorf("%s: %q (%v), want %q", text, got, r.Err(), want)
		}
	}
}

// What could not be decoded is not judged a second time.
func TestReportOfUndecoded(t *testing.T) {
	_, r := decode(`{"number": "x", "sets": [[{"port": "y"}]]}`)
	before := len(r.Problems())
	r.Range("number", 0, 1, 2)
	r.Missing("sets[0][0].port.deeper", "x")
	r.Conflict("text, number", "contradict")
	if len(r.Problems()) != before {
		t.Errorf("judged again: %q", r.Problems())
	}
	r.Range("numbers", 0, 1, 2)
	r.Bad("sets[0][0]", 1, "x")
	r.Bad("sets[0][0]", 2, "x")
	if len(r.Problems()) != before+3 {
		t.Errorf("not judged: %q", r.Problems())
	}
}

func TestReport(t *testing.T) {
	var r Report
	r.Range("a", 1, 1, 2)
	r.LinkName("b", "eth0")
	r.LinkName("c", strings.Repeat("x", 15))
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	r.Range("a", 0, 1, 2)
	r.Missing("b", "a %s", "thing")
	r.Conflict("c, d", "exclude one another")
	r.Bad("e", netip.MustParseAddr("10.1.0.1"), "100%% other")
	const want = `a: found 0, want 1 to 2; b: missing, want a thing; c, d: exclude one another; e: found "10.1.0.1", want 100% other`
	if r.Err() == nil || r.Err().Error() != want {
		t.Errorf("%v, want %s", r.Err(), want)
	}
	for _, name := range []string{"", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\nb", "é", strings.Repeat("x", 16), "a\x00"} {
		var one Report
		if one.LinkName("x", name); one.Err() == nil {
			t.Errorf("%q passes for a link name", name)
		}
	}
}

// Whatever stands there, it is decoded or reported; nothing panics.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `[]`, `{"number": 1e999}`, `{"sets": [[null], null]}`, `{"pointer": {"nested": {"deep": null}}}`,
		`{"Text": 1, "text": "x"}`, `{"mac": ""}`, `{"addr": "", "prefix": ""}`, `{"raw": nul`, "{\"\\u0000\": \"\\ud800\"}", `{"open": {"x": {}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sample
		var r Report
		Decode(data, &s, &r)
		if !json.Valid(data) && r.Err() == nil {
			t.Errorf("%q is no JSON and passes", data)
		}
		var plain map[string]json.RawMessage
		if json.Unmarshal(data, &plain) != nil && r.Err() == nil {
			t.Errorf("%q is no object and passes", data)
		}
	})
}
