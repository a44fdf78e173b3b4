package peer

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/vxlan"
)

// Routed returns what the kernel of self must hold to reach the other hosts by
// its VXLAN device: for each of them one entry of the forwarding database; for
// each family in which it has blocks one neighbour, its gateway there; and a
// route for each block. Anything else by the device is not wanted.
func Routed(device string, self Host, others Snapshot) engine.Set {
	s := engine.Set{Name: "hosts of " + device, List: func(context.Context) ([]engine.Resource, error) { return listRouted(device) }}
	host := netns.Host()
	for _, h := range others {
		if len(h.Blocks) == 0 {
			continue
		}
		s.Want = append(s.Want, vxlan.FDB{Link: device, MAC: h.VTEP(), Dst: h.Address})
		for _, via := range h.gateways() {
			s.Want = append(s.Want, route.Neighbour{Link: device, Addr: via, MAC: h.VTEP()})
		}
		for _, b := range h.Blocks {
			s.Want = append(s.Want, route.Route{
				NS: host, Link: device, Dst: b, GW: h.gateway(b), OnLink: true, Src: self.Source(b.Addr()), Replace: true,
			})
		}
	}
	return s
}

// gateways returns the next hop of each family.
func (h Host) gateways() (out []netip.Addr) {
	for _, b := range h.Blocks {
		if gw := h.gateway(b); !slices.Contains(out, gw) {
			out = append(out, gw)
		}
	}
	return out
}

// gateway is the next hop to all blocks of one family: the host's own address, or
// if all its blocks are of one address, the first of these.
func (h Host) gateway(block netip.Prefix) netip.Addr {
	if a := h.Source(block.Addr()); a.IsValid() {
		return a
	}
	for _, b := range h.Blocks {
		if b.Addr().Is4() == block.Addr().Is4() {
			return Gateway(b)
		}
	}
	return netip.Addr{}
}

// Source is the host's own address in the network, of the family of another: that
// of its packets to other hosts' containers, and the gateway of its own. Blocks of
// one address are containers'. The zero Addr if it has none.
func (h Host) Source(family netip.Addr) netip.Addr {
	for _, b := range h.Blocks {
		if b.Addr().Is4() == family.Is4() && !b.IsSingleIP() {
			return Gateway(b)
		}
	}
	return netip.Addr{}
}

// Chosen returns the routes by which a host reaches, by its bridge, its own
// containers that have chosen addresses outside of its larger blocks.
func Chosen(bridge string, self Host) (routes []engine.Resource) {
	for _, b := range self.Blocks {
		if b.IsSingleIP() {
			routes = append(routes, route.Route{NS: netns.Host(), Link: bridge, Dst: b, Src: self.Source(b.Addr()), Replace: true})
		}
	}
	return routes
}

// OnlyChosen is Chosen, and no other routes by the bridge to single addresses of
// the subnets.
func OnlyChosen(bridge string, self Host, subnets []netip.Prefix) engine.Set {
	return engine.Set{
		Name: "chosen addresses on " + bridge, Want: Chosen(bridge, self),
		List: func(context.Context) ([]engine.Resource, error) { return listChosen(bridge, subnets) },
	}
}

func listChosen(bridge string, subnets []netip.Prefix) (all []engine.Resource, err error) {
	routes, err := route.By(bridge)
	for _, r := range routes {
		within := func(s netip.Prefix) bool { return s.Contains(r.Dst.Addr()) }
		if r.Dst.IsSingleIP() && slices.ContainsFunc(subnets, within) {
			all = append(all, r)
		}
	}
	return all, err
}

func listRouted(device string) ([]engine.Resource, error) {
	fdbs, err := listFDB(device)
	if err != nil {
		return nil, err
	}
	neighbours, err := route.Neighbours(device)
	if err != nil {
		return nil, err
	}
	routes, err := route.By(device)
	all := fdbs
	for _, n := range neighbours {
		all = append(all, n)
	}
	for _, r := range routes {
		all = append(all, r)
	}
	return all, err
}

func listFDB(device string) (all []engine.Resource, err error) {
	fdbs, err := vxlan.FDBs(device)
	for _, f := range fdbs {
		all = append(all, f)
	}
	return all, err
}

// Flat returns what the kernel must hold to reach the other hosts of a network
// that is one link: for each of them, or for their multicast group, by a link of
// the underlay, an entry for what no address is known of. Who is where is learnt
// from frames.
func Flat(device string, others []netip.Addr, via string) engine.Set {
	s := engine.Set{Name: "hosts of " + device, List: func(context.Context) ([]engine.Resource, error) { return listFDB(device) }}
	for _, a := range others {
		s.Want = append(s.Want, vxlan.FDB{Link: device, Dst: a, Via: via})
	}
	return s
}
