// Package endpoint is what every plugin that makes an interface does inside the
// container: sysctls, addresses, routes, announcement; and how it reports the
// links that it made.
package endpoint

import (
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/dad"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// MaxPriority bounds the priority of a network's default route.
const MaxPriority = 1 << 20

// Options are what plugins do differently.
type Options struct {
	DAD route.DAD
	// Probe asks for who has one of the addresses, by the container's link
	// unless it names another. If it waits for no time, nobody is asked.
	Probe    dad.Probe
	Announce bool // tell the neighbours who has the addresses now
	// Fixed says that the hardware address cannot be set, so that the kernel does
	// not announce at our wish.
	Fixed  bool
	Port   string // the bridge port towards the container, if there is one
	OnLink bool   // routes have no gateway: the link itself leads there (ipvlan l3)
	// AcceptRA leaves it to the container whether routers of the network give it
	// addresses and routes. Otherwise it heeds none, and has no IPv6 on the link
	// without an address from IPAM.
	AcceptRA bool
	// NoSubnet says that the rest of the subnet is not on the link (ptp).
	NoSubnet bool
	// Priority decides between the default routes of a container's networks:
	// the highest wins. nil leaves it to the order of attachment: the first wins.
	Priority *int
}

// Plan appends to p the steps inside the container, whose link is there and down.
func Plan(p *engine.Plan, a *cni.Attachment, o Options) {
	name := a.Owner.IfName
	planSysctls(p, a, o)
	p.Ensure(link.Up{NS: a.NetNS, Name: name})
	probe(p, a, o.Probe)
	for _, ip := range a.IPs {
		p.Ensure(route.Addr{NS: a.NetNS, Link: name, Prefix: ip.Prefix, DAD: o.DAD, NoSubnet: o.NoSubnet})
	}
	for _, r := range a.Routes {
		p.Ensure(routeOf(a, r, o))
	}
	announce(p, a, o)
}

func probe(p *engine.Plan, a *cni.Attachment, ask dad.Probe) {
	if ask.Link == "" {
		ask.NS, ask.Link = a.NetNS, a.Owner.IfName
	}
	for _, ip := range a.IPs {
		ask.Addrs = append(ask.Addrs, ip.Prefix.Addr())
	}
	if ask.Wait > 0 && len(ask.Addrs) > 0 {
		p.Ensure(ask)
	}
}

func announce(p *engine.Plan, a *cni.Attachment, o Options) {
	say := dad.Announce{NS: a.NetNS, Link: a.Owner.IfName, Port: o.Port}
	if o.Fixed {
		say.ARP = ipv4(a)
	}
	if o.Announce && len(a.IPs) > 0 && (!o.Fixed || len(say.ARP) > 0) {
		p.Ensure(say)
	}
}

func ipv4(a *cni.Attachment) (addrs []netip.Addr) {
	for _, ip := range a.IPs {
		if ip.Prefix.Addr().Is4() {
			addrs = append(addrs, ip.Prefix.Addr())
		}
	}
	return addrs
}

// planSysctls: runtimes switch IPv6 off in containers; a container with an IPv6
// address wants it, also for the link-local address at once. Whatever else is set
// makes things better or safer, and is done without where /proc/sys is read-only.
func planSysctls(p *engine.Plan, a *cni.Attachment, o Options) {
	v4, v6 := "net/ipv4/conf/"+a.Owner.IfName+"/", "net/ipv6/conf/"+a.Owner.IfName+"/"
	var s []string
	if o.Announce && len(a.IPs) > 0 && !o.Fixed {
		s = append(s, v4+"arp_notify", "1")
	}
	if HasIPv6(a) {
		p.Ensure(sysctl.Set(a.NetNS, v6+"disable_ipv6", "0"))
		s = append(s, ipv6Sysctls(v6, o)...)
	} else if !o.AcceptRA {
		s = append(s, v6+"disable_ipv6", "1")
	}
	if len(s) > 0 {
		p.Ensure(sysctl.Try(a.NetNS, s...))
	}
}

func ipv6Sysctls(v6 string, o Options) []string {
	s := []string{v6 + "keep_addr_on_down", "1"}
	if !o.AcceptRA {
		s = append(s, v6+"accept_ra", "0")
	}
	switch o.DAD {
	case route.NoDAD:
		s = append(s, v6+"accept_dad", "0")
	case route.Optimistic:
		s = append(s, v6+"optimistic_dad", "1", v6+"use_optimistic", "1")
	case route.Wait: // as the kernel has it
	}
	if o.Announce {
		s = append(s, v6+"ndisc_notify", "1")
	}
	return s
}

// HasIPv6 reports whether an attachment has an IPv6 address.
func HasIPv6(a *cni.Attachment) bool {
	return slices.ContainsFunc(a.IPs, func(ip cni.IP) bool { return ip.Prefix.Addr().Is6() })
}

func routeOf(a *cni.Attachment, r *types.Route, o Options) route.Route {
	ones, _ := r.Dst.Mask.Size()
	dst := netip.PrefixFrom(cni.Addr(r.Dst.IP), ones)
	out := route.Route{
		NS: a.NetNS, Link: a.Owner.IfName, Dst: dst, GW: cni.Addr(r.GW),
		MTU: r.MTU, AdvMSS: r.AdvMSS, Metric: r.Priority, Scope: r.Scope,
	}
	if r.Table != nil {
		out.Table = *r.Table
	}
	if o.OnLink {
		out.GW = netip.Addr{}
	} else if !out.GW.IsValid() && (r.Scope == nil || *r.Scope == 0) {
		out.GW = gateway(a, dst.Addr().Is6())
	}
	out.OnLink = out.GW.IsValid() && alone(a, out.GW)
	if ones == 0 && out.Metric == 0 && o.Priority != nil {
		out.Metric = MaxPriority + 1 - *o.Priority // the lowest metric wins
	}
	return out
}

// alone reports whether a gateway is on the link although it is in no subnet of the
// attachment: each of its addresses of the family is one of a single address.
func alone(a *cni.Attachment, gw netip.Addr) bool {
	single := false
	for _, ip := range a.IPs {
		if ip.Prefix.Addr().Is4() == gw.Is4() {
			if single = ip.Prefix.IsSingleIP(); !single {
				return false
			}
		}
	}
	return single && !gw.IsLinkLocalUnicast()
}

// gateway is that of the first address of the family (CNI specification,
// "Success": the gateway of a route defaults to one of ips).
func gateway(a *cni.Attachment, ipv6 bool) netip.Addr {
	for _, ip := range a.IPs {
		if ip.Prefix.Addr().Is6() == ipv6 && ip.Gateway.IsValid() {
			return ip.Gateway
		}
	}
	return netip.Addr{}
}

// WithoutDefault returns the routes but those to everywhere.
func WithoutDefault(routes []*types.Route) []*types.Route {
	return slices.DeleteFunc(routes, isDefault)
}

func isDefault(r *types.Route) bool {
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified() && (r.Table == nil || *r.Table == 0)
}

// WithDefault adds a default route by ip's gateway unless its family has one.
func WithDefault(routes []*types.Route, ip cni.IP) []*types.Route {
	dst := cni.DefaultRoute(ip.Prefix.Addr().Is6())
	if slices.ContainsFunc(routes, func(r *types.Route) bool { return isDefault(r) && len(r.Dst.Mask) == len(dst.Mask) }) {
		return routes
	}
	return append(routes, &types.Route{Dst: dst, GW: ip.Gateway.AsSlice()})
}

// MAC returns the address that the container's interface shall have: that of
// prevResult, else the one asked for, else one made from its first IP address,
// so that whoever reuses the IP address needs no new neighbour entry, else one
// made from the owner mark.
func MAC(a *cni.Attachment, asked net.HardwareAddr) net.HardwareAddr {
	switch {
	case a.MAC != nil:
		return a.MAC
	case asked != nil:
		return asked
	case len(a.IPs) > 0:
		return owner.MACOf(a.IPs[0].Prefix.Addr())
	}
	return a.Mark().MAC()
}

// Interface reports a link as a result holds it.
func Interface(ns *netns.NS, name string) (*current.Interface, error) {
	mac, mtu, err := link.HardwareAddr(ns, name)
	if err != nil {
		return nil, err
	}
	return &current.Interface{Name: name, Mac: mac.String(), Mtu: mtu, Sandbox: ns.Path()}, nil
}
