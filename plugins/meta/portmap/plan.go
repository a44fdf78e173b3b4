package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

const kind = "portmap"

func scopes(*cni.Request) []engine.Scope { return backend.Scopes(kind) }

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) (err error) {
	if c.Backend == nil {
		if c.backend, err = backend.Detect(ctx, kind, a.Mark(), a.Checking); err != nil {
			return err
		}
	}
	if len(c.mappings) == 0 {
		return nil
	}
	if len(a.IPs) == 0 {
		return cni.Errorf(cni.CodeConfig, "prevResult: it has no IP address of the container's interface, so portmap cannot publish its ports; give the network an IPAM plugin, or take runtimeConfig.portMappings out of the call")
	}
	if c.via, err = hostLink(a); err != nil {
		return err
	}
	if a.Bridge(c.via) == "" && c.via == "" {
		return cni.Errorf(cni.CodeConfig, "prevResult: no link of the host leads to the container (macvlan, ipvlan?), so portmap cannot publish its ports; take portmap out of the list, or runtimeConfig.portMappings out of the call")
	}
	if err = c.unpublished(a); err != nil {
		return err
	}
	if c.Listeners == refuse && !a.Checking {
		return nat.RefuseListeners(c.published(a))
	}
	return nil
}

// hostLink returns the link that the host's own route to the container names. Where
// prevResult has no link of the host's, as other plugins report the container's end
// alone or addresses alone, that is all that is known of the way; a link that is
// stacked on one of the host's is not reached by it.
func hostLink(a *cni.Attachment) (string, error) {
	addr := a.IPs[0].Prefix.Addr()
	if len(a.HostLinks()) > 0 {
		return route.LinkTo(netns.Host(), addr)
	}
	_, inside, err := link.Find(a.NetNS, a.Owner.IfName)
	if err != nil || inside != nil && (inside.Type() == "macvlan" || inside.Type() == "ipvlan") {
		return "", err
	}
	return route.OnLink(netns.Host(), addr)
}

// unpublished fails for ports that are to be published at an address of a family that
// the container has none of.
func (c *config) unpublished(a *cni.Attachment) error {
	var errs []error
	for i, m := range c.mappings {
		if !m.hostIP.IsValid() || slices.ContainsFunc(a.IPs, func(ip cni.IP) bool { return ip.Prefix.Addr().Is4() == m.hostIP.Is4() }) {
			continue
		}
		errs = append(errs, fmt.Errorf("runtimeConfig.portMappings[%d].hostIP: found %q, want an address of a family that the container has one of (it has %s); leave hostIP out, or give the network a subnet of that family", i, m.hostIP, addresses(a.IPs)))
	}
	if err := errors.Join(errs...); err != nil {
		return cni.Errorf(cni.CodeConfig, "%w", err)
	}
	return nil
}

func addresses(ips []cni.IP) string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.Prefix.Addr().String())
	}
	return strings.Join(out, ", ")
}

// Plan implements cni.Config. Without mappings there is nothing to do, but
// STATUS wants to know whether there could be.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	if len(c.mappings) > 0 || a.Prev == nil {
		p.Require(c.backend.Ready)
	}
	if len(c.mappings) == 0 || a.Prev == nil {
		return p
	}
	bridge := a.Bridge(c.via)
	if bridge == "" {
		bridge = c.via
	}
	publish := nat.Publish{
		Mark: a.Mark(), Bridge: bridge, Link: a.HostEnd(), Mappings: c.published(a), Source: c.source(),
		MarkBit: c.markBit(),
	}
	for _, s := range []struct{ from, to *[]string }{
		{c.ConditionsV4, &publish.ConditionsV4}, {c.ConditionsV6, &publish.ConditionsV6},
	} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	if c.ExternalSetMarkChain != nil {
		publish.SetMarkChain = *c.ExternalSetMarkChain
	}
	p.Ensure(c.backend.Table...)
	c.planLink(&p, publish)
	return p
}

// planLink publishes, and lets the link to the container carry packets from 127.0.0.1
// and back to where they came from. Rules that keep the host's loopback closed to who
// is behind the link come before the setting that opens it. They would stay behind
// where the link is the container's own: with iptables, ports do not answer at
// 127.0.0.1 there.
func (c *config) planLink(p *engine.Plan, publish nat.Publish) {
	guard := c.backend.Guard(publish.Bridge)
	localnet := sysctl.Set(netns.Host(), "net/ipv4/conf/"+publish.Bridge+"/route_localnet", "1")
	loopback := slices.ContainsFunc(publish.Mappings, mapsIPv4) && c.SNAT
	if publish.OwnLink() {
		p.Own(c.backend.Publish(publish))
		if loopback && len(guard) == 0 {
			p.Ensure(localnet)
		}
		return
	}
	if loopback {
		p.Ensure(guard...)
		p.Ensure(localnet)
	}
	if slices.ContainsFunc(publish.Mappings, nat.Mapping.Maps) && c.SNAT {
		p.Ensure(c.backend.Hairpin(publish.Bridge)...)
	}
	p.Own(c.backend.Publish(publish))
}

func mapsIPv4(m nat.Mapping) bool { return m.Maps() && m.Target.Addr().Is4() }

// published pairs each mapping with the container's address of each family
// that it is for: one address a family, the first.
func (c *config) published(a *cni.Attachment) (out []nat.Mapping) {
	seen := map[bool]bool{}
	for _, ip := range a.IPs {
		addr := ip.Prefix.Addr()
		if seen[addr.Is6()] {
			continue
		}
		seen[addr.Is6()] = true
		for _, m := range c.mappings {
			if !m.hostIP.IsValid() || m.hostIP.Is4() == addr.Is4() {
				out = append(out, m.to(addr, c.routed(addr.Is6())))
			}
		}
	}
	return out
}

func (m mapping) to(addr netip.Addr, routed bool) nat.Mapping {
	hostIP := m.hostIP
	if hostIP.IsUnspecified() {
		hostIP = netip.Addr{} // all of this family
	}
	return nat.Mapping{
		HostIP: hostIP, HostPort: m.hostPort, Protocol: m.protocol,
		Target: netip.AddrPortFrom(addr, m.containerPort), OpenOnly: routed,
	}
}
