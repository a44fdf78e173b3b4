package link

import (
	"strings"
	"testing"
)

func TestVLANs(t *testing.T) {
	for name, want := range map[string]string{
		"eth0":         "eth0",
		"eth0.50":      "eth0 eth0.50=50",
		"eth0.10.20":   "eth0 eth0.10=10 eth0.10.20=20",
		"br.lan":       "br.lan",
		"br.lan.7":     "br.lan br.lan.7=7",
		"eth0.0":       "eth0.0",
		"eth0.4094":    "eth0 eth0.4094=4094",
		"eth0.4095":    "eth0.4095",
		"eth0.007":     "eth0.007", // the kernel's name, but not one that the plugin would make
		"eth0.+5":      "eth0.+5",
		"eth0.":        "eth0.",
		"":             "",
		"eth0.5.4095":  "eth0.5.4095",
		"eth0.4095.50": "eth0.4095 eth0.4095.50=50",
	} {
		var words []string
		for _, l := range VLANs(name) {
			word := l.Name
			if l.Kind == kindVLAN {
				word += "=" + l.Name[strings.LastIndex(l.Name, ".")+1:]
				if l.Name != l.Parent+word[strings.LastIndex(l.Name, "."):strings.Index(word, "=")] {
					t.Errorf("%s: the parent of %s is %q", name, l.Name, l.Parent)
				}
			}
			words = append(words, word)
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%q stands on %q, want %q", name, got, want)
		}
	}
}
