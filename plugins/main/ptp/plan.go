package main

import (
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// Plan implements cni.Config. The host's addresses, routes and settings are those
// of the pair, and go with it.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	if c.IPMasq {
		p.Require(c.backend.Ready)
		p.Ensure(c.backend.Table...)
	}
	host := bridgenet.HostLink(a)
	p.Own(link.Veth{
		Host: host, NS: a.NetNS, Peer: a.Owner.IfName, MAC: endpoint.MAC(a, nil), MTU: c.MTU, Mark: a.Mark(),
	})
	p.Ensure(bridgenet.HostLinkSysctls(host))
	c.planHost(&p, a, host)
	endpoint.Plan(&p, routed(a), endpoint.Options{Announce: c.Announce, Port: host, Priority: c.GatewayPriority, NoSubnet: true})
	return p
}

// planHost gives the host's end the gateways, as single addresses, so that each
// container of the network may have the same, and the routes to the container.
func (c *config) planHost(p *engine.Plan, a *cni.Attachment, host string) {
	var addrs []netip.Prefix
	for _, ip := range a.IPs {
		if ip.Gateway.IsValid() {
			p.Ensure(route.Addr{NS: netns.Host(), Link: host, Prefix: single(ip.Gateway)})
		}
		p.Ensure(
			route.Route{NS: netns.Host(), Link: host, Dst: single(ip.Prefix.Addr())},
			sysctl.Forwarding{IPv6: ip.Prefix.Addr().Is6()})
		addrs = append(addrs, ip.Prefix)
	}
	if c.IPMasq && len(addrs) > 0 {
		p.Own(c.backend.Masquerade(nat.Masquerade{Mark: a.Mark(), Bridge: host, Addrs: addrs}))
	}
}
