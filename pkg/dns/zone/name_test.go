package zone

import (
	"slices"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web-1": "web-1", "a_b": "a_b", "_x": "_x", "a.b": "a.b", "0a": "0a", "deadbeef": "deadbeef", "123456789012": "123456789012", strings.Repeat("a", 63): strings.Repeat("a", 63),
		"": "", ".": "", "a.": "", ".a": "", "a..b": "", "-a": "", "a-": "", "a b": "", "a/b": "", "a\nb": "", "a\x00": "", "é": "", "a#b": "",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 127): "", strings.Repeat("abcdefg.", 32): "",
	} {
		if got, err := ParseName(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
}

// A12: what means the host itself, and what a C library takes for an address without
// asking anybody, is nobody's name.
func TestA12ReservedNames(t *testing.T) {
	for _, name := range []string{
		"localhost", "LocalHost", "web.localhost", "ip6-localhost", "ip6-loopback", "localhost.localdomain",
		"127.0.0.1", "10.1.0.2", "127.1", "1.2.3", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "0x7f000001", "0", "80",
	} {
		if got, err := ParseName(name); err == nil {
			t.Errorf("%q: taken as %q", name, got)
		}
	}
	for _, name := range []string{"localhost1", "my-localhost", "localhost.net", "1.2.3.4.5", "256.1.1.1", "1.2.3.x", "4294967296", "0x", "09.1"} {
		if _, err := ParseName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	// Records of earlier versions, and of other hosts, may have them; and a network's
	// name may make one.
	r, err := ParseRecord([]byte(`{"mark":"4/c1/eth0","network":"4","names":["localhost","127.0.0.1","web","1.2.3a","web.localhost"],"domain":"localhost","addresses":["10.0.0.1"]}`))
	if err != nil || !slices.Equal(r.Names, []string{"web", "1.2.3a"}) || r.Domain != "" {
		t.Fatalf("%q below %q, %v", r.Names, r.Domain, err)
	}
	r.Names = append(r.Names, "1.2.a")
	v := catalog(&r).View("c1")
	for _, name := range []string{"localhost", "127.0.0.1", "web.localhost", "localhost.localhost"} {
		if a := v.Answer(name, typeA); a.Known {
			t.Errorf("%q: %v", name, a)
		}
	}
	if a := v.Answer("web", typeA); len(a.Addrs) != 1 {
		t.Errorf("web: %v", a)
	}
	if file := string(Hosts([]string{"4"}, []Record{r})); strings.Contains(strings.TrimPrefix(file, header([]string{"4"})), "localhost") {
		t.Errorf("hosts file: %s", file)
	}
}

func TestShortID(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for in, want := range map[string]string{
		id: "0123456789ab", "default-" + id: "0123456789ab", "k8s.io-" + id: "0123456789ab", "c1": "c1", "": "", "Name-With-Hyphens": "name-with-hy", "x-" + id[1:]: "x-123456789a",
		"abcdefghijk-m": "abcdefghijk",
	} {
		if got := ShortID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
