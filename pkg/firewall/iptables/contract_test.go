package iptables_test

import (
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/iptables"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	publish, masquerade := natOf(owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark())
	return []testnet.Case{
		{Resource: iptables.Publish(publish), Role: engine.Own, Breaks: map[string]string{
			"iptables -t nat -S | grep -- --dport | grep -m1 -- 8080 | sed 's/^-A/iptables -t nat -D/' | sh": "8080",
		}},
		{Resource: iptables.Masquerade(masquerade), Role: engine.Own, Breaks: map[string]string{
			"iptables -t nat -F POSTROUTING": "POSTROUTING",
		}},
		{Resource: iptables.ForwardAccept("br0", "CNI-ADMIN"), Role: engine.Ensure, Before: "DY-FORWARD", Breaks: map[string]string{
			"iptables -F FORWARD":                      "FORWARD",
			"iptables -F DY-FORWARD":                   "CNI-ADMIN",
			"ip6tables -D DY-FORWARD -i br0 -j ACCEPT": "ip6tables chain DY-FORWARD: want -A DY-FORWARD -i br0 -j ACCEPT",
		}},
		{Resource: iptables.Guard("br0"), Role: engine.Ensure, Breaks: map[string]string{
			"iptables -t raw -F PREROUTING":                               "absent",
			"iptables -t raw -D PREROUTING -i br0 -s 127.0.0.0/8 -j DROP": "absent",
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
