package peer_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

func prefixes(words ...string) (out []netip.Prefix) {
	for _, w := range words {
		out = append(out, netip.MustParsePrefix(w))
	}
	return out
}

// What the kernel of a host holds: one entry for a host, one neighbour a family,
// one route a block, however many containers there are; nothing for a host that
// has no block.
func TestRouted(t *testing.T) {
	self := peer.Host{Address: netip.MustParseAddr("192.0.2.11"), Blocks: prefixes("10.1.7.7/32", "10.1.1.0/24")}
	others := peer.Snapshot{
		{Address: netip.MustParseAddr("192.0.2.12"), MAC: conf.MAC{2, 0, 0, 0, 0, 12}, Blocks: prefixes("10.1.2.0/24", "10.1.9.9/32", "fd00:0:0:2::/64")},
		{Address: netip.MustParseAddr("192.0.2.13")},
	}
	const want = `bridge fdb replace 02:00:00:00:00:0c dev vx1 dst 192.0.2.12
ip neigh replace 10.1.2.1 lladdr 02:00:00:00:00:0c dev vx1
ip neigh replace fd00:0:0:2::1 lladdr 02:00:00:00:00:0c dev vx1
ip route replace 10.1.2.0/24 via 10.1.2.1 dev vx1 onlink src 10.1.1.1
ip route replace 10.1.9.9/32 via 10.1.2.1 dev vx1 onlink src 10.1.1.1
ip route replace fd00:0:0:2::/64 via fd00:0:0:2::1 dev vx1 onlink`
	if got := strings.ReplaceAll(peer.Routed("vx1", self, others).String(), " ; ", "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestRanges(t *testing.T) {
	subnets := prefixes("10.1.0.0/16", "fd00::/48")
	blocks := prefixes("10.1.1.0/24", "10.1.7.7/32", "10.1.2.0/29", "fd00:0:0:1::/64")
	for flat, want := range map[bool]string{
		false: "[[{10.1.1.0/24 10.1.1.2 10.1.1.254 10.1.1.1} {10.1.2.0/29 10.1.2.2 10.1.2.6 10.1.2.1}] " +
			"[{fd00:0:0:1::/64 fd00:0:0:1::2 fd00::1:ffff:ffff:ffff:ffff fd00:0:0:1::1}]]",
		true: "[[{10.1.0.0/16 10.1.1.2 10.1.1.254 10.1.1.1} {10.1.0.0/16 10.1.2.2 10.1.2.6 10.1.2.1}] " +
			"[{fd00::/48 fd00:0:0:1::2 fd00::1:ffff:ffff:ffff:ffff fd00:0:0:1::1}]]",
	} {
		if got := fmt.Sprint(peer.Ranges(blocks, subnets, flat)); got != want {
			t.Errorf("flat %v:\n%s, want\n%s", flat, got, want)
		}
	}
}

// A file that is half written has no hosts, rather than some.
func TestReadFile(t *testing.T) {
	whole := `{"peers": [{"address": "192.0.2.11", "blocks": ["10.1.1.0/24"]}, {"address": "192.0.2.12", "mac": "02:00:00:00:00:0c"}]}`
	path := filepath.Join(t.TempDir(), "peers.json")
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, []byte(whole[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		var rep conf.Report
		hosts, err := peer.ReadFile(path, &rep)
		if n < len(whole) && (err == nil || hosts != nil) {
			t.Errorf("%q: %v, %v", whole[:n], hosts, err)
		}
		if n == len(whole) && (err != nil || rep.Err() != nil || len(hosts) != 2 || hosts[1].VTEP().String() != "02:00:00:00:00:0c") {
			t.Errorf("%v, %v, %v", hosts, err, rep.Err())
		}
	}
}

func TestChanges(t *testing.T) {
	host := func(last byte, mac conf.MAC, blocks ...string) peer.Host {
		return peer.Host{Address: netip.AddrFrom4([4]byte{192, 0, 2, last}), MAC: mac, Blocks: prefixes(blocks...)}
	}
	before := peer.Snapshot{host(1, nil, "10.1.1.0/24"), host(2, nil, "10.1.2.0/24"), host(3, nil), host(4, nil, "10.1.4.0/24"), host(5, nil)}
	after := peer.Snapshot{host(6, nil), host(5, conf.MAC{2, 0, 0, 0, 0, 5}), host(4, nil), host(3, nil, "10.1.4.0/24"), host(1, nil, "10.1.1.0/24")}
	was, is := peer.Changes(before, after)
	const wantWas, wantIs = "[192.0.2.5 192.0.2.4 192.0.2.3 192.0.2.2]", "[192.0.2.6 192.0.2.5 192.0.2.4 192.0.2.3]"
	if got := fmt.Sprint(was.Addresses()); got != wantWas {
		t.Errorf("found %s, want %s", got, wantWas)
	}
	if got := fmt.Sprint(is.Addresses()); got != wantIs {
		t.Errorf("found %s, want %s", got, wantIs)
	}
	if was, is = peer.Changes(after, after); was != nil || is != nil {
		t.Errorf("found %v, %v where nothing has changed", was, is)
	}
}

// A row is a resource in a table instead of a kernel.
type row struct {
	engine.Resource
	table map[string]string
}

func (r row) Apply(context.Context) error { r.table[r.Key()] = r.String(); return nil }

func (r row) Remove(context.Context) error { delete(r.table, r.Key()); return nil }

// What the kernel of a host holds after changes only is what it would hold after a
// look at all: also where blocks change hands and hosts their addresses.
func TestRoutedFollows(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	table := map[string]string{}
	routed := func(hosts peer.Snapshot) engine.Set {
		s := peer.Routed("vx1", peer.Host{Blocks: prefixes("10.1.0.0/24")}, hosts)
		for i := range s.Want {
			s.Want[i] = row{s.Want[i], table}
		}
		return s
	}
	var before peer.Snapshot
	for round := range 2000 {
		var after peer.Snapshot
		for i := range 8 {
			if random.IntN(4) > 0 {
				h := peer.Host{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
				if random.IntN(4) == 0 {
					h.MAC = conf.MAC{2, 0, 0, 0, byte(random.IntN(2)), byte(i)}
				}
				after = append(after, h)
			}
		}
		for i := range 12 {
			if holder := random.IntN(10); holder < len(after) {
				block := fmt.Sprintf("10.1.%d.0/24", i+1)
				if i%2 == 0 {
					block = fmt.Sprintf("fd00:0:0:%d::/64", i)
				}
				after[holder].Blocks = append(after[holder].Blocks, netip.MustParsePrefix(block))
			}
		}
		was, is := peer.Changes(before, after)
		if err := routed(is).Follow(t.Context(), routed(was)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for _, r := range routed(after).Want {
			want[r.Key()] = r.String()
		}
		if !maps.Equal(table, want) {
			t.Fatalf("round %d, from %v to %v: found %v, want %v", round, before, after, table, want)
		}
		before = after
	}
}

// A7: a list in which two hosts have one MAC, or one has zeros, is refused, with
// the later of the two; so is an address with a zone.
func TestA7Validate(t *testing.T) {
	subnets := prefixes("10.1.0.0/16")
	for text, want := range map[string]string{
		`{"peers": [{"address": "192.0.2.11", "mac": "02:00:00:00:00:07"}, {"address": "192.0.2.12", "mac": "02:00:00:00:00:07"}]}`: "peers[1].mac: found \"02:00:00:00:00:07\", want an address that no other host has; host 192.0.2.11 has it",
		`{"peers": [{"address": "192.0.2.11", "mac": "00:00:00:00:00:00"}]}`:                                                        "peers[0].mac: found \"00:00:00:00:00:00\", want a unicast MAC address such as \"02:42:0a:01:00:02\"",
		`{"peers": [{"address": "fe80::1%eth0"}]}`:                                                                                  "peers[0].address: found \"fe80::1%eth0\", want the unicast address of a host in the underlay",
	} {
		path := filepath.Join(t.TempDir(), "peers.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var rep conf.Report
		hosts, err := peer.ReadFile(path, &rep)
		hosts.Validate("peers", subnets, &rep)
		if err != nil || rep.Err() == nil || rep.Err().Error() != want {
			t.Errorf("%s:\nfound %v, %v\nwant %s", text, rep.Err(), err, want)
		}
	}
}

// A8: what overlaps a block is found, whatever is added in whatever order.
func TestA8Disjoint(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		var d peer.Disjoint
		var all []netip.Prefix
		for range 30 {
			b := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(random.IntN(4)), byte(random.IntN(256))}), 22+random.IntN(11)).Masked()
			overlaps := slices.ContainsFunc(all, b.Overlaps)
			if other, ok := d.Overlapping(b); ok != overlaps || ok && !other.Overlaps(b) {
				t.Fatalf("%s overlaps %s of %v: found %v, want %v", b, other, all, ok, overlaps)
			}
			if !overlaps {
				d.Add(b)
				all = append(all, b)
			}
		}
	}
}
