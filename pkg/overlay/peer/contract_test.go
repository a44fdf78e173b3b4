package peer_test

import (
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	const vx = "ip link add eth1 type veth peer name lan; ip addr add 192.0.2.11/24 dev eth1; ip link set eth1 up; ip link set lan up; " +
		"ip link add vx1 type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning; ip link set vx1 up"
	prefix := netip.MustParsePrefix
	self := peer.Host{Address: netip.MustParseAddr("192.0.2.11"), Blocks: []netip.Prefix{prefix("10.1.1.0/24")}}
	other := peer.Host{
		Address: netip.MustParseAddr("192.0.2.12"),
		Blocks:  []netip.Prefix{prefix("10.1.2.0/24"), prefix("10.1.7.0/24"), prefix("fd00:0:0:2::/64")},
	}
	return []testnet.Case{
		{Resource: peer.Routed("vx1", self, peer.Snapshot{other}), Role: engine.Ensure, Before: "missing",
			Setup: vx + "; ip addr add 10.1.1.1/24 dev eth1; ip addr add fd00:0:0:1::1/64 dev eth1 nodad", Breaks: map[string]string{
				"ip route del 10.1.7.0/24":                                                "10.1.7.0/24",
				"ip route add 10.1.8.0/24 via 10.1.2.1 dev vx1 onlink":                    "not wanted: ip route replace 10.1.8.0/24",
				"ip -6 route replace fd00:0:0:2::/64 via fd00:0:0:2::9 dev vx1 onlink":    "fd00:0:0:2::/64",
				"ip neigh add 10.1.9.1 lladdr 02:00:00:00:00:09 dev vx1":                  "10.1.9.1",
				"bridge fdb append 02:00:00:00:00:09 dev vx1 dst 192.0.2.19":              "192.0.2.19",
				"bridge fdb replace " + other.VTEP().String() + " dev vx1 dst 192.0.2.19": other.VTEP().String(),
				"ip link set vx1 down; ip link set vx1 up":                                "10.1.2.0/24",
			}},
	}
}
