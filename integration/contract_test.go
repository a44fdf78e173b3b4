package integration

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/firewall/firewalld"
	"github.com/dockyard-cni/dockyard/pkg/firewall/iptables"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/dad"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/qdisc"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
	"github.com/dockyard-cni/dockyard/pkg/kernel/tuning"
	"github.com/dockyard-cni/dockyard/pkg/kernel/vxlan"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
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
	for _, some := range [][]testnet.Case{linkCases(c1), parentCases(c1), routeCases(), overlayCases(), sysctlCases(), nftCases(), iptablesCases(), tuningCases(), nameCases(c1), requirements()} {
		all = append(all, some...)
	}
	return all
}

func linkCases(c1 *netns.NS) []testnet.Case {
	limit := qdisc.Limit{Rate: 8_000_000, Burst: 1<<32 - 1}
	veth := link.Veth{Host: "veth0", Bridge: "br0", NS: c1, Peer: "eth0", MAC: mac, MTU: 1400, Mark: mark}
	return []testnet.Case{
		{Resource: link.Bridge{Name: "br0", MTU: 1400}, Role: engine.Ensure, Breaks: map[string]string{
			"ip link set br0 down": "down",
			"ip link del br0":      "absent",
		}},
		{Resource: veth, Role: engine.Own, Setup: "ip link add br0 type bridge; ip link set br0 up", Breaks: map[string]string{
			"ip link set veth0 down":                            "down",
			"ip link set veth0 nomaster":                        "br0",
			"ip link set veth0 mtu 1300":                        "mtu",
			"ip link set veth0 alias ''":                        "alias",
			inC1 + "ip link set eth0 name eth7":                 "eth0",
			inC1 + "ip link set eth0 address 02:00:00:00:00:09": "02:00:00:00:00:09",
			"ip link del veth0":                                 "absent",
		}},
		{Resource: link.Port{Link: "v0", Hairpin: true, Isolated: true}, Role: engine.Ensure, Stays: true, Before: "hairpin", Setup: bridged, Breaks: map[string]string{
			"bridge link set dev v0 hairpin off":  "hairpin",
			"bridge link set dev v0 isolated off": "isolated",
		}},
		{Resource: link.IsolatedPort{Link: "v0"}, Role: engine.Ensure, Stays: true, Before: "isolated", Setup: bridged, Breaks: map[string]string{
			"bridge link set dev v0 isolated off": "isolated",
		}},
		{Resource: link.Up{NS: netns.Host(), Name: "v0"}, Role: engine.Ensure, Before: "down", Setup: "ip link add v0 type veth peer name v1", Breaks: map[string]string{
			"ip link set v0 down": "down",
		}},
		{Resource: link.PortVLAN{Link: "v0", Untagged: 100, Tagged: []int{200}}, Role: engine.Ensure, Stays: true, Before: "vlans", Setup: bridged + "; ip link set br0 type bridge vlan_filtering 1",
			Breaks: map[string]string{
				"bridge vlan del dev v0 vid 200": "200",
				"bridge vlan add dev v0 vid 100": "100", // no longer that of frames without a tag
				"bridge vlan add dev v0 vid 1":   "1/",
			}},
		{Resource: link.BridgeVLAN{Bridge: "br0", ID: 100}, Role: engine.Ensure, Setup: "ip link add br0 up type bridge vlan_filtering 1", Breaks: map[string]string{
			"ip link del br0.100":                  "absent",
			"bridge vlan del dev br0 vid 100 self": "VLAN 100",
		}},
		{Resource: qdisc.TBF{Link: "v0", Limit: limit}, Role: engine.Own, Setup: bridged, Breaks: map[string]string{
			"tc qdisc del dev v0 root": "absent",
			"tc qdisc replace dev v0 root handle d0c: tbf rate 9mbit burst 100k latency 25ms": "rate",
		}},
		{Resource: qdisc.IFB{Name: "ifb7", MTU: "v0", Limit: limit, Mark: mark}, Role: engine.Own, Setup: bridged, Breaks: map[string]string{
			"tc qdisc del dev ifb7 root": "no qdisc tbf",
			"ip link set ifb7 down":      "down",
			"ip link set ifb7 alias ''":  "alias",
			"ip link del ifb7":           "absent",
		}},
		{Resource: qdisc.Redirect{Link: "v0", Through: "ifb8"}, Role: engine.Own, Setup: bridged + "; ip link add ifb8 up type ifb", Breaks: map[string]string{
			"tc qdisc del dev v0 ingress":  "absent",
			"tc filter del dev v0 ingress": "absent",
		}},
		{Resource: dad.Announce{NS: netns.Host(), Link: "v1"}, Role: engine.Ensure, Unseen: true, Setup: bridged},
	}
}

