package route

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Only takes away the other addresses of Addr's link that stand in its way: all
// of IPv4, and those of IPv6 whose subnet overlaps.
type Only struct{ Addr }

// Key implements engine.Resource.
func (o Only) Key() string { return "only " + o.Addr.Key() }

func (o Only) String() string {
	return fmt.Sprintf("ip %saddr flush dev %s # but %s", o.NS, o.Link, o.Prefix)
}

// Observe implements engine.Resource.
func (o Only) Observe(context.Context) (engine.Diff, error) {
	_, _, others, err := o.others()
	if err != nil || len(others) == 0 {
		return engine.Same, err
	}
	return engine.Diff(fmt.Sprintf("also %s, want %s alone", others[0].IPNet, o.Prefix)), nil
}

// Apply implements engine.Resource.
func (o Only) Apply(context.Context) error {
	h, l, others, err := o.others()
	if err != nil {
		return err
	}
	for i := range others {
		if err := h.AddrDel(l, &others[i]); err != nil {
			return fmt.Errorf("delete %s: %w", others[i].IPNet, err)
		}
	}
	return nil
}

// Remove has nothing to do.
func (o Only) Remove(context.Context) error { return nil }

func (o Only) others() (*netlink.Handle, netlink.Link, []netlink.Addr, error) {
	h, err := o.NS.Netlink()
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := h.LinkByName(o.Link)
	if err != nil {
		return nil, nil, nil, err
	}
	list, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(l, family(o.Prefix.Addr())) })
	var others []netlink.Addr
	for _, found := range list {
		addr, _ := netip.AddrFromSlice(found.IP)
		ones, _ := found.Mask.Size()
		prefix := netip.PrefixFrom(addr.Unmap(), ones)
		if prefix.Addr() != o.Prefix.Addr() && (!o.is6() || prefix.Overlaps(o.Prefix)) {
			others = append(others, found)
		}
	}
	return h, l, others, err
}
