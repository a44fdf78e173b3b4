package main

import (
	"context"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/attach"
	"github.com/dockyard-cni/dockyard/pkg/backend"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/link"
	"github.com/dockyard-cni/dockyard/pkg/nat"
	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/route"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/sysctl"
)

const (
	kind   = "bridge"
	prefix = "veth" // of the host's ends, before the hash of the mark
)

// scopes: the link first, so that it is removed last: while the kernel waits for
// the last users of the link, it also frees the elements (see nft.writer).
func scopes(*cni.Request) []state.Scope {
	return append([]state.Scope{link.Scope{Prefix: prefix}, nft.SpoofScope(prefix)}, backend.Scopes(kind)...)
}

// Complete adds the gateways and default routes that the IPAM plugin left to us.
func (c *config) Complete(a *cni.Attachment) error { //nolint:unparam // cni.Completer
	for i, ip := range a.IPs {
		is6 := ip.Prefix.Addr().Is6()
		switch {
		case c.mode(is6) == nft.Isolated:
			a.IPs[i].Gateway = netip.Addr{}
		case c.gateway(is6) && !ip.Gateway.IsValid():
			a.IPs[i].Gateway = ip.Prefix.Masked().Addr().Next()
		}
	}
	if c.Internal {
		a.Routes = slices.DeleteFunc(a.Routes, attach.IsDefault)
		return nil
	}
	if c.IsDefaultGateway {
		for _, ip := range a.IPs {
			a.Routes = withDefault(a.Routes, ip)
		}
	}
	return nil
}

// withDefault adds a default route by ip's gateway unless its family has one.
func withDefault(routes []*types.Route, ip cni.IP) []*types.Route {
	dst := cni.DefaultRoute(ip.Prefix.Addr().Is6())
	if slices.ContainsFunc(routes, func(r *types.Route) bool { return attach.IsDefault(r) && len(r.Dst.Mask) == len(dst.Mask) }) {
		return routes
	}
	return append(routes, &types.Route{Dst: dst, GW: ip.Gateway.AsSlice()})
}

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) (err error) {
	if c.MTU == 0 && !a.Checking {
		if _, c.MTU, err = route.Default(netns.Host()); err != nil {
			return err
		}
	}
	if err = c.resolveIsolation(); err != nil {
		return err
	}
	if c.IPMasqBackend == nil && c.masquerades() {
		c.backend, err = backend.Detect(ctx, kind, a.Mark(), a.Checking)
	}
	return err
}

// Warnings implements cni.Warner: what of other firewalls may be in the way.
func (c *config) Warnings(context.Context) []string {
	if c.Internal {
		return nil
	}
	blockers, err := nft.Blockers(c.uplink())
	if err != nil {
		return []string{"other firewalls cannot be looked at: " + err.Error()}
	}
	return blockers
}

// resolveIsolation chooses how icc: false keeps peers apart. Isolated ports do,
// whatever the frames hold. But with br_netfilter the kernel forwards a peer's
// packets to a published port from port to port, so there the forward chain,
// which then sees bridged packets too, must be the one to tell them apart. (Not
// those in a VLAN, whose published ports are routed, by another link.)
func (c *config) resolveIsolation() error {
	filtered := sysctl.Set(netns.Host(), "net/bridge/bridge-nf-call-iptables", "1", "net/bridge/bridge-nf-call-ip6tables", "1")
	has, err := filtered.Has()
	c.isolate = c.PortIsolation || !c.ICC && (!has || c.VLAN != 0)
	return err
}

// Plan implements cni.Config.
func (c *config) Plan(a *cni.Attachment) state.Plan {
	var p state.Plan
	c.planRequirements(&p)
	c.planBridge(&p, a)
	c.planFirewall(&p)
	c.planPort(&p, a)
	c.planContainer(&p, a)
	return p
}

func (c *config) planBridge(p *state.Plan, a *cni.Attachment) {
	p.Ensure(link.Bridge{Name: c.Bridge, MTU: c.MTU, Promisc: c.PromiscMode, VLANs: c.tagged()}, quiet(c.Bridge))
	if c.VLAN != 0 && c.uplinked() {
		p.Ensure(link.BridgeVLAN{Bridge: c.Bridge, ID: c.VLAN}, quiet(c.uplink()), link.Up{NS: netns.Host(), Name: c.uplink()})
	}
	for _, ip := range a.IPs {
		is6 := ip.Prefix.Addr().Is6()
		if !c.gateway(is6) || !ip.Gateway.IsValid() {
			continue
		}
		address := route.Addr{NS: netns.Host(), Link: c.uplink(), Prefix: netip.PrefixFrom(ip.Gateway, ip.Prefix.Bits())}
		p.Ensure(address)
		if c.ForceAddress {
			p.Ensure(route.Only{Addr: address})
		}
		if !c.Internal {
			p.Ensure(sysctl.Forwarding{IPv6: is6})
		}
	}
}

