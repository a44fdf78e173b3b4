package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
)

// judgeRequested reports addresses that cannot be had, whoever has them.
func (c *config) judgeRequested(all []cni.Requested, report *conf.Report) {
	from := map[int]cni.Requested{}
	for _, a := range all {
		i, want := c.place(a.Addr)
		if want != "" {
			report.Bad(a.Path, a.Addr, "%s", want)
			continue
		}
		if o, twice := from[i]; twice {
			report.Conflict(o.Path+", "+a.Path, "found %s and %s, want one address from %s, as it is one set", o.Addr, a.Addr, c.pools[i])
			continue
		}
		from[i] = a
		c.requested = append(c.requested, a.Addr)
	}
}

// place returns the pool that an address is in, or what should be asked for
// instead.
func (c *config) place(a netip.Addr) (pool int, want string) {
	pool, r, ok := lease.Place(c.pools, a)
	switch {
	case c.isGateway(a) && ok:
		return 0, fmt.Sprintf("another address in %s, as this is the gateway", r.Subnet)
	case r.Subnet.IsValid() && r.Reserved(a) != "":
		return 0, fmt.Sprintf("another address in %s, as this is its %s address", r.Subnet, r.Reserved(a))
	case ok:
		return pool, ""
	}
	var subnets []string
	for _, s := range c.sets {
		for _, r := range s.valid {
			if text := r.Subnet.String(); !slices.Contains(subnets, text) {
				subnets = append(subnets, text)
			}
		}
	}
	return 0, "an address in " + strings.Join(subnets, " or ")
}

func (c *config) isGateway(a netip.Addr) bool {
	for _, s := range c.sets {
		for _, r := range s.valid {
			if r.Gateway == a {
				return true
			}
		}
	}
	return false
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
