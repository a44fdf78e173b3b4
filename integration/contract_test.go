package integration

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/backend"
	"github.com/dockyard-cni/dockyard/pkg/iptables"
	"github.com/dockyard-cni/dockyard/pkg/link"
	"github.com/dockyard-cni/dockyard/pkg/nat"
	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/route"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/sysctl"
	"github.com/dockyard-cni/dockyard/pkg/testnet"
	"github.com/dockyard-cni/dockyard/pkg/zone"
)

var (
	mark = owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark()
	mac  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

const (
	bridged = "ip link add br0 type bridge; ip link set br0 up; ip link add v0 type veth peer name v1; ip link set v0 master br0 up; ip link set v1 up"
	inC1    = "ip netns exec c1 "
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func publish() nat.Publish {
	return nat.Publish{
		Mark: mark, Bridge: "br0", Source: nat.Hairpin, MarkBit: 13,
		Mappings: []nat.Mapping{
			{HostPort: 8080, Protocol: nat.TCP, Target: netip.MustParseAddrPort("10.1.0.2:80")},
			{HostPort: 8080, Protocol: nat.UDP, Target: netip.MustParseAddrPort("[fd00::2]:80"), HostIP: netip.MustParseAddr("2001:db8::1")},
		},
	}
}

func masquerade() nat.Masquerade {
	return nat.Masquerade{Mark: mark, Bridge: "br0", Addrs: []netip.Prefix{prefix("10.1.0.2/24"), prefix("fd00::2/64")}}
}

// cases hold every type of resource to its contract; c1 is a container.
func cases(c1 *netns.NS) []testnet.Case {
	var all []testnet.Case
	for _, some := range [][]testnet.Case{linkCases(c1), routeCases(), sysctlCases(), nftCases(), iptablesCases(), nameCases(c1), requirements()} {
		all = append(all, some...)
	}
	return all
}

func linkCases(c1 *netns.NS) []testnet.Case {
	veth := link.Veth{Host: "veth0", Bridge: "br0", NS: c1, Peer: "eth0", MAC: mac, MTU: 1400, Mark: mark}
	return []testnet.Case{
		{Resource: link.Bridge{Name: "br0", MTU: 1400}, Role: state.Ensure, Breaks: map[string]string{
			"ip link set br0 down": "down",
			"ip link del br0":      "absent",
		}},
		{Resource: veth, Role: state.Own, Setup: "ip link add br0 type bridge; ip link set br0 up", Breaks: map[string]string{
			"ip link set veth0 down":                            "down",
			"ip link set veth0 nomaster":                        "br0",
			"ip link set veth0 mtu 1300":                        "mtu",
			"ip link set veth0 alias ''":                        "alias",
			inC1 + "ip link set eth0 name eth7":                 "eth0",
			inC1 + "ip link set eth0 address 02:00:00:00:00:09": "02:00:00:00:00:09",
			"ip link del veth0":                                 "absent",
		}},
		{Resource: link.Port{Link: "v0", Hairpin: true, Isolated: true}, Role: state.Ensure, Stays: true, Before: "hairpin", Setup: bridged, Breaks: map[string]string{
			"bridge link set dev v0 hairpin off":  "hairpin",
			"bridge link set dev v0 isolated off": "isolated",
		}},
		{Resource: link.Up{NS: netns.Host(), Name: "v0"}, Role: state.Ensure, Before: "down", Setup: "ip link add v0 type veth peer name v1", Breaks: map[string]string{
			"ip link set v0 down": "down",
		}},
		{Resource: link.PortVLAN{Link: "v0", Untagged: 100, Tagged: []int{200}}, Role: state.Ensure, Stays: true, Before: "vlans", Setup: bridged + "; ip link set br0 type bridge vlan_filtering 1",
			Breaks: map[string]string{
				"bridge vlan del dev v0 vid 200": "200",
				"bridge vlan add dev v0 vid 100": "100", // no longer that of frames without a tag
				"bridge vlan add dev v0 vid 1":   "1/",
			}},
		{Resource: link.BridgeVLAN{Bridge: "br0", ID: 100}, Role: state.Ensure, Setup: "ip link add br0 up type bridge vlan_filtering 1", Breaks: map[string]string{
			"ip link del br0.100":                  "absent",
			"bridge vlan del dev br0 vid 100 self": "VLAN 100",
		}},
		{Resource: link.Announce{NS: netns.Host(), Link: "v1"}, Role: state.Ensure, Unseen: true, Setup: bridged},
	}
}

func routeCases() []testnet.Case {
	host, v0 := netns.Host(), "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; "
	addr := route.Addr{NS: host, Link: "v0", Prefix: prefix("10.1.0.1/24")}
	return []testnet.Case{
		{Resource: addr, Role: state.Ensure, Setup: v0, Breaks: map[string]string{"ip addr del 10.1.0.1/24 dev v0": "absent"}},
		{Resource: route.Addr{NS: host, Link: "v0", Prefix: prefix("fd00::1/64")}, Role: state.Ensure, Setup: v0,
			Breaks: map[string]string{"ip addr del fd00::1/64 dev v0": "absent"}},
		{Resource: route.Only{Addr: addr}, Role: state.Ensure, Stays: true, Before: "10.9.0.1", Setup: v0 + "ip addr add 10.1.0.1/24 dev v0; ip addr add 10.9.0.1/24 dev v0",
			Breaks: map[string]string{"ip addr add 10.8.0.1/24 dev v0": "10.8.0.1"}},
		{Resource: route.Route{NS: host, Link: "v0", Dst: prefix("10.2.0.0/16"), GW: netip.MustParseAddr("10.1.0.2"), MTU: 1300, Metric: 7}, Role: state.Ensure, Remake: true,
			Setup: v0 + "ip addr add 10.1.0.1/24 dev v0", Breaks: map[string]string{
				"ip route del 10.2.0.0/16 metric 7":                                  "absent",
				"ip route replace 10.2.0.0/16 via 10.1.0.2 dev v0 metric 7 mtu 1200": "mtu",
			}},
		{Resource: route.Route{NS: host, Link: "v0", Dst: prefix("::/0"), GW: netip.MustParseAddr("fd00::2")}, Role: state.Ensure,
			Setup: v0 + "ip addr add fd00::1/64 dev v0 nodad", Breaks: map[string]string{"ip -6 route del default": "absent"}},
	}
}

func sysctlCases() []testnet.Case {
	return []testnet.Case{
		{Resource: sysctl.Set(netns.Host(), "net/ipv4/conf/lo/arp_notify", "1", "net/ipv6/conf/lo/accept_dad", "0"), Role: state.Ensure, Stays: true, Before: "arp_notify",
			Breaks: map[string]string{
				"sysctl -qw net.ipv4.conf.lo.arp_notify=0": "arp_notify",
				"sysctl -qw net.ipv6.conf.lo.accept_dad=1": "accept_dad",
			}},
		{Resource: sysctl.Forwarding{}, Role: state.Ensure, Stays: true, Before: "ip_forward",
			Breaks: map[string]string{"sysctl -qw net.ipv4.ip_forward=0": "ip_forward"}},
		{Resource: sysctl.Forwarding{IPv6: true}, Role: state.Ensure, Stays: true, Before: "forwarding",
			Breaks: map[string]string{"sysctl -qw net.ipv6.conf.all.forwarding=0": "forwarding"}},
	}
}

func nftCases() []testnet.Case {
	policy := nft.Policy{Bridge: "br0", V4: nft.NAT, V6: nft.Routed, Trusted: []string{"eth9"}}
	drop := "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
	return []testnet.Case{
		{Resource: nft.Table(), Role: state.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table inet dockyard":         "absent",
			"nft flush chain inet dockyard forward":  "forward",
			"nft add rule inet dockyard input drop":  "input",
			"nft flush chain inet dockyard internal": "internal",
		}},
		{Resource: nft.Publish(publish()), Role: state.Own, Setup: base, Breaks: map[string]string{
			"nft delete element inet dockyard ports4 '{ tcp . 8080 }'":                   "8080",
			"nft delete element inet dockyard hostports6 '{ 2001:db8::1 . udp . 8080 }'": "8080",
		}},
		{Resource: nft.Masquerade(masquerade()), Role: state.Own, Setup: base, Breaks: map[string]string{
			"nft delete element inet dockyard masq4 '{ 10.1.0.2 }'": "10.1.0.2",
			"nft delete element inet dockyard masq6 '{ fd00::2 }'":  "fd00::2",
		}},
		{Resource: policy.Resource(), Role: state.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard pairs '{ "br0" . "br0" }'`: "br0",
			`nft delete element inet dockyard to '{ ipv4 . "br0" }'`:     "br0",
		}},
		{Resource: nft.Hairpin("br0"), Role: state.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard hairpins '{ "br0" . "br0" }'`: "br0",
		}},
		{Resource: nft.Guard("br0"), Role: state.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard localnet '{ "br0" }'`: "br0",
		}},
		{Resource: nft.ForwardAccept("br0"), Role: state.Ensure, Stays: true, Before: "FORWARD", Setup: drop, Breaks: map[string]string{
			"iptables -F FORWARD":  "FORWARD",
			"ip6tables -F FORWARD": "FORWARD",
		}},
		{Resource: nft.SpoofTable(), Role: state.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table bridge dockyard":           "absent",
			"nft flush chain bridge dockyard prerouting": "rules",
		}},
		{Resource: nft.SpoofCheck(mark, "v0", mac), Role: state.Own, Setup: spoofBase, Breaks: map[string]string{
			"nft flush chain bridge dockyard v0":                  "v0",
			`nft delete element bridge dockyard ports '{ "v0" }'`: "absent",
		}},
	}
}

func nameCases(c1 *netns.NS) []testnet.Case {
	store := zone.Default()
	record := zone.Record{
		Mark: mark, Network: "net", ContainerID: "c1", NetNS: "/run/netns/c1", NetNSName: "c1", TTL: 5,
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}, Names: []string{"web", "c1"},
	}
	const desk = "/run/dockyard/dns/containers/c1/"
	return []testnet.Case{
		{Resource: zone.Entry{Store: store, Record: record}, Role: state.Own, Breaks: map[string]string{
			"rm " + desk + "net@eth0":                                 "absent",
			"rm -r /run/dockyard/dns":                                 "absent",
			"sed -i s/10.1.0.2/10.1.0.3/ " + desk + "net@eth0":        "net@eth0",
			"rm " + desk + "hosts":                                    desk + "hosts",
			"rm " + desk + "resolv.conf":                              desk + "resolv.conf",
			"rm /run/dockyard/dns/hosts/net":                          "hosts/net",
			"sed -i s/10.1.0.2/10.1.0.3/ /run/dockyard/dns/hosts/net": "hosts/net",
			"sed -i /localhost/d /run/dockyard/dns/hosts/net":         "hosts/net",
			"rm /etc/netns/c1/hosts":                                  "/etc/netns/c1/hosts",
		}},
		{Resource: nft.Resolver{NS: c1, Addr: netip.MustParseAddr(zone.Resolver), UDP: 5000, TCP: 5001, Capture: true}, Role: state.Ensure, Breaks: map[string]string{
			inC1 + "nft flush chain ip dockyard-dns output":   "absent",
			inC1 + "nft add rule ip dockyard-dns output drop": "rules",
			inC1 + "nft delete table ip dockyard-dns":         "absent",
		}},
	}
}

// What a plan ensures before these is made by the contract itself.
const (
	base      = "TABLE"
	spoofBase = "SPOOF"
)

func iptablesCases() []testnet.Case {
	return []testnet.Case{
		{Resource: iptables.Publish(publish()), Role: state.Own, Breaks: map[string]string{
			"iptables -t nat -S | grep -- --dport | grep -m1 -- 8080 | sed 's/^-A/iptables -t nat -D/' | sh": "8080",
		}},
		{Resource: iptables.Masquerade(masquerade()), Role: state.Own, Breaks: map[string]string{
			"iptables -t nat -F POSTROUTING": "POSTROUTING",
		}},
		{Resource: iptables.Guard("br0"), Role: state.Ensure, Breaks: map[string]string{
			"iptables -t raw -F PREROUTING": "absent",
		}},
	}
}

func requirements() []testnet.Case {
	var all []testnet.Case
	for _, b := range []backend.Backend{backend.NFTables(), backend.IPTables()} {
		all = append(all, testnet.Case{Resource: b.Ready, Role: state.Require})
	}
	return all
}

// special are the types of resource that not every kernel has.
var special = map[string][]feature{
	"link.PortVLAN":   {vlanBridges},
	"link.BridgeVLAN": {vlanBridges, vlanLinks},
}

func TestContract(t *testing.T) {
	held := map[string]bool{}
	for i := range cases(netns.Host()) {
		c := cases(netns.Host())[i]
		held[c.TypeOf()] = true
		if !here(t, "contract/"+c.TypeOf(), special[c.TypeOf()]...) {
			continue
		}
		t.Run(c.TypeOf()+" "+strings.Fields(c.Key())[0], func(t *testing.T) {
			h := testnet.New(t)
			h.Container("c1")
			c := cases(netns.At(h.Path("c1")))[i]
			ensure := map[string]state.Resource{base: nft.Table(), spoofBase: nft.SpoofTable()}[c.Setup]
			if ensure != nil {
				c.Setup = ""
				if err := ensure.Apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			testnet.Contract(t, h, c)
		})
	}
	for _, name := range testnet.Types(t) {
		if !held[name] {
			t.Errorf("%s is a resource without a case here", name)
		}
	}
}
