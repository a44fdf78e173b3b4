package nft

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A6: a network's guard begins with the peers that there are; it is replaced
// without losing them, rebuilt with the table, and goes with the device. What nft
// shows of it nft reads.
func TestA6Tunnel(t *testing.T) {
	h := testnet.New(t)
	ctx := t.Context()
	apply := func(all ...engine.Resource) {
		t.Helper()
		for _, r := range all {
			if err := r.Apply(ctx); err != nil {
				t.Fatalf("%s: %v", r, err)
			}
		}
	}
	peers := func(of Tunnel, want ...string) {
		t.Helper()
		found, err := of.Peers(ctx)
		var got []string
		for _, r := range found {
			got = append(got, r.(tunnelPeer).addr.String())
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("peers %v, %v, want %v", got, err, want)
		}
	}
	h.Run("ip", "link", "add", "vx7", "type", "bridge")
	tunnel := Tunnel{Device: "vx7", Port: 4789, VNI: 7, Local: netip.MustParseAddr("192.0.2.11"), Mark: "*/net/overlay"}
	one, two := netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("192.0.2.13")
	peers(tunnel)
	apply(Table(), tunnel.Guard([]netip.Addr{one}), tunnel.Peer(two))
	peers(tunnel, "192.0.2.12", "192.0.2.13")
	apply(tunnel.Guard(nil), tunnel.Peer(two))
	peers(tunnel, "192.0.2.12", "192.0.2.13")
	tunnel.Port = 8472
	apply(tunnel.Guard(nil))
	peers(tunnel, "192.0.2.12", "192.0.2.13")

	path := filepath.Join(h.Dir(), "listing.nft")
	listing := h.Run("nft", "list", "table", "inet", tableName)
	if err := os.WriteFile(path, []byte("flush ruleset\n"+listing), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Run("nft", "-f", path)
	peers(tunnel, "192.0.2.12", "192.0.2.13")

	h.Run("nft", "flush", "ruleset")
	peers(tunnel)
	apply(Table(), tunnel.Guard([]netip.Addr{one, two}))
	peers(tunnel, "192.0.2.12", "192.0.2.13")

	// A network whose device is gone leaves nothing, when another comes.
	h.Run("ip", "link", "del", "vx7")
	other := Tunnel{Device: "vx8", Port: 4789, VNI: 8, Local: netip.MustParseAddr("2001:db8::11"), Mark: "*/other/overlay"}
	apply(other.Guard(nil))
	if listing := h.Run("nft", "list", "table", "inet", tableName); strings.Contains(listing, "vx7") {
		t.Errorf("something of vx7 is left:\n%s", listing)
	}
	apply(Table())
	if err := other.Guard(nil).Remove(ctx); err != nil {
		t.Error(err)
	}
	if listing := h.Run("nft", "list", "table", "inet", tableName); strings.Contains(listing, "vx8") {
		t.Errorf("something of vx8 is left:\n%s", listing)
	}
}

// A set of peers costs a transaction, however many there are.
func BenchmarkTunnelPeer(b *testing.B) {
	h := testnet.New(b)
	_ = h
	tunnel := Tunnel{Device: "vx7", Port: 4789, VNI: 7, Local: netip.MustParseAddr("192.0.2.11"), Mark: "*/net/overlay"}
	for _, r := range []engine.Resource{Table(), tunnel.Guard(nil)} {
		if err := r.Apply(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		if err := tunnel.Peer(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})).Apply(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
