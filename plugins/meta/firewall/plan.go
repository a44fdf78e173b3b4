package main

import (
	"context"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	fwd "github.com/dockyard-cni/dockyard/pkg/firewall/firewalld"
	ipt "github.com/dockyard-cni/dockyard/pkg/firewall/iptables"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// scopes: all that is made belongs to the bridge, as what is forwarded passes
// that, so there is nothing to find by the mark of an attachment.
func scopes(*cni.Request) []engine.Scope { return nil }

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) error {
	if err := c.choose(ctx); err != nil {
		return err
	}
	if a.Prev == nil {
		return nil
	}
	if c.closed() && c.bridge(a) == "" {
		return cni.Errorf(cni.CodeConfig, "ingressPolicy: found %q, but prevResult names no bridge (macvlan, ipvlan, ptp?); put firewall after bridge, or take ingressPolicy out", c.IngressPolicy)
	}
	if len(a.IPs) > 0 {
		var err error
		if c.via, err = route.LinkTo(netns.Host(), a.IPs[0].Prefix.Addr()); err != nil {
			return err
		}
	}
	// As in the bridge plugin: where the forward chain sees what is bridged, it
	// tells peers apart, so that published ports still work between them; not
	// those in a VLAN.
	filtered, err := sysctl.BridgesFiltered()
	c.isolate = c.isolate && (!filtered || c.bridge(a) != a.HostLinks()[0])
	return err
}

// choose is like the reference plugin's choice, with nftables before iptables.
func (c *config) choose(ctx context.Context) error {
	if c.Backend != "" {
		return nil
	}
	missing, err := nft.Missing(ctx)
	if err != nil || missing {
		c.Backend = iptables
		return err
	}
	there, err := nft.HasFirewalld() // costs less than to ask on the bus
	if err != nil || !there {
		return err
	}
	diff, err := fwd.Running().Observe(ctx)
	if diff == engine.Same && err == nil {
		c.Backend = firewalld
	}
	return err
}

// bridge returns the one that leads to the container, or its link in a VLAN; ""
// if the host's end of a pair is all that there is.
func (c *config) bridge(a *cni.Attachment) string {
	if br := a.Bridge(c.via); br != a.HostEnd() {
		return br
	}
	return ""
}

// Plan implements cni.Config. The policy is one of nftables, whatever lets the
// traffic through: there is one mechanism that keeps networks apart.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	br := c.bridge(a)
	if br == "" && a.Prev != nil {
		return p
	}
	c.require(&p)
	if br == "" { // STATUS knows none
		return p
	}
	if c.closed() {
		p.Ensure(nft.Table())
	}
	byIPTables := c.Backend == iptables
	// One without a policy takes away that of an earlier configuration, but not that of
	// the same plugin earlier in the list.
	if c.closed() || !byIPTables && !a.Again && !a.Checking {
		p.Ensure(c.policy(a, br).Ingress())
	}
	if c.isolate {
		p.Ensure(link.IsolatedPort{Link: a.HostEnd()})
	}
	if c.Backend == firewalld {
		p.Ensure(fwd.Interface(br, c.FirewalldZone))
	}
	if byIPTables {
		p.Ensure(ipt.ForwardAccept(br, c.adminChain()))
	} else {
		p.Ensure(nft.ForwardAccept(br))
	}
	return p
}

// require adds what the backend and the policy need of the host.
func (c *config) require(p *engine.Plan) {
	if c.Backend == iptables {
		p.Require(backend.IPTables().Ready)
	}
	if c.Backend != iptables || c.closed() {
		p.Require(nft.Usable())
	}
	if c.Backend == firewalld {
		p.Require(fwd.Running())
	}
}
