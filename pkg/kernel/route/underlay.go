package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Local returns the name and MTU of the host's link that has this address, ""
// if none has.
func Local(a netip.Addr) (link string, mtu int, err error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return "", 0, err
	}
	// With FIBMatch the answer is the entry of the table "local" and names the
	// link; without, it would be lo.
	routes, err := h.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
		return "", 0, nil //nolint:nilerr // nowhere: not here
	}
	l, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", 0, err
	}
	return l.Attrs().Name, l.Attrs().MTU, nil
}

// Source returns the address with which the host sends to dst; the zero Addr if
// it has no route there.
func Source(dst netip.Addr) (netip.Addr, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return netip.Addr{}, err
	}
	routes, err := h.RouteGet(dst.AsSlice())
	if err != nil || len(routes) == 0 {
		return netip.Addr{}, nil //nolint:nilerr // as said
	}
	a, _ := netip.AddrFromSlice(routes[0].Src)
	return a.Unmap(), nil
}

// AddrOf returns the first address of a link that is not link-local, IPv4 before
// IPv6; the zero Addr if it has none.
func AddrOf(link string) (netip.Addr, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return netip.Addr{}, err
	}
	l, err := h.LinkByName(link)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(l, fam) })
		if err != nil {
			return netip.Addr{}, err
		}
		for _, found := range list {
			if a, _ := netip.AddrFromSlice(found.IP); !a.Unmap().IsLinkLocalUnicast() {
				return a.Unmap(), nil
			}
		}
	}
	return netip.Addr{}, nil
}

// A Free requires that nothing else on the host uses addresses of these subnets:
// no route leads there but the default route and those by Links. When one of
// Links is there already, it has been looked at: looking costs what the host's
// table holds.
type Free struct {
	Subnets []netip.Prefix
	Links   []string
}

// Key implements engine.Resource.
func (f Free) Key() string { return fmt.Sprint("free ", f.Subnets) }

func (f Free) String() string {
	var words []string
	for _, s := range f.Subnets {
		words = append(words, s.String())
	}
	return fmt.Sprintf("ip route show # nothing of %s but by %s", strings.Join(words, ", "), strings.Join(f.Links, ", "))
}

// Observe implements engine.Resource.
func (f Free) Observe(context.Context) (engine.Diff, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return engine.Same, err
	}
	if l, err := h.LinkByName(f.Links[0]); err == nil && l != nil {
		return engine.Same, nil
	}
	for _, s := range f.Subnets {
		if err := f.free(h, s); err != nil {
			return engine.Same, err
		}
	}
	return engine.Same, nil
}

func (f Free) free(h *netlink.Handle, s netip.Prefix) error {
	routes, err := netns.Dump(func() ([]netlink.Route, error) { return h.RouteList(nil, family(s.Addr())) })
	if err != nil {
		return err
	}
	for _, r := range routes {
		dst, ok := prefixOf(r)
		if !ok || dst.Bits() == 0 || !dst.Overlaps(s) || r.LinkIndex == 0 || refuses(r) {
			continue
		}
		l, err := h.LinkByIndex(r.LinkIndex)
		if err != nil || slices.Contains(f.Links, l.Attrs().Name) {
			continue // gone meanwhile, or ours
		}
		holder := fmt.Sprintf("link %s, by the route to %s", l.Attrs().Name, dst)
		if alias := l.Attrs().Alias; alias != "" {
			holder += ", of " + alias
		}
		return &engine.HeldError{Object: "subnet " + s.String(), Holder: holder}
	}
	return nil
}

func prefixOf(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}

// Apply and Remove have nothing to do.
func (f Free) Apply(context.Context) error { return nil }

// Remove implements engine.Resource.
func (f Free) Remove(context.Context) error { return nil }

// onHost returns the index of a link of the host, 0 where there is none.
func onHost(link string) (*netlink.Handle, int, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, 0, err
	}
	l, err := h.LinkByName(link)
	if notFound(err) {
		return h, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	return h, l.Attrs().Index, nil
}

// By returns the routes by a link of the host that are not the kernel's own, as
// Set has them in Want: each with Replace. It costs what the link has: from Linux
// 4.20 on the kernel leaves out the routes by others (NETLINK_GET_STRICT_CHK).
func By(link string) (out []Route, err error) {
	h, index, err := onHost(link)
	if err != nil || index == 0 {
		return nil, err
	}
	if err := h.SetStrictCheck(true); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return nil, err
	}
	host := netns.Host()
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := netns.Dump(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(fam, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			dst, ok := prefixOf(r)
			if !ok || r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA {
				continue
			}
			out = append(out, found(host, link, dst, r))
		}
	}
	return out, nil
}

func found(host *netns.NS, link string, dst netip.Prefix, r netlink.Route) Route {
	gw, _ := netip.AddrFromSlice(r.Gw)
	src, _ := netip.AddrFromSlice(r.Src)
	out := Route{
		NS: host, Link: link, Dst: dst, GW: gw.Unmap(), Src: src.Unmap(), MTU: r.MTU, AdvMSS: r.AdvMSS,
		OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0, Replace: true,
	}
	if out.Metric = r.Priority; out.Metric == noMetric6 && dst.Addr().Is6() {
		out.Metric = 0
	}
	return out
}
