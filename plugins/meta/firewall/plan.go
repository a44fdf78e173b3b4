package main

import (
	"context"

	"github.com/dockyard-cni/dockyard/pkg/backend"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	ipt "github.com/dockyard-cni/dockyard/pkg/iptables"
	"github.com/dockyard-cni/dockyard/pkg/link"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/sysctl"
)

// scopes: all that is made belongs to the bridge, as what is forwarded passes
// that, so there is nothing to find by the mark of an attachment.
func scopes(*cni.Request) []state.Scope { return nil }

// Resolve implements cni.Resolver.
func (c *config) Resolve(_ context.Context, a *cni.Attachment) error {
	if c.Backend == "" {
		missing, err := nft.Missing()
		if err != nil {
			return err
		}
		if missing {
			c.Backend = iptables
		}
	}
	if c.closed() && a.Prev != nil && bridge(a) == "" {
		return cni.Errorf(cni.CodeConfig, "ingressPolicy: found %q, but prevResult names no bridge (macvlan, ipvlan, ptp?); put firewall after bridge, or take ingressPolicy out", c.IngressPolicy)
	}
	// As in the bridge plugin: where the forward chain sees what is bridged, it
	// tells peers apart, so that published ports still work between them.
	filtered, err := sysctl.BridgesFiltered()
	c.isolate = c.isolate && !filtered
	return err
}

// bridge returns the one that leads to the container, with the host's end of a
// pair behind it.
func bridge(a *cni.Attachment) string {
	if links := a.HostLinks(); len(links) > 1 {
		return links[0]
	}
	return ""
}

// Plan implements cni.Config. The policy is one of nftables, whatever lets the
// traffic through: there is one mechanism that keeps networks apart.
func (c *config) Plan(a *cni.Attachment) state.Plan {
	var p state.Plan
	br := bridge(a)
	if br == "" && a.Prev != nil {
		return p
	}
	byIPTables := c.Backend == iptables
	if byIPTables {
		p.Require(backend.IPTables().Ready)
	}
	if !byIPTables || c.closed() {
		p.Require(nft.Usable())
	}
	if br == "" { // STATUS knows none
		return p
	}
	if c.Backend == firewalld {
		p.Require(nft.KnownToFirewalld(br, c.FirewalldZone))
	}
	if c.closed() {
		p.Ensure(nft.Table())
	}
	if !byIPTables || c.closed() {
		p.Ensure(c.policy(br).Ingress())
	}
	if c.isolate {
		links := a.HostLinks()
		p.Ensure(link.IsolatedPort{Link: links[len(links)-1]})
	}
	if byIPTables {
		p.Ensure(ipt.ForwardAccept(br, c.adminChain()))
	} else {
		p.Ensure(nft.ForwardAccept(br))
	}
	return p
}
