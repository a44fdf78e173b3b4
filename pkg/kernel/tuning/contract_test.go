package tuning_test

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
	"github.com/dockyard-cni/dockyard/pkg/kernel/tuning"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	on, length := true, 77
	t := tuning.Tuning{
		Dir: "/run/tuning", Mark: owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark(), NS: netns.Host(), Link: "v0",
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
