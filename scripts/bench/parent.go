package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
)

// uplink is the link of a host that leads to a network of machines.
const uplink = "eth0"

func macvlanRow(ctx context.Context, o options, r *report) error {
	return parentRow(ctx, o, r, "macvlan")
}

// ipvlanRow needs a kernel that has it; under another bench.sh runs it once more,
// emulated.
func ipvlanRow(ctx context.Context, o options, r *report) error {
	return parentRow(ctx, o, r, "ipvlan")
}

// parentRow measures containers on a network of the host. The reference's dual
// stack waits for duplicate address detection, so it gets fewer turns.
func parentRow(ctx context.Context, o options, r *report, plugin string) error {
	ours, reference, _ := contenders(o)
	ours.onLAN, reference.onLAN = plugin, plugin
	checked := ours.dualStack()
	checked.checked = true
	for _, turn := range []struct {
		iterations int
		label      string
		sites      []contender
	}{
		{o.iterations, "", []contender{ours, reference}},
		{o.slow, ", dual stack", []contender{ours.dualStack(), reference.dualStack()}},
		{o.slow, ", dual stack, duplicateCheck 50 ms", []contender{checked, reference.dualStack()}},
	} {
		sites, err := newSites(plugin, turn.sites...)
		if err != nil {
			return err
		}
		defer closeSites(sites)
		if err = prepare(sites, (*site).connect); err != nil {
			return err
		}
		if !possible(sites[0], plugin) {
			slog.Info("not measured here: this kernel has no links of type " + plugin)
			return nil
		}
		if err = alternate(ctx, turn.iterations, sites, func(s *site, _ int) error { return s.addAndDel(ctx, "") }); err != nil {
			return err
		}
		for _, verb := range []string{"ADD", "DEL"} {
			r.compare(fmt.Sprintf("%s%s: %s%s", plugin, o.where(), verb, turn.label), plugin, "ms", sites[0].median(verb), sites[1].median(verb))
		}
	}
	return nil
}

// connect gives the host a line to nobody.
func (s *site) connect() error {
	return s.host.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = uplink
		pair := netlink.NewVeth(attrs)
		pair.PeerName = "far"
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		for _, name := range []string{uplink, pair.PeerName} {
			l, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetUp(l)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// possible reports whether the kernel makes such links at all.
func possible(s *site, kind string) bool {
	if kind != "ipvlan" {
		return true
	}
	err := s.host.do(func() error {
		l, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "try", l.Attrs().Index
		try := &netlink.IPVlan{LinkAttrs: attrs}
		if err := netlink.LinkAdd(try); err != nil {
			return err
		}
		return netlink.LinkDel(try)
	})
	return err == nil
}
