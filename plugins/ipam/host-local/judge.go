package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
)

// judge reports what is not allowed, and completes what is.
func (c *config) judge(cniVersion string, report *conf.Report) {
	families := map[int]int{}
	for i := range c.sets {
		c.sets[i].judge(report)
		for _, r := range c.sets[i].valid[:min(1, len(c.sets[i].valid))] {
			families[r.First.BitLen()]++
		}
	}
	c.judgeOverlaps(report)
	if ok, err := version.GreaterThanOrEqualTo(cniVersion, "0.3.0"); err == nil && !ok && (families[32] > 1 || families[128] > 1) {
		report.Bad("cniVersion", cniVersion, `"0.3.0" or later, as the range sets give more than one address of a family`)
	}
	for i, text := range c.Exclude {
		c.judgeExclude(fmt.Sprintf("ipam.exclude[%d]", i), text, report)
	}
	for i := range c.Routes {
		c.Routes[i].judge(fmt.Sprintf("ipam.routes[%d]", i), report)
	}
}

func (s *rangeSet) judge(report *conf.Report) {
	if len(s.ranges) == 0 {
		report.Bad(s.path, []string{}, `at least one range such as {"subnet": "10.1.0.0/24"}`)
	}
	for i, r := range s.ranges {
		if v, ok := r.judge(s.pathOf(i), report); ok {
			s.valid = append(s.valid, v)
		}
	}
	if len(s.valid) < len(s.ranges) {
		s.valid = nil
		return
	}
	for i, v := range s.valid {
		if v.First.BitLen() != s.valid[0].First.BitLen() {
			report.Bad(s.pathOf(i)+".subnet", v.Subnet, "the address family of %s, as a set gives one address; put this range into a set of its own", s.valid[0].Subnet)
		}
	}
}

// judge completes a range with its defaults, which are those of the reference
// plugin.
func (r rangeConf) judge(path string, report *conf.Report) (lease.Range, bool) {
	before := len(report.Problems())
	if !r.Subnet.IsValid() {
		report.Missing(path+".subnet", `a subnet such as "10.1.0.0/24" or "fd00::/64"`)
		return lease.Range{}, false
	}
	if r.Subnet.Addr().Is4In6() {
		report.Bad(path+".subnet", r.Subnet, "an IPv4 subnet in its own form, such as \"10.1.0.0/24\"")
		return lease.Range{}, false
	}
	if m := r.Subnet.Masked(); m != r.Subnet {
		report.Bad(path+".subnet", r.Subnet, "%s: the bits after the prefix must be 0", m)
	}
	v := defaults(r.Subnet.Masked())
	r.judgeBounds(path, &v, report)
	r.judgeGateway(path, &v, report)
	if what := v.Reserved(v.First); len(report.Problems()) > before || lease.NewPool([]lease.Range{v}, nil).Total() > 0 {
	} else if what != "" {
		report.Conflict(path+".rangeStart, "+path+".rangeEnd", "found %s and %s, want an address of a host: %s is the %s address of %s", v.First, v.Last, v.First, what, v.Subnet)
	} else {
		report.Bad(path+".gateway", v.Gateway, "another address, as it is the only one of the range")
	}
	return v, len(report.Problems()) == before
}

// defaults is the range of a whole subnet. One of two addresses has neither a
// network nor a broadcast address (RFC 3021, RFC 6164), one of a single address
// has no gateway; the reference plugin refuses both.
func defaults(subnet netip.Prefix) lease.Range {
	r := lease.Range{Subnet: subnet, First: subnet.Addr(), Last: lease.Last(subnet)}
	host := subnet.Addr().BitLen() - subnet.Bits()
	if host > 0 {
		r.Gateway = r.First.Next()
	}
	if host > 1 {
		r.First = r.First.Next()
	}
	if host > 1 && r.Last.Is4() {
		r.Last = r.Last.Prev()
	}
	return r
}

