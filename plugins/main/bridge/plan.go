package main

import (
	"context"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
)

func scopes(*cni.Request) []engine.Scope { return bridgenet.Scopes(nft.SpoofScope(owner.HostPrefix)) }

// Complete adds the gateways and default routes that the IPAM plugin left to us.
func (c *config) Complete(a *cni.Attachment) error { //nolint:unparam // cni.Completer
	c.CompleteGateways(a)
	if c.Internal {
		a.Routes = endpoint.WithoutDefault(a.Routes)
		return nil
	}
	if c.IsDefaultGateway {
		for _, ip := range a.IPs {
			a.Routes = endpoint.WithDefault(a.Routes, ip)
		}
	}
	return nil
}

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) (err error) {
	if c.MTU == 0 && !a.Checking {
		if _, c.MTU, err = route.Default(netns.Host()); err != nil {
			return err
		}
	}
	return c.Config.Resolve(ctx, a)
}

// Plan implements cni.Config.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	c.PlanRequirements(&p, c.MACSpoofCheck)
	c.planBridge(&p, a)
	c.PlanFirewall(&p)
	c.planPort(&p, a)
	c.PlanContainer(&p, a)
	return p
}

func (c *config) planBridge(p *engine.Plan, a *cni.Attachment) {
	p.Ensure(link.Bridge{Name: c.Bridge, Network: c.Name, MTU: c.MTU, Promisc: c.PromiscMode, VLANs: c.tagged()}, bridgenet.HostLinkSysctls(c.Bridge))
	if c.VLAN != 0 && c.Uplinked() {
		p.Ensure(link.BridgeVLAN{Bridge: c.Bridge, ID: c.VLAN}, bridgenet.HostLinkSysctls(c.uplink()), link.Up{NS: netns.Host(), Name: c.uplink()})
	}
	for _, ip := range a.IPs {
		if c.HasGateway(ip.Prefix.Addr().Is6()) && ip.Gateway.IsValid() {
			c.PlanGateway(p, netip.PrefixFrom(ip.Gateway, ip.Prefix.Bits()), c.ForceAddress)
		}
	}
}

// uplink is the bridge, or the host's own link in a VLAN of it.
func (c *config) uplink() string {
	if c.VLAN == 0 {
		return c.Bridge
	}
	return link.BridgeVLAN{Bridge: c.Bridge, ID: c.VLAN}.Name()
}

// tagged reports whether the bridge must tell VLANs apart.
func (c *config) tagged() bool { return c.VLAN != 0 || len(c.VLANTrunk) > 0 }

func (c *config) planPort(p *engine.Plan, a *cni.Attachment) {
	var vlans []engine.Resource
	if c.tagged() {
		vlans = append(vlans, c.portVLAN(bridgenet.HostLink(a)))
	}
	c.PlanPort(p, a, vlans...)
	if c.MACSpoofCheck {
		p.Ensure(nft.SpoofTable())
		p.Own(nft.SpoofCheck(a.Mark(), bridgenet.HostLink(a), c.MAC(a)))
	}
}

func (c *config) portVLAN(host string) link.PortVLAN {
	v := link.PortVLAN{Link: host, Untagged: c.VLAN, KeepDefault: c.PreserveDefaultVLAN}
	if c.VLAN == 0 { // a trunk alone: as with the reference plugin
		v.Untagged = link.DefaultVLAN
	}
	for _, t := range c.VLANTrunk {
		v.Tagged = append(v.Tagged, t.ids()...)
	}
	return v
}

// Links implements cni.Linker.
func (c *config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	if c.VLAN != 0 && c.Uplinked() {
		return c.Config.Links(a, c.uplink())
	}
	return c.Config.Links(a)
}
