package main

import (
	"context"
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/backend"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/nat"
	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/sysctl"
)

const kind = "portmap"

func scopes(*cni.Request) []state.Scope { return backend.Scopes(kind) }

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) (err error) {
	if len(c.mappings) == 0 {
		return nil
	}
	if c.hostLink(a) == "" {
		return cni.Errorf(cni.CodeConfig, "prevResult: no link of the host leads to the container (macvlan, ipvlan?), so portmap cannot publish its ports; take portmap out of the list, or runtimeConfig.portMappings out of the call")
	}
	if c.Backend == nil {
		c.backend, err = backend.Detect(ctx, kind, a.Mark(), a.Checking)
	}
	if err == nil && c.Listeners == refuse && !a.Checking {
		err = nat.RefuseListeners(c.published(a))
	}
	return err
}

// Plan implements cni.Config.
func (c *config) Plan(a *cni.Attachment) state.Plan {
	var p state.Plan
	p.Require(c.backend.Ready)
	if len(c.mappings) == 0 {
		return p
	}
	if c.backend.Name == backend.NFTables().Name {
		p.Ensure(nft.Table(), nft.Hairpin(c.hostLink(a)))
	}
	publish := nat.Publish{
		Mark: a.Mark(), Bridge: c.hostLink(a), Mappings: c.published(a), Source: c.source(),
		MarkBit: c.markBit(),
	}
	for _, s := range []struct {
		from *[]string
		to   *[]string
	}{{c.ConditionsV4, &publish.ConditionsV4}, {c.ConditionsV6, &publish.ConditionsV6}} {
		if s.from != nil {
			*s.to = *s.from
		}
	}
	if c.ExternalSetMarkChain != nil {
		publish.SetMarkChain = *c.ExternalSetMarkChain
	}
	if c.SNAT {
		// Packets from 127.0.0.1 leave by the link towards the container.
		p.Ensure(sysctl.Set(netns.Host(), "net/ipv4/conf/"+c.hostLink(a)+"/route_localnet", "1"))
	}
	p.Own(c.backend.Publish(publish))
	return p
}

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

// hostLink is the link by which the host reaches the container: the bridge, or
// without one the host's end of a pair. Plugins that make both report the
// bridge first.
func (c *config) hostLink(a *cni.Attachment) string {
	if a.Prev == nil {
		return ""
	}
	if links := a.HostLinks(); len(links) > 0 {
		return links[0]
	}
	return ""
}
