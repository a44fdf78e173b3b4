package link_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

const (
	bridged = "ip link add br0 type bridge; ip link set br0 up; ip link add v0 type veth peer name v1; ip link set v0 master br0 up; ip link set v1 up"
	inC1    = "ip netns exec c1 "
)

var (
	mark = owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark()
	mac  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

func cases() []testnet.Case {
	c1 := netns.At("/run/netns/c1")
	return slices.Concat(bridgeCases(c1), parentCases(c1))
}

func bridgeCases(c1 *netns.NS) []testnet.Case {
	veth := link.Veth{Host: "veth0", Bridge: "br0", NS: c1, Peer: "eth0", MAC: mac, MTU: 1400, Mark: mark}
	return []testnet.Case{
		{Resource: link.Bridge{Name: "br0", MTU: 1400}, Role: engine.Ensure, Breaks: map[string]string{
			"ip link set br0 down": "down",
			"ip link del br0":      "absent",
		}},
		{Resource: link.Bridge{Name: "br0"}, Role: engine.Ensure, Before: "follows the ports", Stays: true, Setup: "ip link add br0 type bridge; ip link set br0 up", Breaks: map[string]string{
			"ip link del br0; ip link add br0 type bridge; ip link set br0 up": "follows the ports",
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
		{Resource: link.NoLinkLocalLearning{Bridge: "br0"}, Role: engine.Ensure, Stays: true, Before: "no_linklocal_learn", Setup: bridged, Breaks: map[string]string{
			"ip link set br0 type bridge no_linklocal_learn 0": "no_linklocal_learn",
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
		{Resource: link.PortVLAN{Link: "v0", Untagged: 100, Tagged: []int{200}}, Role: engine.Ensure, Needs: []testnet.Feature{testnet.VLANBridges}, Stays: true, Before: "vlans", Setup: bridged + "; ip link set br0 type bridge vlan_filtering 1",
			Breaks: map[string]string{
				"bridge vlan del dev v0 vid 200": "200",
				"bridge vlan add dev v0 vid 100": "100", // no longer that of frames without a tag
				"bridge vlan add dev v0 vid 1":   "1/",
				"bridge vlan add dev v0 vid 300": "300", // D12
			}},
		{Resource: link.BridgeVLAN{Bridge: "br0", ID: 100}, Role: engine.Ensure, Needs: []testnet.Feature{testnet.VLANBridges, testnet.VLANLinks}, Setup: "ip link add br0 up type bridge vlan_filtering 1", Breaks: map[string]string{
			"ip link del br0.100":                  "absent",
			"bridge vlan del dev br0 vid 100 self": "VLAN 100",
		}},
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
		{Resource: link.Kind(link.Ipvlan), Role: engine.Require, Needs: []testnet.Feature{testnet.IPVLANLinks}},
		{Resource: link.Kind("vlan"), Role: engine.Require, Needs: []testnet.Feature{testnet.VLANLinks}},
		{Resource: link.KindDummy, Role: engine.Require, Needs: []testnet.Feature{testnet.DummyLinks}},
		{Resource: link.Parent{NS: netns.Host(), Name: "eth0"}, Role: engine.Require, Setup: eth0},
		{Resource: use, Role: engine.Own, Setup: eth0, Breaks: map[string]string{
			"rm /run/dockyard/parents/users/*": "absent",
		}},
		{Resource: withHost, Role: engine.Own, Setup: eth0, Breaks: map[string]string{
			"ip link set " + host.Name + " down":     host.Name,
			"ip link set " + host.Name + " alias ''": "alias",
			"ip link del " + host.Name:               host.Name,
		}},
		{Resource: onVLAN, Role: engine.Own, Setup: eth0, Needs: []testnet.Feature{testnet.VLANLinks}, Breaks: map[string]string{
			"ip link set eth0.10 down":       "eth0.10",
			"ip link del eth0.10.20":         "eth0.10.20",
			"ip link set eth0.10.20 alias x": "eth0.10.20",
		}},
		{Resource: sub, Role: engine.Own, Setup: eth0 + record, Breaks: map[string]string{
			inC1 + "ip link set eth0 type macvlan mode private": "mode",
			inC1 + "ip link set eth0 address 02:00:00:00:00:09": "02:00:00:00:00:09",
			inC1 + "ip link del eth0":                           "absent",
		}},
		{Resource: ipvlan, Role: engine.Own, Setup: eth0 + record, Needs: []testnet.Feature{testnet.IPVLANLinks}, Breaks: map[string]string{
			inC1 + "ip link set eth0 type ipvlan mode l2": "mode",
			inC1 + "ip link del eth0":                     "absent",
		}},
		{Resource: link.Neighbors{NS: netns.Host(), Link: "v1", PeerNS: netns.Host(), Peer: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}},
			Role: engine.Ensure, Before: "10.1.0.2", Setup: bridged + "; " + eth0, Breaks: map[string]string{
				"ip neigh del 10.1.0.2 dev v1":                                            "10.1.0.2",
				"ip neigh replace 10.1.0.2 dev v1 lladdr 02:00:00:00:00:78 nud permanent": "02:00:00:00:00:78",
			}},
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
