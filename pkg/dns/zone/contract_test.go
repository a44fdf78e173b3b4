package zone_test

import (
	"net/netip"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

func TestContract(t *testing.T) { testnet.Contract(t, cases) }

func cases() []testnet.Case {
	store := zone.Default()
	record := zone.Record{
		Mark: owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}.Mark(), Network: "net", ContainerID: "c1", NetNS: "/run/netns/c1", NetNSName: "c1", TTL: 5,
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}, Names: []string{"web", "c1"},
	}
	const dir = "/run/dockyard/dns/containers/c1/"
	return []testnet.Case{
		{Resource: zone.Entry{Store: store, Record: record}, Role: engine.Own, Breaks: map[string]string{
			"rm " + dir + "net@eth0":                                  "absent",
			"rm -r /run/dockyard/dns":                                 "absent",
			"sed -i s/10.1.0.2/10.1.0.3/ " + dir + "net@eth0":         "net@eth0",
			"rm " + dir + "hosts":                                     dir + "hosts",
			"rm " + dir + "resolv.conf":                               dir + "resolv.conf",
			"rm /run/dockyard/dns/hosts/net":                          "hosts/net",
			"sed -i s/10.1.0.2/10.1.0.3/ /run/dockyard/dns/hosts/net": "hosts/net",
			"sed -i /localhost/d /run/dockyard/dns/hosts/net":         "hosts/net",
			"rm /etc/netns/c1/hosts":                                  "/etc/netns/c1/hosts",
		}},
	}
}
