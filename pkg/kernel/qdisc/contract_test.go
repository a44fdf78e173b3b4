package qdisc_test

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/qdisc"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	const bridged = "ip link add br0 type bridge; ip link set br0 up; ip link add v0 type veth peer name v1; ip link set v0 master br0 up; ip link set v1 up"
	mark := owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark()
	limit := qdisc.Limit{Rate: 8_000_000, Burst: 1<<32 - 1}
	return []testnet.Case{
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
	}
}
