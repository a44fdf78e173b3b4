package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
	"github.com/dockyard-cni/dockyard/pkg/kernel/vxlan"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// Plugin returns the plugin's verbs.
func Plugin() cni.Planned {
	return cni.Planned{New: New, Scopes: func(*cni.Request) []engine.Scope { return bridgenet.Scopes() }}
}

// Allot implements cni.Allotter: addresses come from this host's blocks, unless
// the configuration has ranges of its own, or the container its choice.
func (c *Config) Allot(_ context.Context, r *cni.Request) (json.RawMessage, error) {
	if err := c.locate(); err != nil {
		return nil, err
	}
	var ipam map[string]any
	if err := json.Unmarshal(r.IPAM, &ipam); err != nil {
		return nil, err
	}
	if ipam["ranges"] != nil || ipam["type"] != "host-local" {
		return r.IPAM, nil
	}
	chosen, err := c.choose(r)
	if err != nil {
		return nil, err
	}
	if err := c.ranges(ipam, chosen); err != nil {
		return nil, err
	}
	return json.Marshal(ipam)
}

// Complete adds the routes to the rest of the network, and to everywhere unless
// the network is internal.
func (c *Config) Complete(a *cni.Attachment) error { //nolint:unparam // cni.Completer
	c.completeChosen(a)
	c.CompleteGateways(a)
	if c.Internal {
		a.Routes = endpoint.WithoutDefault(a.Routes)
	}
	for _, ip := range a.IPs {
		if !ip.Gateway.IsValid() {
			continue
		}
		for _, s := range c.Subnets {
			if s.Contains(ip.Prefix.Addr()) && s.Bits() < ip.Prefix.Bits() {
				a.Routes = append(a.Routes, &types.Route{Dst: ipNet(s), GW: ip.Gateway.AsSlice()})
			}
		}
		if !c.Internal {
			a.Routes = endpoint.WithDefault(a.Routes, ip)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Resolve implements cni.Resolver.
func (c *Config) Resolve(ctx context.Context, a *cni.Attachment) error {
	if err := c.locate(); err != nil {
		return err
	}
	if c.checking = a.Checking && (c.Etcd != nil || c.PeersFile != ""); c.checking {
		if err := c.await(); err != nil {
			return err
		}
	}
	if most := c.underlay.innerMTU(); c.MTU > most {
		return cni.Errorf(cni.CodeConfig, "mtu: found %d, want at most %d, which is what the %d of link %s leave", c.MTU, most, c.underlay.mtu, c.underlay.link)
	} else if c.MTU == 0 && !a.Checking {
		c.MTU = most
	}
	if err := c.lookForFault(); err != nil {
		return err
	}
	return c.Config.Resolve(ctx, a)
}

// lookForFault decides about checksums where that is left to us.
func (c *Config) lookForFault() (err error) {
	if c.TxChecksum == auto {
		c.fault, err = vxlan.ChecksumFault(c.underlay.link)
	}
	return err
}

// Warnings implements cni.Warner.
func (c *Config) Warnings(ctx context.Context) []string {
	all := c.Config.Warnings(ctx)
	if c.fault != "" {
		all = append(all, fmt.Sprintf("%s: checksums are computed by the kernel, not by the hardware: %s; \"txChecksum\" decides", c.device(), c.fault))
	}
	return all
}

// Plan implements cni.Config.
func (c *Config) Plan(a *cni.Attachment) engine.Plan {
	p := c.network(c.Etcd == nil || a.Checking)
	c.PlanPort(&p, a)
	c.PlanContainer(&p, a)
	return p
}

// network is the part that no container owns. What leads to the other hosts is
// the daemon's to keep where there is one.
func (c *Config) network(hosts bool) engine.Plan {
	var p engine.Plan
	p.Require(link.Kind("vxlan"), c.vxlan().Vacant(), route.Free{Subnets: c.Subnets, Links: []string{c.Bridge, c.device()}})
	c.PlanRequirements(&p, !c.open())
	p.Ensure(link.Bridge{Name: c.Bridge, Network: c.Name, MTU: c.MTU}, bridgenet.HostLinkSysctls(c.Bridge))
	c.planGateways(&p)
	if c.Mode == routed {
		for _, s := range c.Subnets { // what is in no block must not leave by the default route
			p.Ensure(route.Unreachable{Dst: s})
		}
	}
	p.Ensure(c.vxlan(), bridgenet.HostLinkSysctls(c.device()))
	if c.Mode == routed && slices.ContainsFunc(c.Subnets, func(s netip.Prefix) bool { return s.Addr().Is6() }) {
		p.Ensure(bridgenet.EnableIPv6(c.device()))
	}
	if c.TxChecksum != auto || c.fault != "" {
		p.Ensure(vxlan.TxChecksum{Link: c.device(), Offload: c.TxChecksum == on})
	}
	c.PlanFirewall(&p)
	c.planTunnel(&p)
	if hosts {
		p.Ensure(c.others())
		if c.Mode == routed {
			p.Ensure(peer.Chosen(c.Bridge, c.self())...)
		}
	}
	return p
}

// planTunnel has frames taken from the other hosts alone. It comes before what
// leads to them.
func (c *Config) planTunnel(p *engine.Plan) {
	if c.open() {
		return
	}
	if !slices.ContainsFunc(*p, func(s engine.Step) bool { return s.Role == engine.Ensure && s.Key() == nft.Table().Key() }) {
		p.Ensure(nft.Table())
	}
	p.Ensure(c.tunnel().Guard(c.hosts.Others(c.underlay.addr).Addresses()))
}

// open reports whether anybody in the underlay may take part, as with a group.
func (c *Config) open() bool { return c.Group.IsValid() }

func (c *Config) tunnel() nft.Tunnel {
	return nft.Tunnel{Device: c.device(), Port: c.Port, VNI: c.VNI, Local: c.underlay.addr, Mark: vxlan.MarkOf(c.Name)}
}

// planGateways gives the host its addresses in the network, the source of its
// own packets to other hosts', and lets it forward to these also where nothing
// leaves the network.
func (c *Config) planGateways(p *engine.Plan) {
	for _, b := range c.self().Blocks {
		ipv6 := b.Addr().Is6()
		if b.IsSingleIP() || !c.HasGateway(ipv6) {
			continue
		}
		bits := b.Bits()
		for _, s := range c.Subnets {
			if c.Mode == flat && s.Contains(b.Addr()) {
				bits = s.Bits()
			}
		}
		c.PlanGateway(p, netip.PrefixFrom(peer.Gateway(b), bits), false)
		if c.Internal && c.Mode == routed {
			p.Ensure(sysctl.Forwarding{IPv6: ipv6})
		}
	}
}

func (c *Config) vxlan() vxlan.Device {
	v := vxlan.Device{
		Name: c.device(), VNI: c.VNI, Port: c.Port, Local: c.underlay.addr, MTU: c.MTU,
		MAC: c.self().VTEP(), Group: c.Group, Mark: vxlan.MarkOf(c.Name),
	}
	if c.Mode == flat {
		v.Bridge, v.Learning = c.Bridge, true
	}
	if c.Group.IsValid() {
		v.Parent = c.underlayLink()
	}
	return v
}

// underlayLink is known without looking where the configuration names it.
func (c *Config) underlayLink() string {
	if c.underlay.link == "" && !c.underlay.addr.IsValid() {
		return c.Underlay
	}
	return c.underlay.link
}

// others is what leads to the other hosts. CHECK asks the daemon again where it
// finds something else.
func (c *Config) others() engine.Set {
	s := c.leads()
	if c.checking {
		s.Renew = func(context.Context) ([]engine.Resource, error) {
			err := c.await()
			return c.leads().Want, err
		}
	}
	return s
}

func (c *Config) leads() engine.Set { return c.leadTo(c.hosts.Others(c.underlay.addr)) }

// leadTo is what leads to other hosts, and what lets their frames in.
func (c *Config) leadTo(others peer.Snapshot) engine.Set {
	var s engine.Set
	switch {
	case c.open():
		return peer.Flat(c.device(), []netip.Addr{c.Group}, c.underlayLink())
	case c.Mode == flat:
		s = peer.Flat(c.device(), others.Addresses(), "")
	default:
		s = peer.Routed(c.device(), c.self(), others)
	}
	list, tunnel := s.List, c.tunnel()
	s.List = func(ctx context.Context) ([]engine.Resource, error) {
		all, err := list(ctx)
		peers, peersErr := tunnel.Peers(ctx)
		return append(all, peers...), errors.Join(err, peersErr)
	}
	var peers []engine.Resource
	for _, h := range others {
		peers = append(peers, tunnel.Peer(h.Address))
	}
	s.Want = append(peers, s.Want...)
	return s
}

// Links implements cni.Linker.
func (c *Config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	return c.Config.Links(a)
}