// parentCases: eth0 is the parent; c1 has a number, as Use gives it one.
func parentCases(c1 *netns.NS) []testnet.Case {
	const eth0 = "ip link add eth0 address 02:00:00:00:00:77 type veth peer name far; ip link set far up; ip link set eth0 up; "
	macvlan := link.Driver{Kind: link.Macvlan, Mode: "bridge"}
	use := link.Use{Mark: mark, NS: c1, Driver: macvlan, Links: link.VLANs("eth0")}
	host := link.HostEnd("net", "eth0", macvlan)
	withHost := use
	withHost.Host, withHost.Addrs = &host, []netip.Addr{netip.MustParseAddr("10.1.0.2")}
	sub := link.Sub{Driver: macvlan, NS: c1, Name: "eth0", ParentNS: netns.Host(), Parent: "eth0", MAC: mac, Mark: mark}
	onVLAN := use
	onVLAN.Links = link.VLANs("eth0.10.20")
	ipvlan := sub
	ipvlan.Driver, ipvlan.MAC = link.Driver{Kind: link.Ipvlan, Mode: "l3", Flag: "private"}, nil
	record := "d=/run/dockyard/parents; mkdir -p $d/users; ip netns set c1 5; ln -s '5 eth0' $d/users/net:c1:eth0"
	return []testnet.Case{
		{Resource: link.Kind(link.Macvlan), Role: engine.Require},
		{Resource: link.Kind("vxlan"), Role: engine.Require},
		{Resource: link.Kind(link.Ipvlan), Role: engine.Require, Needs: "ipvlan"},
		{Resource: link.Kind("vlan"), Role: engine.Require, Needs: "8021q"},
		{Resource: link.KindDummy, Role: engine.Require, Needs: "dummy"},
		{Resource: link.Parent{NS: netns.Host(), Name: "eth0"}, Role: engine.Require, Setup: eth0},
		{Resource: use, Role: engine.Own, Setup: eth0, Breaks: map[string]string{
			"rm /run/dockyard/parents/users/*": "absent",
		}},
		{Resource: withHost, Role: engine.Own, Setup: eth0, Breaks: map[string]string{
			"ip link set " + host.Name + " down":     host.Name,
			"ip link set " + host.Name + " alias ''": "alias",
			"ip link del " + host.Name:               host.Name,
		}},
		{Resource: onVLAN, Role: engine.Own, Setup: eth0, Needs: "8021q", Breaks: map[string]string{
			"ip link set eth0.10 down":       "eth0.10",
			"ip link del eth0.10.20":         "eth0.10.20",
			"ip link set eth0.10.20 alias x": "eth0.10.20",
		}},
		{Resource: sub, Role: engine.Own, Setup: eth0 + record, Breaks: map[string]string{
			inC1 + "ip link set eth0 type macvlan mode private": "mode",
			inC1 + "ip link set eth0 address 02:00:00:00:00:09": "02:00:00:00:00:09",
			inC1 + "ip link del eth0":                           "absent",
		}},
		{Resource: ipvlan, Role: engine.Own, Setup: eth0 + record, Needs: "ipvlan", Breaks: map[string]string{
			inC1 + "ip link set eth0 type ipvlan mode l2": "mode",
			inC1 + "ip link del eth0":                     "absent",
		}},
		{Resource: dad.Probe{NS: netns.Host(), Link: "v1", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}, Wait: time.Millisecond},
			Role: engine.Ensure, Unseen: true, Setup: bridged},
		{Resource: dad.Announce{NS: netns.Host(), Link: "v1", ARP: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}, Role: engine.Ensure, Unseen: true, Setup: bridged},
		{Resource: link.Neighbors{NS: netns.Host(), Link: "v1", PeerNS: netns.Host(), Peer: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}},
			Role: engine.Ensure, Before: "10.1.0.2", Setup: bridged + "; " + eth0, Breaks: map[string]string{
				"ip neigh del 10.1.0.2 dev v1":                                            "10.1.0.2",
				"ip neigh replace 10.1.0.2 dev v1 lladdr 02:00:00:00:00:78 nud permanent": "02:00:00:00:00:78",
			}},
	}
}

