package nat

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// connections of other hosts; those marked + are stale once 53 is published at
// every address of the host, and 54 at 192.0.2.1.
var connections = []string{
	"udp 192.0.2.1 53 +",
	"udp 127.0.0.1 53 +",
	"udp 2001:db8::1 53 +",
	"udp 192.0.2.1 54 +",
	"udp 192.0.2.9 54",
	"udp 2001:db8::1 54",
	"udp 198.51.100.1 53",
	"udp 192.0.2.1 55",
	"tcp 192.0.2.1 53",
}

var published = []Mapping{
	{HostPort: 53, Protocol: UDP, Target: netip.MustParseAddrPort("10.1.0.2:53")},
	{HostPort: 53, Protocol: UDP, Target: netip.MustParseAddrPort("[fd00::2]:53")},
	{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 54, Protocol: UDP, Target: netip.MustParseAddrPort("10.1.0.2:53")},
}

func TestFlushConntrack(t *testing.T) {
	for name, flush := range map[string]func([]Mapping) error{
		"by filter": func(ms []Mapping) error {
			local, err := localAddrs()
			if err != nil {
				return err
			}
			return deleteEnds(stale(ms, local))
		},
		"by list": func(ms []Mapping) error {
			local, err := localAddrs()
			if err != nil {
				return err
			}
			return deleteListed(ms, local)
		},
		"as is best": FlushConntrack,
	} {
		t.Run(name, func(t *testing.T) {
			h := testnet.New(t)
			for _, addr := range []string{"192.0.2.1/24", "192.0.2.9/24", "2001:db8::1/64"} {
				h.Run("ip", "addr", "add", addr, "dev", "lo")
			}
			var want []string
			for _, c := range connections {
				if name, stale := strings.CutSuffix(c, " +"); !stale {
					want = append(want, name)
				}
				connect(t, c)
			}
			if tracked() != fmt.Sprint(len(connections)) {
				t.Fatalf("tracked: %q, want %d: %q", tracked(), len(connections), connected(t))
			}
			if err := flush(published); err != nil {
				t.Fatal(err)
			}
			if got := connected(t); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("left:\n\t%q, want\n\t%q", got, want)
			}
		})
	}
}

// connect has the kernel track "PROTOCOL ADDRESS PORT".
func connect(t *testing.T, c string) {
	t.Helper()
	var protocol, addr string
	var port uint16
	if _, err := fmt.Sscan(c, &protocol, &addr, &port); err != nil {
		t.Fatal(err)
	}
	p, _ := ParseProtocol(protocol)
	dst, src, family := net.ParseIP(addr), net.ParseIP("203.0.113.5"), unix.AF_INET
	if four := dst.To4(); four != nil {
		src, dst = src.To4(), four
	} else {
		src, family = net.ParseIP("2001:db8:5::5"), unix.AF_INET6
	}
	flow := &netlink.ConntrackFlow{
		FamilyType: uint8(family),
		Forward:    netlink.IPTuple{SrcIP: src, DstIP: dst, SrcPort: 4000, DstPort: port, Protocol: uint8(p)},
		Reverse:    netlink.IPTuple{SrcIP: dst, DstIP: src, SrcPort: port, DstPort: 4000, Protocol: uint8(p)},
		TimeOut:    100,
	}
	if p == TCP {
		flow.ProtoInfo = &netlink.ProtoInfoTCP{State: nl.TCP_CONNTRACK_ESTABLISHED}
	}
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), flow); err != nil {
		t.Fatalf("%s: %v", c, err)
	}
}

func connected(t *testing.T) (list []string) {
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			list = append(list, fmt.Sprint(Protocol(f.Forward.Protocol), " ", f.Forward.DstIP, " ", f.Forward.DstPort))
		}
	}
	slices.Sort(list)
	return list
}
