package zone

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web-1": "web-1", "a_b": "a_b", "_x": "_x", "a.b": "a.b", "0": "0", strings.Repeat("a", 63): strings.Repeat("a", 63),
		"": "", ".": "", "a.": "", ".a": "", "a..b": "", "-a": "", "a-": "", "a b": "", "a/b": "", "a\nb": "", "a\x00": "", "é": "", "a#b": "",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 127): "", strings.Repeat("abcdefg.", 32): "",
	} {
		if got, err := ParseName(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
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
