package vxlan_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/vxlan"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	const eth1 = "ip link add eth1 type veth peer name lan; ip addr add 192.0.2.11/24 dev eth1; ip link set eth1 up; ip link set lan up"
	const vx = eth1 + "; ip link add vx1 type vxlan id 1 dstport 4789 local 192.0.2.11 nolearning; ip link set vx1 up"
	dst, mac := netip.MustParseAddr("192.0.2.12"), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	device := vxlan.Device{
		Name: "vx1", VNI: 1, Port: 4789, Local: netip.MustParseAddr("192.0.2.11"), MTU: 1400, MAC: mac, Mark: vxlan.MarkOf("net"),
	}
	group := vxlan.Device{
		Name: "vx1", VNI: 1, Port: 4789, Local: device.Local, Parent: "eth1", Group: netip.MustParseAddr("239.1.1.1"), Learning: true,
		MAC: mac, Bridge: "br0", Mark: device.Mark,
	}
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
	}
}
