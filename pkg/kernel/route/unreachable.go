package route

import (
	"context"
	"fmt"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An Unreachable is a route of the host that refuses packets to Dst which no other
// route takes, but the default one: it has the highest metric there is. Whoever
// sends such a packet is told at once that the host is unreachable (ICMP), or gets
// EHOSTUNREACH.
type Unreachable struct{ Dst netip.Prefix }

// Key implements engine.Resource.
func (u Unreachable) Key() string { return fmt.Sprintf("route unreachable %s", u.Dst) }

func (u Unreachable) String() string {
	return fmt.Sprintf("ip route add unreachable %s metric %d", u.Dst, uint32(math.MaxUint32))
}

// Observe implements engine.Resource.
func (u Unreachable) Observe(context.Context) (engine.Diff, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return engine.Same, err
	}
	list, err := netns.Dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family(u.Dst.Addr()), &netlink.Route{Type: unix.RTN_UNREACHABLE}, netlink.RT_FILTER_TYPE)
	})
	if err != nil {
		return engine.Same, err
	}
	for _, r := range list {
		if dst, _ := prefixOf(r); dst == u.Dst && r.Priority == math.MaxUint32 {
			return engine.Same, nil
		}
	}
	return engine.Absent, nil
}

// Apply implements engine.Resource.
func (u Unreachable) Apply(context.Context) error {
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	return ignore(h.RouteAdd(u.netlink()), unix.EEXIST)
}

// Remove implements engine.Resource.
func (u Unreachable) Remove(context.Context) error {
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	return ignore(h.RouteDel(u.netlink()), unix.ESRCH)
}

func (u Unreachable) netlink() *netlink.Route {
	return &netlink.Route{Dst: ipNet(u.Dst), Type: unix.RTN_UNREACHABLE, Priority: math.MaxUint32}
}

// refuses reports whether a route leads nowhere: it is no use of its addresses.
func refuses(r netlink.Route) bool {
	switch r.Type {
	case unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		return true
	}
	return false
}
