package owner

import (
	"net/netip"
	"strings"
	"testing"
)

// long is a name of n bytes.
func long(n int) string { return strings.Repeat("n", n) }

// keys are pairwise different attachments whose marks are near to one another.
func keys() []Key {
	return []Key{
		{"a", "c", "eth0"},
		{"a", "c", "eth1"},
		{"a", "c2", "eth0"},
		{"a-b", "c", "eth0"},
		{"a.b", "c", "eth0"},
		{"ab", "c", "eth0"},
		{"A", "c", "eth0"},
		{"ac", "", "eth0"},
		{"", "ac", "eth0"},
		{long(39), "c", "eth0"},
		{long(40), "c", "eth0"},
		{long(41), "c", "eth0"},
		{long(39) + "x", "c", "eth0"},
		{long(200), "c", "eth0"},
		{"a", long(72), "eth0"},
		{"a", long(73), "eth0"},
		{"a", long(74), "eth0"},
		{"a", long(72) + "x", "eth0"},
		{long(300), long(300), long(15)},
		{long(300), long(301), long(15)},
		{long(301), long(300), long(15)},
		{long(300), long(300), long(14) + "x"},
	}
}

func TestMarksAreUnique(t *testing.T) {
	marks, links := map[Mark]Key{}, map[string]Key{}
	for _, k := range keys() {
		m := k.Mark()
		if other, taken := marks[m]; taken {
			t.Errorf("%+v and %+v have the mark %s", k, other, m)
		}
		if other, taken := links[m.HostLink()]; taken {
			t.Errorf("%+v and %+v have the link %s", k, other, m.HostLink())
		}
		marks[m], links[m.HostLink()] = k, k
		if len(m) > MaxMark || !m.Valid() {
			t.Errorf("%+v: mark %q of %d bytes is not valid", k, m, len(m))
		}
	}
}

// A mark is on the disk and in the kernel of running hosts, so that another
// version of the suite has to find the same.
func TestMarkIsStable(t *testing.T) {
	for _, c := range []struct {
		key        Key
		mark, link string
	}{
		{Key{"net", "c1", "eth0"}, "net/c1/eth0", "veth6e5fcbeeefc"},
		{Key{long(39), long(72), "eth0"}, long(39) + "/" + long(72) + "/eth0", "veth6f871b3a3e2"},
		{Key{long(40), "c1", "eth0"}, long(22) + "~527ccc3e4ef98ed0/c1/eth0", "veth87fc113154c"},
	} {
		m := c.key.Mark()
		if string(m) != c.mark || m.HostLink() != c.link {
			t.Errorf("%+v: %s, %s; want %s, %s", c.key, m, m.HostLink(), c.mark, c.link)
		}
	}
}

func TestOnNetwork(t *testing.T) {
	for _, k := range keys() {
		for _, other := range keys() {
			if got, want := k.Mark().OnNetwork(other.Network), k.Network == other.Network; got != want {
				t.Errorf("mark %s on network %q: %v, want %v", k.Mark(), other.Network, got, want)
			}
		}
	}
	if Mark("").OnNetwork("") {
		t.Error("the mark of nothing is on a network")
	}
}

func TestParts(t *testing.T) {
	for _, k := range keys() {
		m := k.Mark()
		if got := m.Network() + "/" + m.Container() + "/" + m.IfName(); got != string(m) || m.IfName() != k.IfName {
			t.Errorf("the parts of %s are %s", m, got)
		}
	}
	if m := Mark(""); m.Network()+m.Container()+m.IfName() != "" {
		t.Error("the mark of nothing has parts")
	}
}

func TestValid(t *testing.T) {
	for mark, want := range map[Mark]bool{
		"a/b/c": true, "": false, "a": false, "a/b": false, "a/b/c/d": false,
		Mark(long(124) + "/b/c"): true, Mark(long(125) + "/b/c"): false,
	} {
		if got := mark.Valid(); got != want {
			t.Errorf("%q: %v, want %v", mark, got, want)
		}
	}
}

func TestLink(t *testing.T) {
	for _, prefix := range []string{"v", "veth", "a-long-prefix"} {
		m := Key{"net", "c1", "eth0"}.Mark()
		if l := m.Link(prefix); len(l) != 15 || !strings.HasPrefix(l, prefix) || l != m.Link(prefix) {
			t.Errorf("link %q of prefix %q", l, prefix)
		}
	}
}

// The kernel refuses a multicast address; a universal one could be somebody's.
func TestMAC(t *testing.T) {
	seen := map[string]bool{}
	for i := range 256 {
		for _, mac := range [][]byte{
			MACOf(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})),
			MACOf(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)})),
			Key{"net", string(rune('a' + i)), "eth0"}.Mark().MAC(),
			Key{"net", string(rune('a' + i)), "eth0"}.Mark().HostMAC(),
		} {
			if len(mac) != 6 || mac[0]&1 != 0 || mac[0]&2 == 0 {
				t.Fatalf("%x is no locally administered unicast address", mac)
			}
			if seen[string(mac)] {
				t.Errorf("%x twice", mac)
			}
			seen[string(mac)] = true
		}
	}
}

// Any two keys that CNI allows share a mark only if they are the same.
func FuzzMark(f *testing.F) {
	f.Add("a", "c1", "eth0", "a-b", "c1", "eth0")
	f.Add(long(39), "c1", "eth0", long(40), "c1", "eth0")
	f.Add("a", long(72), "eth0", "a", long(73), "eth0")
	f.Fuzz(func(t *testing.T, n1, c1, i1, n2, c2, i2 string) {
		a, b := Key{n1, c1, i1}, Key{n2, c2, i2}
		if !allowed(a) || !allowed(b) {
			return
		}
		if len(a.Mark()) > MaxMark || !a.Mark().Valid() {
			t.Errorf("%+v: mark %q", a, a.Mark())
		}
		if a != b && a.Mark() == b.Mark() {
			t.Errorf("%+v and %+v have the mark %s", a, b, a.Mark())
		}
		if a.Mark().OnNetwork(b.Network) != (a.Network == b.Network) {
			t.Errorf("%s on network %q", a.Mark(), b.Network)
		}
	})
}

// allowed: the specification's names of networks and containers have no '/' and
// no '~'; the kernel's of links have no '/' and at most 15 bytes.
func allowed(k Key) bool {
	return k.Network != "" && k.ContainerID != "" && k.IfName != "" &&
		!strings.ContainsAny(k.Network+k.ContainerID, "/~") && !strings.Contains(k.IfName, "/") && len(k.IfName) <= 15
}
