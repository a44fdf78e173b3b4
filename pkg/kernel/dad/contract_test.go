package dad_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/dad"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	const bridged = "ip link add br0 type bridge; ip link set br0 up; ip link add v0 type veth peer name v1; ip link set v0 master br0 up; ip link set v1 up"
	return []testnet.Case{
		{Resource: dad.Announce{NS: netns.Host(), Link: "v1"}, Role: engine.Ensure, Unseen: true, Setup: bridged},
		{Resource: dad.Announce{NS: netns.Host(), Link: "v1", ARP: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}, Role: engine.Ensure, Unseen: true, Setup: bridged},
		{Resource: dad.Probe{NS: netns.Host(), Link: "v1", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}, Wait: time.Millisecond},
			Role: engine.Ensure, Unseen: true, Setup: bridged},
	}
}
