package bridgenet

import (
	"context"
	"net"
	"net/netip"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

const kind = "bridge" // of the masquerading, under which it is found again

// Scopes finds the pairs and the masquerading. The link comes first, so that it
// is removed last: while the kernel waits for the last users of the link, it
// also frees the elements (see nft.writer). Only what keeps a container from sending
// as somebody else outlives it.
func Scopes(more ...engine.Scope) []engine.Scope {
	return slices.Concat([]engine.Scope{nft.AntiSpoofingScope(), link.Scope{Prefix: owner.HostPrefix}}, more, backend.Scopes(kind))
}

// CompleteGateways adds the gateways that the IPAM plugin left to us.
func (c *Config) CompleteGateways(a *cni.Attachment) {
	for i, ip := range a.IPs {
		is6 := ip.Prefix.Addr().Is6()
		switch {
		case c.Mode(is6) == nft.Isolated:
			a.IPs[i].Gateway = netip.Addr{}
		case c.HasGateway(is6) && !ip.Gateway.IsValid():
			a.IPs[i].Gateway = ip.Prefix.Masked().Addr().Next()
		}
	}
}

// Resolve fills in what depends on the host, but for the MTU.
func (c *Config) Resolve(ctx context.Context, a *cni.Attachment) error {
	err := c.resolveIsolation()
	if err == nil && c.IPMasqBackend == nil && c.masquerades() {
		c.backend, err = backend.Detect(ctx, kind, a.Mark(), a.Checking)
	}
	return err
}

// resolveIsolation chooses how icc: false keeps peers apart. Isolated ports do,
// whatever the frames hold. But with br_netfilter the kernel forwards a peer's
// packets to a published port from port to port, so there the forward chain,
// which then sees bridged packets too, must be the one to tell them apart. (Not
// those in a VLAN, whose published ports are routed, by another link.)
func (c *Config) resolveIsolation() error {
	filtered, err := sysctl.BridgesFiltered()
	c.isolate = c.PortIsolation || !c.ICC && (!filtered || c.uplink() != c.Bridge)
	return err
}

// Warnings says what of other firewalls may be in the way.
func (c *Config) Warnings(context.Context) []string {
	if c.Internal {
		return nil
	}
	blockers, err := nft.Blockers(c.uplink())
	if err != nil {
		return []string{"other firewalls cannot be looked at: " + err.Error()}
	}
	return blockers
}

func (c *Config) uplink() string {
	if c.Layout.Uplink == "" {
		return c.Bridge
	}
	return c.Layout.Uplink
}

// Uplinked reports whether the host can have packets to and from the containers.
func (c *Config) Uplinked() bool { return !c.Layout.Apart || c.HasGateway(false) || c.HasGateway(true) }

// PlanRequirements comes first: what is not met must not leave a bridge behind.
// It is told whether the plugin uses nftables for more.
func (c *Config) PlanRequirements(p *engine.Plan, more bool) {
	nftables := backend.NFTables()
	if c.masquerades() {
		p.Require(c.backend.Ready)
	}
	already := c.masquerades() && c.backend.Name == nftables.Name
	if !already && (c.polices() || c.AntiSpoofing || more) {
		p.Require(nftables.Ready)
	}
	if c.AntiSpoofing {
		p.Require(nft.BridgeFamily())
	}
}

// HostLinkSysctls keep a link of the host from heeding router advertisements, and
// from duplicate address detection: the host asks for its neighbours from the link's
// link-local address, so that one must not wait. For a second or two no packet would
// come in from outside.
func HostLinkSysctls(name string) sysctl.Setting {
	conf := "net/ipv6/conf/" + name
	return sysctl.Try(netns.Host(), conf+"/accept_ra", "0", conf+"/accept_dad", "0")
}

// EnableIPv6 switches IPv6 on for a link of the host that is to have addresses or
// routes of it, whatever the host's default.
func EnableIPv6(name string) sysctl.Setting {
	return sysctl.Set(netns.Host(), "net/ipv6/conf/"+name+"/disable_ipv6", "0")
}

// PlanGateway gives the host an address in the network. With alone, others that
// are in the way are taken away.
func (c *Config) PlanGateway(p *engine.Plan, gateway netip.Prefix, alone bool) {
	if gateway.Addr().Is6() {
		p.Ensure(EnableIPv6(c.uplink()))
	}
	address := route.Addr{NS: netns.Host(), Link: c.uplink(), Prefix: gateway}
	p.Ensure(address)
	if alone {
		p.Ensure(route.Only{Addr: address})
	}
	if !c.Internal {
		p.Ensure(sysctl.Forwarding{IPv6: gateway.Addr().Is6()})
	}
}

// PlanFirewall lets through what the policy allows.
func (c *Config) PlanFirewall(p *engine.Plan) {
	if c.polices() {
		p.Ensure(nft.Table())
	} else if c.masquerades() {
		p.Ensure(c.backend.Table...)
	}
	if c.Uplinked() {
		p.Ensure(c.policy().Resource())
	}
	if (!c.Internal || c.Layout.Kin != nil) && (c.HasGateway(false) || c.HasGateway(true)) {
		for _, l := range c.links() {
			p.Ensure(nft.ForwardAccept(l))
		}
	}
}

func (c *Config) links() []string { return append([]string{c.uplink()}, c.Layout.Kin...) }

// polices reports whether there is something to police.
func (c *Config) polices() bool { return c.Uplinked() && c.policy().Wanted() }

func (c *Config) policy() nft.Policy {
	p := nft.Policy{
		Bridge: c.uplink(), Kin: c.Layout.Kin, Internal: c.Internal, ICC: c.ICC,
		V4: c.Mode(false), V6: c.Mode(true), Trusted: c.TrustedInterfaces,
	}
	if p.Bridge != c.Bridge {
		p.Below = c.Bridge
	}
	return p
}

func (c *Config) masquerades() bool { return c.masquerade(false) || c.masquerade(true) }

func (c *Config) masqueraded(a *cni.Attachment) (addrs []netip.Prefix) {
	for _, ip := range a.IPs {
		if c.masquerade(ip.Prefix.Addr().Is6()) {
			addrs = append(addrs, ip.Prefix)
		}
	}
	return addrs
}

// PlanPort makes the container's pair, ensures what the plugin wants of its port,
// and masquerades.
func (c *Config) PlanPort(p *engine.Plan, a *cni.Attachment, port ...engine.Resource) {
	host := HostLink(a)
	if c.AntiSpoofing { // before there is a link that something could come in by
		p.Ensure(link.NoLinkLocalLearning{Bridge: c.Bridge}, nft.AntiSpoofingTable())
		p.Own(c.antiSpoofing(a).Resource())
	}
	p.Own(link.Veth{
		Host: host, Bridge: c.Bridge, NS: a.NetNS, Peer: a.Owner.IfName,
		MAC: c.MAC(a), MTU: c.MTU, Down: c.Layout.Down, Mark: a.Mark(),
	})
	p.Ensure(link.Port{Link: host, Hairpin: c.HairpinMode, Isolated: c.isolate})
	p.Ensure(port...)
	if masq := c.masqueraded(a); len(masq) > 0 {
		p.Own(c.backend.Masquerade(nat.Masquerade{Mark: a.Mark(), Bridge: c.uplink(), Kin: c.Layout.Kin, Addrs: masq}))
	}
}

// antiSpoofing: what a later plugin has made of the hardware address is in prevResult
// and not in the rules.
func (c *Config) antiSpoofing(a *cni.Attachment) nft.AntiSpoofing {
	made := *a
	made.MAC = nil
	s := nft.AntiSpoofing{Mark: a.Mark(), Port: HostLink(a), MAC: c.MAC(&made), Allowed: c.allowed}
	for _, ip := range a.IPs {
		s.Addrs = append(s.Addrs, ip.Prefix.Addr())
	}
	return s
}

// HostLink is the host's end of the container's pair.
func HostLink(a *cni.Attachment) string { return a.Mark().HostLink() }

// MAC is the address that the container's interface shall have.
func (c *Config) MAC(a *cni.Attachment) net.HardwareAddr { return endpoint.MAC(a, c.mac) }

// PlanContainer does what is to be done inside the container.
func (c *Config) PlanContainer(p *engine.Plan, a *cni.Attachment) {
	if c.Layout.Down {
		return
	}
	dad := route.NoDAD
	if c.EnableDAD {
		dad = route.Wait
	}
	endpoint.Plan(p, a, endpoint.Options{DAD: dad, Announce: c.Announce, Port: HostLink(a), Priority: c.GatewayPriority, AcceptRA: c.AcceptRA})
}

// Links reports the bridge, the further links named, the host's end and the
// container's.
func (c *Config) Links(a *cni.Attachment, more ...string) (found []*current.Interface, err error) {
	for _, name := range slices.Concat([]string{c.Bridge}, more, []string{HostLink(a)}) {
		i, linkErr := endpoint.Interface(netns.Host(), name)
		if linkErr != nil {
			return nil, linkErr
		}
		found = append(found, i)
	}
	container, err := endpoint.Interface(a.NetNS, a.Owner.IfName)
	return append(found, container), err
}
