package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/conf"
)

// asked is an address that somebody asks for, and where.
type asked struct {
	path string
	addr netip.Addr
}

// gatherRequested collects the addresses that are asked for in any of the three
// ways. One that comes in two ways counts once.
func gatherRequested(r *cni.Request, outer runtime, report *conf.Report) []asked {
	var all []asked
	add := func(path, text string) {
		a, err := parseRequested(text)
		if err != nil {
			report.Bad(path, text, `an address such as "10.1.0.5", with or without its prefix length`)
			return
		}
		for _, o := range all {
			if o.addr == a {
				return
			}
		}
		all = append(all, asked{path, a})
	}
	for text := range strings.SplitSeq(r.Args["IP"], ",") {
		if text = strings.TrimSpace(text); text != "" {
			add("CNI_ARGS IP", text)
		}
	}
	addList := func(path string, raw json.RawMessage) {
		var texts []string
		if len(raw) > 0 {
			conf.DecodeAt(path, raw, &texts, report)
		}
		for i, text := range texts {
			add(fmt.Sprintf("%s[%d]", path, i), text)
		}
	}
	addList("args.cni.ips", outer.Args.CNI.IPs)
	addList("runtimeConfig.ips", outer.RuntimeConfig.IPs)
	return all
}

// parseRequested drops a prefix length: that of the range counts.
func parseRequested(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() != "" {
		err = fmt.Errorf("address %s has a zone", a)
	}
	return a.Unmap(), err
}

// judgeRequested reports addresses that cannot be had, whoever has them.
func (c *config) judgeRequested(all []asked, report *conf.Report) {
	from := map[int]asked{}
	for _, a := range all {
		i, want := c.place(a.addr)
		if want != "" {
			report.Bad(a.path, a.addr, "%s", want)
			continue
		}
		if o, twice := from[i]; twice {
			report.Conflict(o.path+", "+a.path, "found %s and %s, want one address from %s, as it is one set", o.addr, a.addr, c.pools[i])
			continue
		}
		from[i] = a
		c.requested = append(c.requested, a.addr)
	}
}

// place returns the pool that an address is in, or what should be asked for
// instead.
func (c *config) place(a netip.Addr) (pool int, want string) {
	var pools []string
	for i, p := range c.pools {
		pools = append(pools, p.String())
		if r, ok := p.Find(a); ok && !c.isGateway(a) {
			return i, ""
		} else if ok {
			return 0, fmt.Sprintf("another address in %s, as this is the gateway", r.Subnet)
		}
	}
	for _, s := range c.sets {
		for _, r := range s.valid {
			if what := reserved(r.Subnet, a); what != "" && r.Subnet.Contains(a) {
				return 0, fmt.Sprintf("another address in %s, as this is its %s address", r.Subnet, what)
			}
			if a == r.Gateway {
				return 0, fmt.Sprintf("another address in %s, as this is the gateway", r.Subnet)
			}
		}
	}
	return 0, "an address in " + strings.Join(pools, " or ")
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
