package route_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func cases() []testnet.Case { return slices.Concat(linkCases(), overlayCases()) }

func linkCases() []testnet.Case {
	host, v0 := netns.Host(), "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; "
	addr := route.Addr{NS: host, Link: "v0", Prefix: prefix("10.1.0.1/24")}
	return []testnet.Case{
		{Resource: addr, Role: engine.Ensure, Setup: v0, Breaks: map[string]string{"ip addr del 10.1.0.1/24 dev v0": "absent"}},
		{Resource: route.Addr{NS: host, Link: "v0", Prefix: prefix("fd00::1/64")}, Role: engine.Ensure, Setup: v0,
			Breaks: map[string]string{"ip addr del fd00::1/64 dev v0": "absent"}},
		{Resource: route.Only{Addr: addr}, Role: engine.Ensure, Stays: true, Before: "10.9.0.1", Setup: v0 + "ip addr add 10.1.0.1/24 dev v0; ip addr add 10.9.0.1/24 dev v0",
			Breaks: map[string]string{"ip addr add 10.8.0.1/24 dev v0": "10.8.0.1"}},
		{Resource: route.Route{NS: host, Link: "v0", Dst: prefix("10.2.0.0/16"), GW: netip.MustParseAddr("10.1.0.2"), MTU: 1300, Metric: 7}, Role: engine.Ensure, Remake: true,
			Setup: v0 + "ip addr add 10.1.0.1/24 dev v0", Breaks: map[string]string{
				"ip route del 10.2.0.0/16 metric 7":                                  "absent",
				"ip route replace 10.2.0.0/16 via 10.1.0.2 dev v0 metric 7 mtu 1200": "mtu",
			}},
		{Resource: route.Route{NS: host, Link: "v0", Dst: prefix("::/0"), GW: netip.MustParseAddr("fd00::2")}, Role: engine.Ensure,
			Setup: v0 + "ip addr add fd00::1/64 dev v0 nodad", Breaks: map[string]string{"ip -6 route del default": "absent"}},
	}
}

// overlayCases: vx1 is an overlay's device.
func overlayCases() []testnet.Case {
	const vx = "ip link add eth1 type veth peer name lan; ip addr add 192.0.2.11/24 dev eth1; ip link set eth1 up; ip link set lan up; " +
		"ip link add vx1 type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning; ip link set vx1 up"
	host, local, via := netns.Host(), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("10.1.2.1")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	return []testnet.Case{
		{Resource: route.Neighbour{Link: "vx1", Addr: via, MAC: mac}, Role: engine.Ensure, Setup: vx, Breaks: map[string]string{
			"ip neigh del 10.1.2.1 dev vx1":                              "absent",
			"ip neigh replace 10.1.2.1 lladdr 02:00:00:00:00:09 dev vx1": "02:00:00:00:00:09",
			"ip neigh change 10.1.2.1 nud reachable dev vx1":             "absent",
		}},
		{Resource: route.Route{NS: host, Link: "vx1", Dst: prefix("10.1.2.0/24"), GW: via, OnLink: true, Src: local, Replace: true},
			Role: engine.Ensure, Setup: vx, Breaks: map[string]string{
				"ip route replace 10.1.2.0/24 via 10.1.2.9 dev vx1 onlink src 192.0.2.11": "10.1.2.9",
				"ip route replace 10.1.2.0/24 via 10.1.2.1 dev vx1 onlink":                "src",
			}},
		{Resource: route.Unreachable{Dst: prefix("10.1.0.0/16")}, Role: engine.Ensure, Breaks: map[string]string{
			"ip route del unreachable 10.1.0.0/16 metric 4294967295":                    "absent",
			"ip route flush 10.1.0.0/16; ip route add unreachable 10.1.0.0/16 metric 7": "absent",
		}},
		{Resource: route.Unreachable{Dst: prefix("fd00:1::/48")}, Role: engine.Ensure, Breaks: map[string]string{
			"ip -6 route del unreachable fd00:1::/48": "absent",
		}},
		{Resource: route.Free{Subnets: []netip.Prefix{prefix("10.1.0.0/16")}, Links: []string{"vx2", "br2"}}, Role: engine.Require,
			Setup: vx + "; ip link add br2 type bridge; ip link set br2 up; ip addr add 10.1.1.1/24 dev br2; ip addr add 10.2.1.1/24 dev vx1; ip route add unreachable 10.1.0.0/16 metric 9"},
		{Resource: route.Free{Subnets: []netip.Prefix{prefix("fd00:1::/48")}, Links: []string{"vx2"}}, Role: engine.Require,
			Setup: "ip -6 route add unreachable fd00:1::/48"},
	}
}
