package peer_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/peer"
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