// quiet keeps a link of the host's from taking advertisements, and from waiting:
// the host asks for its neighbours from the link's link-local address, so that one
// must not wait for duplicate detection. For a second or two no packet would come
// in from outside.
func quiet(name string) sysctl.Setting {
	conf := "net/ipv6/conf/" + name
	return sysctl.Set(netns.Host(), conf+"/accept_ra", "0", conf+"/accept_dad", "0")
}

// uplink is the link by which the host's packets to containers leave and theirs
// come: what rules name. That of a VLAN is not the bridge itself.
func (c *config) uplink() string {
	if c.VLAN == 0 {
		return c.Bridge
	}
	return link.BridgeVLAN{Bridge: c.Bridge, ID: c.VLAN}.Name()
}

// uplinked reports whether the host can have packets to and from the containers:
// in a VLAN only where it is their gateway.
func (c *config) uplinked() bool { return c.VLAN == 0 || c.gateway(false) || c.gateway(true) }

// tagged reports whether the bridge must tell VLANs apart.
func (c *config) tagged() bool { return c.VLAN != 0 || len(c.VLANTrunk) > 0 }

// planRequirements comes first: what is not met must not leave a bridge behind.
func (c *config) planRequirements(p *state.Plan) {
	nftables := backend.NFTables()
	if c.masquerades() {
		p.Require(c.backend.Ready)
	}
	already := c.masquerades() && c.backend.Name == nftables.Name
	if !already && (c.polices() || c.MACSpoofCheck) {
		p.Require(nftables.Ready)
	}
}

func (c *config) planFirewall(p *state.Plan) {
	if c.polices() {
		p.Ensure(nft.Table())
	} else if c.masquerades() {
		p.Ensure(c.backend.Table...)
	}
	if c.uplinked() {
		p.Ensure(c.policy().Resource())
	}
	if !c.Internal && (c.gateway(false) || c.gateway(true)) {
		p.Ensure(nft.ForwardAccept(c.uplink()))
	}
}

// polices reports whether there is something to police.
func (c *config) polices() bool { return c.uplinked() && c.policy().Wanted() }

func (c *config) policy() nft.Policy {
	return nft.Policy{
		Bridge: c.uplink(), Internal: c.Internal, ICC: c.ICC,
		V4: c.mode(false), V6: c.mode(true), Trusted: c.TrustedInterfaces,
	}
}

func (c *config) masquerades() bool { return c.masquerade(false) || c.masquerade(true) }

func (c *config) masqueraded(a *cni.Attachment) (addrs []netip.Prefix) {
	for _, ip := range a.IPs {
		if c.masquerade(ip.Prefix.Addr().Is6()) {
			addrs = append(addrs, ip.Prefix)
		}
	}
	return addrs
}

func (c *config) planPort(p *state.Plan, a *cni.Attachment) {
	host := c.hostLink(a)
	p.Own(link.Veth{
		Host: host, Bridge: c.Bridge, NS: a.NetNS, Peer: a.Owner.IfName,
		MAC: attach.MAC(a, c.mac), MTU: c.MTU, Down: c.DisableInterface, Mark: a.Mark(),
	})
	p.Ensure(link.Port{Link: host, Hairpin: c.HairpinMode, Isolated: c.isolate})
	if c.tagged() {
		p.Ensure(c.portVLAN(host))
	}
	if masq := c.masqueraded(a); len(masq) > 0 {
		p.Own(c.backend.Masquerade(nat.Masquerade{Mark: a.Mark(), Bridge: c.uplink(), Addrs: masq}))
	}
	if c.MACSpoofCheck {
		p.Ensure(nft.SpoofTable())
		p.Own(nft.SpoofCheck(a.Mark(), host, attach.MAC(a, c.mac)))
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

func (c *config) hostLink(a *cni.Attachment) string { return a.Mark().Link(prefix) }

func (c *config) planContainer(p *state.Plan, a *cni.Attachment) {
	if c.DisableInterface {
		return
	}
	dad := route.NoDAD
	if c.EnableDAD {
		dad = route.Wait
	}
	attach.Plan(p, a, attach.Options{DAD: dad, Announce: c.Announce, Port: c.hostLink(a), Priority: c.GatewayPriority})
}

// Links implements cni.Linker.
func (c *config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	names := []string{c.Bridge}
	if c.VLAN != 0 && c.uplinked() {
		names = append(names, c.uplink())
	}
	var links []*current.Interface
	for _, name := range append(names, c.hostLink(a)) {
		host, err := attach.Interface(netns.Host(), name)
		if err != nil {
			return nil, err
		}
		links = append(links, host)
	}
	container, err := attach.Interface(a.NetNS, a.Owner.IfName)
	return append(links, container), err
}
