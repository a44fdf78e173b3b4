package link

import (
	"net/netip"
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

// Who claims an address: a reply, a question of its owner, another probe; not a
// question of somebody else.
func TestClaimed(t *testing.T) {
	ours := netip.MustParseAddr("10.1.0.2")
	packet := func(operation byte, sender, target string) []byte {
		p := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, 2, 0, 0, 0, 0, 9)
		p = append(p, netip.MustParseAddr(sender).AsSlice()...)
		p = append(p, 0, 0, 0, 0, 0, 0)
		return append(p, netip.MustParseAddr(target).AsSlice()...)
	}
	for what, c := range map[string]struct {
		packet []byte
		claims bool
	}{
		"reply":             {packet(2, "10.1.0.2", "0.0.0.0"), true},
		"its owner asks":    {packet(1, "10.1.0.2", "10.1.0.1"), true},
		"announcement":      {packet(1, "10.1.0.2", "10.1.0.2"), true},
		"another probe":     {packet(1, "0.0.0.0", "10.1.0.2"), true},
		"probe for another": {packet(1, "0.0.0.0", "10.1.0.3"), false},
		"somebody asks":     {packet(1, "10.1.0.1", "10.1.0.2"), false},
		"another's reply":   {packet(2, "10.1.0.3", "10.1.0.2"), false},
		"IPv6 over what":    {append([]byte{0, 1, 0x86, 0xdd, 6, 4, 0, 2}, make([]byte, 20)...), false},
	} {
		addr, mac := claimed(c.packet, []netip.Addr{netip.MustParseAddr("10.1.0.7"), ours})
		if (mac != nil) != c.claims || c.claims && (addr != ours || mac.String() != "02:00:00:00:00:09") {
			t.Errorf("%s: %v %v, want claimed %v", what, addr, mac, c.claims)
		}
	}
}