func (r rangeConf) judgeBounds(path string, v *lease.Range, report *conf.Report) {
	first, last := r.RangeStart.Unmap(), r.RangeEnd.Unmap()
	if first.IsValid() {
		if !v.Subnet.Contains(first) {
			report.Bad(path+".rangeStart", first, "an address in %s", v.Subnet)
		}
		v.First = first
	}
	if last.IsValid() {
		if !v.Subnet.Contains(last) {
			report.Bad(path+".rangeEnd", last, "an address in %s", v.Subnet)
		}
		v.Last = last
	}
	if v.First.BitLen() == v.Last.BitLen() && v.Last.Less(v.First) {
		report.Conflict(path+".rangeStart, "+path+".rangeEnd", "found %s and %s, want the start not after the end", v.First, v.Last)
	}
}

// judgeGateway allows a link-local IPv6 gateway beside one in the subnet.
func (r rangeConf) judgeGateway(path string, v *lease.Range, report *conf.Report) {
	gw := r.Gateway.Unmap()
	if !gw.IsValid() {
		return
	}
	v.Gateway = gw
	v6Local := gw.Is6() && v.Subnet.Addr().Is6() && gw.IsLinkLocalUnicast()
	if !v.Subnet.Contains(gw) && !v6Local {
		report.Bad(path+".gateway", gw, "an address in %s", v.Subnet)
	} else if v.Reserved(gw) != "" {
		report.Bad(path+".gateway", gw, "a host's address in %s, not its %s address", v.Subnet, v.Reserved(gw))
	}
}

// judgeOverlaps names each range that overlaps with one before it, in one pair.
func (c *config) judgeOverlaps(report *conf.Report) {
	type placed struct {
		lease.Range
		path  string
		order int
	}
	var all []placed
	for _, s := range c.sets {
		for i, v := range s.valid {
			all = append(all, placed{v, s.pathOf(i), len(all)})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.First.Compare(b.First) })
	for i, reach := 1, 0; i < len(all); i++ { // reach: which of those before i ends last
		o, p := all[reach], all[i]
		if o.Last.Less(p.Last) {
			reach = i
		}
		if !o.Overlaps(p.Range) {
			continue
		}
		if o.order > p.order {
			o, p = p, o
		}
		report.Conflict(p.path+", "+o.path, "%s-%s and %s-%s overlap, want ranges without a common address",
			p.First, p.Last, o.First, o.Last)
	}
}

func (c *config) judgeExclude(path, text string, report *conf.Report) {
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil {
		p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	if err != nil {
		report.Bad(path, text, `an address or subnet such as "10.1.0.5" or "10.1.0.64/26"`)
		return
	}
	for _, s := range c.sets {
		for _, r := range s.ranges {
			if r.Subnet.IsValid() && r.Subnet.Overlaps(p) {
				c.exclude = append(c.exclude, p)
				return
			}
		}
	}
	report.Bad(path, text, "an address or subnet inside a configured range")
}

func (r *routeConf) judge(path string, report *conf.Report) {
	if !r.Dst.IsValid() {
		report.Missing(path+".dst", `a destination such as "0.0.0.0/0" or "10.2.0.0/16"`)
		return
	}
	if r.Dst != r.Dst.Masked() {
		report.Bad(path+".dst", r.Dst, "%s: the bits after the prefix must be 0", r.Dst.Masked())
	}
	if gw := r.GW.Unmap(); gw.IsValid() && gw.Is4() != r.Dst.Addr().Is4() {
		report.Bad(path+".gw", gw, "an address of the family of dst, %s", r.Dst)
	}
	atLeast0(path+".mtu", r.MTU, 1<<31-1, report)
	atLeast0(path+".advmss", r.AdvMSS, 1<<16-1, report)
	atLeast0(path+".priority", r.Priority, 1<<32-1, report)
	if r.Table != nil {
		atLeast0(path+".table", *r.Table, 1<<32-1, report)
	}
	if r.Scope != nil {
		atLeast0(path+".scope", *r.Scope, 255, report)
	}
}

func atLeast0(path string, found, most int, report *conf.Report) {
	if found < 0 || found > most {
		report.Bad(path, found, "a number from 0 to %d", most)
	}
}

func (c *config) pool(report *conf.Report) {
	for _, s := range c.sets {
		p := lease.NewPool(s.valid, c.exclude)
		if p.Total() == 0 {
			report.Bad("ipam.exclude", c.Exclude, "at least one address of %s left", p)
		}
		c.pools = append(c.pools, p)
	}
}
