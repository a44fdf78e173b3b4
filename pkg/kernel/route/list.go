package route

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Prefixes lists what the host has a route to, in all tables, but for default
// routes, and the subnets of its addresses.
func Prefixes() (out []netip.Prefix, err error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, err
	}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netns.Dump(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(fam, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if dst, ok := prefixOf(r); ok && dst.Bits() > 0 {
				out = append(out, dst)
			}
		}
		addrs, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, fam) })
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ones, _ := a.Mask.Size(); ok {
				out = append(out, netip.PrefixFrom(ip.Unmap(), ones).Masked())
			}
		}
	}
	return out, nil
}
