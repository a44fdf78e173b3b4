package nft_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	mark, mac := owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark(), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	publish, masquerade := natOf(mark)
	tunnel := nft.Tunnel{Device: "vx7", Port: 4789, VNI: 7, Local: netip.MustParseAddr("2001:db8::11"), Mark: "*/net/overlay"}
	peer := netip.MustParseAddr("2001:db8::12")
	policy := nft.Policy{Bridge: "br0", V4: nft.NAT, V6: nft.Routed, Trusted: []string{"eth9"}}
	const inC1 = "ip netns exec c1 "
	bothFamilies := []nft.Sockets{
		{Addr: netip.MustParseAddr("127.0.0.11"), UDP: 5000, TCP: 5001}, {Addr: netip.IPv6Loopback(), UDP: 5002, TCP: 5003},
	}
	drop := "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
	return []testnet.Case{
		{Resource: nft.Table(), Role: engine.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table inet dockyard":         "absent",
			"nft flush chain inet dockyard forward":  "forward",
			"nft add rule inet dockyard input drop":  "input",
			"nft flush chain inet dockyard internal": "internal",
		}},
		{Resource: nft.Publish(publish), Role: engine.Own, Prepare: apply(nft.Table()), Breaks: map[string]string{
			"nft delete element inet dockyard ports4 '{ tcp . 8080 }'":                   "8080",
			"nft delete element inet dockyard hostports6 '{ 2001:db8::1 . udp . 8080 }'": "8080",
		}},
		{Resource: nft.Masquerade(masquerade), Role: engine.Own, Prepare: apply(nft.Table()), Breaks: map[string]string{
			"nft delete element inet dockyard masq4 '{ 10.1.0.2 }'": "10.1.0.2",
			"nft delete element inet dockyard masq6 '{ fd00::2 }'":  "fd00::2",
		}},
		{Resource: policy.Resource(), Role: engine.Ensure, Setup: "ip link add br0 type bridge", Prepare: apply(nft.Table()), Breaks: map[string]string{
			`nft delete element inet dockyard pairs '{ "br0" . "br0" }'`: "br0",
			`nft delete element inet dockyard to '{ ipv4 . "br0" }'`:     "br0",
			`nft delete element inet dockyard isolated '{ "br0" }'`:      "br0",
		}},
		{Resource: nft.Hairpin("br0"), Role: engine.Ensure, Prepare: apply(nft.Table()), Breaks: map[string]string{
			`nft delete element inet dockyard hairpins '{ "br0" . "br0" }'`: "br0",
		}},
		{Resource: tunnel.Guard([]netip.Addr{peer}), Role: engine.Ensure, Prepare: apply(nft.Table()), Breaks: map[string]string{
			"nft delete element inet dockyard tunnels '{ 7 }'": "0x7",
			"nft flush chain inet dockyard tunnel_vx7":         "tunnel_vx7",
			"nft insert rule inet dockyard tunnel_vx7 accept":  "tunnel_vx7",
		}},
		{Resource: tunnel.Peer(peer), Role: engine.Ensure, Prepare: apply(nft.Table(), tunnel.Guard(nil)), Breaks: map[string]string{
			"nft delete element inet dockyard peers6_vx7 '{ 2001:db8::12 }'": "absent",
		}},
		{Resource: nft.ForwardAccept("br0"), Role: engine.Ensure, Stays: true, Before: "FORWARD", Setup: drop, Breaks: map[string]string{
			"iptables -F FORWARD":  "FORWARD",
			"ip6tables -F FORWARD": "FORWARD",
		}},
		{Resource: nft.SpoofTable(), Role: engine.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table bridge dockyard":           "absent",
			"nft flush chain bridge dockyard prerouting": "rules",
		}},
		{Resource: nft.SpoofCheck(mark, "v0", mac), Role: engine.Own, Prepare: apply(nft.SpoofTable()), Breaks: map[string]string{
			"nft flush chain bridge dockyard v0":                  "v0",
			`nft delete element bridge dockyard ports '{ "v0" }'`: "absent",
		}},
		{Resource: nft.AntiSpoofingTable(), Role: engine.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table bridge dockyard":        "absent",
			"nft flush chain bridge dockyard own_ip6": "own_ip6",
			"nft add rule bridge dockyard own return": "own",
		}},
		{Resource: nft.AntiSpoofing{
			Mark: mark, Port: "v0", MAC: mac, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")},
			Allowed: []nft.AllowedAddress{
				{Prefix: netip.MustParsePrefix("10.1.0.9/32"), MAC: net.HardwareAddr{0, 0, 0x5e, 0, 1, 1}},
				{Prefix: netip.MustParsePrefix("10.2.0.0/22")}, {Prefix: netip.MustParsePrefix("fd02::/64")},
			},
		}.Resource(), Role: engine.Own, Prepare: apply(nft.AntiSpoofingTable()), Breaks: map[string]string{
			`nft delete element bridge dockyard checked '{ "v0" }'`:                                           "v0",
			`nft delete element bridge dockyard macs '{ "v0" . 02:00:00:00:00:01 }'`:                          "02:00:00:00:00:01",
			`nft delete element bridge dockyard sources4 '{ "v0" . 02:00:00:00:00:01 . 10.1.0.2 }'`:           "10.1.0.2",
			`nft delete element bridge dockyard sources6 '{ "v0" . 02:00:00:00:00:01 . fe80::ff:fe00:1 }'`:    "fe80::ff:fe00:1",
			`nft delete element bridge dockyard ranges4 '{ "v0" . 02:00:00:00:00:01 . 10.2.0.0-10.2.3.255 }'`: "10.2.0.0/22",
		}},
		{Resource: nft.BridgeFamily(), Role: engine.Require},
		{Resource: nft.Usable(), Role: engine.Require},
		{Resource: nft.Resolver{NS: netns.At("/run/netns/c1"), Sockets: bothFamilies, Capture: true}, Role: engine.Ensure, Breaks: map[string]string{
			inC1 + "nft flush chain inet dockyard-dns output":   "absent",
			inC1 + "nft add rule inet dockyard-dns output drop": "rules",
			inC1 + "nft delete table inet dockyard-dns":         "absent",
		}},
	}
}

// natOf is two published ports and what is masqueraded of an attachment.
func natOf(mark owner.Mark) (nat.Publish, nat.Masquerade) {
	addr, prefix := netip.MustParseAddrPort, netip.MustParsePrefix
	return nat.Publish{
			Mark: mark, Bridge: "br0", Source: nat.Hairpin, MarkBit: 13,
			Mappings: []nat.Mapping{
				{HostPort: 8080, Protocol: nat.TCP, Target: addr("10.1.0.2:80")},
				{HostPort: 8080, Protocol: nat.UDP, Target: addr("[fd00::2]:80"), HostIP: netip.MustParseAddr("2001:db8::1")},
			},
		}, nat.Masquerade{
			Mark: mark, Bridge: "br0", Addrs: []netip.Prefix{prefix("10.1.0.2/24"), prefix("fd00::2/64")},
		}
}

// apply makes what the plan ensures before the resource.
func apply(all ...engine.Resource) func(*testing.T, *testnet.Host) {
	return func(t *testing.T, _ *testnet.Host) {
		for _, r := range all {
			if err := r.Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