func routeCases() []testnet.Case {
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

func overlayCases() []testnet.Case {
	const eth1 = "ip link add eth1 type veth peer name lan; ip addr add 192.0.2.11/24 dev eth1; ip link set eth1 up; ip link set lan up"
	const vx = eth1 + "; ip link add vx1 type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning; ip link set vx1 up"
	host, dst := netns.Host(), netip.MustParseAddr("192.0.2.12")
	via := netip.MustParseAddr("10.1.2.1")
	device := vxlan.Device{
		Name: "vx1", VNI: 1, Port: 4789, Local: netip.MustParseAddr("192.0.2.11"), MTU: 1400, MAC: mac, Mark: vxlan.MarkOf("net"),
	}
	group := vxlan.Device{
		Name: "vx1", VNI: 1, Port: 4789, Local: device.Local, Parent: "eth1", Group: netip.MustParseAddr("239.1.1.1"), Learning: true,
		MAC: mac, Bridge: "br0", Mark: device.Mark,
	}
	self := peer.Host{Address: device.Local, Blocks: []netip.Prefix{prefix("10.1.1.0/24")}}
	other := peer.Host{Address: dst, Blocks: []netip.Prefix{prefix("10.1.2.0/24"), prefix("10.1.7.0/24"), prefix("fd00:0:0:2::/64")}}
	return []testnet.Case{
		{Resource: device, Role: engine.Ensure, Setup: eth1, Breaks: map[string]string{
			"ip link set vx1 down":                      "down",
			"ip link set vx1 mtu 1300":                  "mtu",
			"ip link set vx1 alias ''":                  "alias",
			"ip link set vx1 address 02:00:00:00:00:09": "02:00:00:00:00:09",
			"ip link set vx1 type vxlan learning":       "learning",
			"ip link del vx1":                           "absent",
		}},
		{Resource: device.Vacant(), Role: engine.Require, Setup: eth1},
		{Resource: vxlan.TxChecksum{Link: "vx1"}, Role: engine.Ensure, Stays: true, Before: "on, want off", Setup: vx, Breaks: map[string]string{
			"ethtool -K vx1 tx-checksum-ip-generic on": "tx-checksum-ip-generic",
		}},
		{Resource: group, Role: engine.Ensure, Setup: eth1 + "; ip link add br0 type bridge", Breaks: map[string]string{
			"ip link set vx1 nomaster": "br0",
		}},
		{Resource: vxlan.FDB{Link: "vx1", MAC: mac, Dst: dst}, Role: engine.Ensure, Setup: vx, Breaks: map[string]string{
			"bridge fdb del 02:00:00:00:00:01 dev vx1 dst 192.0.2.12":     "absent",
			"bridge fdb replace 02:00:00:00:00:01 dev vx1 dst 192.0.2.13": "192.0.2.13",
		}},
		{Resource: vxlan.FDB{Link: "vx1", Dst: netip.MustParseAddr("239.1.1.1"), Via: "eth1"}, Role: engine.Ensure,
			Setup: vx + "; bridge fdb append 00:00:00:00:00:00 dev vx1 dst 192.0.2.13", Breaks: map[string]string{
				"bridge fdb del 00:00:00:00:00:00 dev vx1 dst 239.1.1.1 via eth1": "absent",
			}},
		{Resource: route.Neighbour{Link: "vx1", Addr: via, MAC: mac}, Role: engine.Ensure, Setup: vx, Breaks: map[string]string{
			"ip neigh del 10.1.2.1 dev vx1":                              "absent",
			"ip neigh replace 10.1.2.1 lladdr 02:00:00:00:00:09 dev vx1": "02:00:00:00:00:09",
			"ip neigh change 10.1.2.1 nud reachable dev vx1":             "absent",
		}},
		{Resource: route.Route{NS: host, Link: "vx1", Dst: prefix("10.1.2.0/24"), GW: via, OnLink: true, Src: device.Local, Replace: true},
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

func sysctlCases() []testnet.Case {
	return []testnet.Case{
		{Resource: sysctl.Set(netns.Host(), "net/ipv4/conf/lo/arp_notify", "1", "net/ipv6/conf/lo/accept_dad", "0"), Role: engine.Ensure, Stays: true, Before: "arp_notify",
			Breaks: map[string]string{
				"sysctl -qw net.ipv4.conf.lo.arp_notify=0": "arp_notify",
				"sysctl -qw net.ipv6.conf.lo.accept_dad=1": "accept_dad",
			}},
		{Resource: sysctl.Forwarding{}, Role: engine.Ensure, Stays: true, Before: "ip_forward",
			Breaks: map[string]string{"sysctl -qw net.ipv4.ip_forward=0": "ip_forward"}},
		{Resource: sysctl.Forwarding{IPv6: true}, Role: engine.Ensure, Stays: true, Before: "forwarding",
			Breaks: map[string]string{"sysctl -qw net.ipv6.conf.all.forwarding=0": "forwarding"}},
	}
}

func nftCases() []testnet.Case {
	policy := nft.Policy{Bridge: "br0", V4: nft.NAT, V6: nft.Routed, Trusted: []string{"eth9"}}
	drop := "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP"
	return []testnet.Case{
		{Resource: nft.Table(), Role: engine.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table inet dockyard":         "absent",
			"nft flush chain inet dockyard forward":  "forward",
			"nft add rule inet dockyard input drop":  "input",
			"nft flush chain inet dockyard internal": "internal",
		}},
		{Resource: nft.Publish(publish()), Role: engine.Own, Setup: base, Breaks: map[string]string{
			"nft delete element inet dockyard ports4 '{ tcp . 8080 }'":                   "8080",
			"nft delete element inet dockyard hostports6 '{ 2001:db8::1 . udp . 8080 }'": "8080",
		}},
		{Resource: nft.Masquerade(masquerade()), Role: engine.Own, Setup: base, Breaks: map[string]string{
			"nft delete element inet dockyard masq4 '{ 10.1.0.2 }'": "10.1.0.2",
			"nft delete element inet dockyard masq6 '{ fd00::2 }'":  "fd00::2",
		}},
		{Resource: policy.Resource(), Role: engine.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard pairs '{ "br0" . "br0" }'`: "br0",
			`nft delete element inet dockyard to '{ ipv4 . "br0" }'`:     "br0",
		}},
		{Resource: nft.Hairpin("br0"), Role: engine.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard hairpins '{ "br0" . "br0" }'`: "br0",
		}},
		{Resource: nft.Guard("br0"), Role: engine.Ensure, Setup: base, Breaks: map[string]string{
			`nft delete element inet dockyard localnet '{ "br0" }'`: "br0",
		}},
		{Resource: nft.ForwardAccept("br0"), Role: engine.Ensure, Stays: true, Before: "FORWARD", Setup: drop, Breaks: map[string]string{
			"iptables -F FORWARD":  "FORWARD",
			"ip6tables -F FORWARD": "FORWARD",
		}},
		{Resource: nft.SpoofTable(), Role: engine.Ensure, Stays: true, Breaks: map[string]string{
			"nft delete table bridge dockyard":           "absent",
			"nft flush chain bridge dockyard prerouting": "rules",
		}},
		{Resource: nft.SpoofCheck(mark, "v0", mac), Role: engine.Own, Setup: spoofBase, Breaks: map[string]string{
			"nft flush chain bridge dockyard v0":                  "v0",
			`nft delete element bridge dockyard ports '{ "v0" }'`: "absent",
		}},
	}
}

func tuningCases() []testnet.Case {
	on, length := true, 77
	t := tuning.Tuning{
		Dir: "/run/tuning", Mark: mark, NS: netns.Host(), Link: "v0",
		Settings: link.Settings{MAC: "02:00:00:00:00:07", MTU: 1400, TxQLen: &length, Promisc: &on, AllMulti: &on},
		Sysctls:  []sysctl.Value{{Name: "net/ipv4/ip_local_port_range", Value: "1024  65000"}},
	}
	return []testnet.Case{{Resource: t, Role: engine.Own, Setup: "ip link add v0 type veth peer name v1", Breaks: map[string]string{
		"ip link set v0 address 02:00:00:00:00:08":             "02:00:00:00:00:08",
		"ip link set v0 mtu 1500":                              "mtu",
		"ip link set v0 txqueuelen 5":                          "txqueuelen",
		"ip link set v0 promisc off":                           "promisc",
		"ip link set v0 allmulticast off":                      "allmulticast",
		"sysctl -qw net.ipv4.ip_local_port_range='1024 65001'": "ip_local_port_range",
		"rm /run/tuning/*":                                     "absent",
	}}}
}

func nameCases(c1 *netns.NS) []testnet.Case {
	store := zone.Default()
	record := zone.Record{
		Mark: mark, Network: "net", ContainerID: "c1", NetNS: "/run/netns/c1", NetNSName: "c1", TTL: 5,
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}, Names: []string{"web", "c1"},
	}
	bothFamilies := []nft.Sockets{
		{Addr: netip.MustParseAddr(zone.Resolver), UDP: 5000, TCP: 5001}, {Addr: netip.IPv6Loopback(), UDP: 5002, TCP: 5003},
	}
	const desk = "/run/dockyard/dns/containers/c1/"
	return []testnet.Case{
		{Resource: zone.Entry{Store: store, Record: record}, Role: engine.Own, Breaks: map[string]string{
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
		{Resource: nft.Resolver{NS: c1, Sockets: bothFamilies, Capture: true}, Role: engine.Ensure, Breaks: map[string]string{
			inC1 + "nft flush chain inet dockyard-dns output":   "absent",
			inC1 + "nft add rule inet dockyard-dns output drop": "rules",
			inC1 + "nft delete table inet dockyard-dns":         "absent",
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
		{Resource: iptables.Publish(publish()), Role: engine.Own, Breaks: map[string]string{
			"iptables -t nat -S | grep -- --dport | grep -m1 -- 8080 | sed 's/^-A/iptables -t nat -D/' | sh": "8080",
		}},
		{Resource: iptables.Masquerade(masquerade()), Role: engine.Own, Breaks: map[string]string{
			"iptables -t nat -F POSTROUTING": "POSTROUTING",
		}},
		{Resource: iptables.ForwardAccept("br0", "CNI-ADMIN"), Role: engine.Ensure, Before: "DY-FORWARD", Breaks: map[string]string{
			"iptables -F FORWARD":                      "FORWARD",
			"iptables -F DY-FORWARD":                   "CNI-ADMIN",
			"ip6tables -D DY-FORWARD -i br0 -j ACCEPT": "ip6tables chain DY-FORWARD: want -A DY-FORWARD -i br0 -j ACCEPT",
		}},
		{Resource: iptables.Guard("br0"), Role: engine.Ensure, Breaks: map[string]string{
			"iptables -t raw -F PREROUTING": "absent",
		}},
	}
}

func requirements() []testnet.Case {
	var all []testnet.Case
	for _, b := range []backend.Backend{backend.NFTables(), backend.IPTables()} {
		all = append(all, testnet.Case{Resource: b.Ready, Role: engine.Require})
	}
	return append(all,
		testnet.Case{Resource: firewalld.Running(), Role: engine.Require, Setup: withFirewalld},
		testnet.Case{
			Resource: firewalld.Interface("br0", "trusted"), Role: engine.Ensure, Setup: withFirewalld, Before: "in no zone",
			Breaks: map[string]string{"firewall-cmd --zone=trusted --remove-interface=br0": "in no zone"},
		})
}

// withFirewalld starts it; it ends with the host.
const withFirewalld = "firewalld"

func startFirewalld(t *testing.T, h *testnet.Host) {
	t.Helper()
	h.Run("mkdir", "-p", "/run/dbus")
	for _, command := range []string{
		"dbus-daemon --config-file=testdata/bus.conf --nofork --nopidfile",
		"firewalld --nofork --nopid --log-target=console",
	} {
		args := strings.Fields(command)
		if err := h.Start(exec.Command(args[0], args[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	testnet.Eventually(t, func() error {
		_, err := h.Try("firewall-cmd", "--state")
		return err
	})
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
		want := special[c.TypeOf()]
		if c.Needs != "" {
			want = append(want, feature(c.Needs))
		}
		if !here(t, "contract/"+c.TypeOf()+c.Needs, want...) {
			continue
		}
		t.Run(c.TypeOf()+" "+strings.Fields(c.Key())[0], func(t *testing.T) {
			h := testnet.New(t)
			h.Container("c1")
			c := cases(netns.At(h.Path("c1")))[i]
			ensure := map[string]engine.Resource{base: nft.Table(), spoofBase: nft.SpoofTable()}[c.Setup]
			if ensure != nil {
				c.Setup = ""
				if err := ensure.Apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if c.Setup == withFirewalld {
				c.Setup = ""
				startFirewalld(t, h)
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

// A kind of links that the kernel lacks is said so, and what it has is not made by
// asking for it.
func TestKinds(t *testing.T) {
	h := testnet.New(t)
	before := h.Snapshot()
	for _, k := range []link.Kind{"nonsense", link.Macvlan, "vxlan", "bridge", "veth"} {
		diff, err := k.Observe(t.Context())
		if err != nil || strings.Contains(string(diff), "the kernel has no links of type nonsense: its module nonsense is missing") != (k == "nonsense") {
			t.Errorf("%q: %q, %v", string(k), diff, err)
		}
	}
	if err := testnet.Equal(before, h.Snapshot()); err != nil {
		t.Error(err)
	}
}
