package childlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// Scopes finds what either plugin owns.
func Scopes(*cni.Request) []engine.Scope { return []engine.Scope{link.SubScope{}} }

// FromResult implements cni.FromResult.
func (c *Config) FromResult() bool { return c.Chains }

// Complete implements cni.Completer: it takes out the gateways and default routes
// that this kind of network does not have.
func (c *Config) Complete(a *cni.Attachment) error {
	if c.Internal {
		a.Routes = endpoint.WithoutDefault(a.Routes)
	}
	if c.Driver.Layer3() {
		for i := range a.IPs {
			a.IPs[i].Gateway = netip.Addr{}
		}
		for _, r := range a.Routes {
			r.GW = nil
		}
	}
	return nil
}

// Resolve implements cni.Resolver. That the parent is down is said on ADD, which
// goes on; STATUS says it by Limited.
func (c *Config) Resolve(_ context.Context, a *cni.Attachment) error {
	err := c.resolveParent(a)
	status := a.NetNS.Path() == ""
	if err != nil || a.Checking || c.dummy() || c.LinkInContainer && status {
		return err
	}
	c.down, err = link.Parent{NS: c.parentNS(a), Name: c.name(a.Name)}.Down()
	if c.down != "" && !status {
		a.Warn(c.down)
	}
	return err
}

// Limited implements cni.Limiter.
func (c *Config) Limited(context.Context) error {
	if c.down == "" {
		return nil
	}
	return errors.New(c.down)
}

// resolveParent: without a master the parent is the link of the default route, or
// that of the plugin before; on CHECK the one that ADD chose.
func (c *Config) resolveParent(a *cni.Attachment) error {
	if c.parent != "" || c.dummy() {
		return nil
	}
	if c.Chains && a.Prev != nil && !a.Checking {
		if len(a.Prev.Interfaces) != 1 {
			return cni.Errorf(cni.CodeConfig, "master: missing, and prevResult has %d interfaces, want the one that is to be the master", len(a.Prev.Interfaces))
		}
		var rep conf.Report
		rep.LinkName("prevResult.interfaces[0].name", a.Prev.Interfaces[0].Name)
		if err := rep.Err(); err != nil {
			return cni.Errorf(cni.CodeConfig, "%w", err)
		}
		c.parent = a.Prev.Interfaces[0].Name
		return nil
	}
	return c.resolveDefault(a)
}

func (c *Config) resolveDefault(a *cni.Attachment) (err error) {
	if a.Checking {
		made, failed := link.ParentOf(a.Mark())
		if failed != nil || made != "" {
			c.parent, c.VLAN = made, 0
			return failed
		}
	}
	if c.LinkInContainer && a.NetNS.Path() == "" {
		return nil // STATUS: there is no container yet
	}
	if c.parent, err = route.DefaultLink(c.parentNS(a)); err != nil {
		return err
	}
	if err := c.judgeName(); err != nil {
		return cni.Errorf(cni.CodeConfig, "vlan: %w", err)
	}
	return nil
}

func (c *Config) parentNS(a *cni.Attachment) *netns.NS {
	if c.LinkInContainer {
		return a.NetNS
	}
	return netns.Host()
}

// name is the parent's.
func (c *Config) name(network string) string {
	switch {
	case c.dummy():
		return link.Dummy(network).Name
	case c.VLAN != 0:
		return c.parent + "." + strconv.Itoa(c.VLAN)
	}
	return c.parent
}

// Plan implements cni.Config.
func (c *Config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	parent := link.Parent{NS: c.parentNS(a), Name: c.name(a.Name), MTU: c.MTU}
	use := link.Use{Mark: a.Mark(), NS: a.NetNS, Driver: c.Driver}
	switch {
	case c.dummy():
		use.Links = []link.Shared{link.Dummy(a.Name)}
	case !c.LinkInContainer:
		use.Links = link.VLANs(parent.Name)
		last := &use.Links[len(use.Links)-1]
		last.Strict, parent.On = c.VLAN != 0, last.Parent
	}
	if c.HostAccess && len(a.IPs) > 0 {
		end := link.HostEnd(a.Name, parent.Name, c.Driver)
		use.Host = &end
		for _, ip := range a.IPs {
			use.Addrs = append(use.Addrs, ip.Prefix.Addr())
		}
	}
	if !c.dummy() && (!c.LinkInContainer || a.NetNS.Path() != "") { // STATUS knows no container
		p.Require(parent)
	}
	c.requireKinds(&p)
	p.Own(use)
	p.Own(link.Sub{
		Driver: c.Driver, NS: a.NetNS, Name: a.Owner.IfName, ParentNS: parent.NS, Parent: parent.Name,
		MAC: c.mac(a), MTU: c.MTU, Mark: a.Mark(),
	})
	endpoint.Plan(&p, a, c.options(parent))
	if use.Host != nil {
		planHost(&p, a, use)
	}
	return p
}

// requireKinds: that of a VLAN is required with its parent.
func (c *Config) requireKinds(p *engine.Plan) {
	p.Require(link.Kind(c.Driver.Kind))
	if c.dummy() {
		p.Require(link.KindDummy)
	}
}

// planHost lets the host and the container reach one another, without a word
// about it on the line.
func planHost(p *engine.Plan, a *cni.Attachment, use link.Use) {
	end := use.Host.Name
	if !use.Driver.Layer3() {
		p.Ensure(
			link.Neighbors{NS: netns.Host(), Link: end, PeerNS: a.NetNS, Peer: a.Owner.IfName, Addrs: use.Addrs},
			link.Neighbors{NS: a.NetNS, Link: a.Owner.IfName, PeerNS: netns.Host(), Peer: end, HostOf: a.Mark()})
	}
	for _, addr := range use.Addrs {
		p.Ensure(link.HostRoute(end, addr))
	}
}

// options: the addresses of a network with a line to others are not ours alone.
// In layer 3 there is no ARP, nor anybody to tell.
func (c *Config) options(parent link.Parent) endpoint.Options {
	o := endpoint.Options{AcceptRA: c.AcceptRA, OnLink: c.Driver.Layer3(), Priority: c.GatewayPriority, Fixed: c.Driver.Kind == link.Ipvlan}
	if !o.OnLink {
		o.Announce = c.Announce
	}
	if !o.OnLink && !c.dummy() && c.DuplicateCheck > 0 {
		o.Probe.Wait = time.Duration(c.DuplicateCheck) * time.Millisecond
		if !c.Driver.Echoes() { // where the kernel would take its own announcement for another's
			o.DAD = route.Optimistic
		}
		if o.Fixed { // the kernel gives answers to the link that has the address, or else to the parent
			o.Probe.NS, o.Probe.Link = parent.NS, parent.Name
		}
	}
	return o
}

// mac is made from the mark, as addresses are not the network's alone: two hosts
// that give out the same one by mistake must not look like one.
func (c *Config) mac(a *cni.Attachment) net.HardwareAddr {
	switch {
	case c.Driver.Kind == link.Ipvlan || c.Driver.Mode == link.Passthru:
		return nil // its parent's
	case c.Address != nil:
		return endpoint.MAC(a, c.Address)
	}
	return endpoint.MAC(a, a.Mark().MAC())
}

// Warnings implements cni.Warner: packets of ipvlan containers to the host come in
// by the parent, while the route back is by the host's own link.
func (c *Config) Warnings(context.Context) []string {
	if !c.HostAccess || c.Driver.Kind != link.Ipvlan || c.Driver.Layer3() {
		return nil
	}
	filter := func(link, value string) bool {
		is, err := sysctl.Set(netns.Host(), "net/ipv4/conf/"+link+"/rp_filter", value).Has()
		return err == nil && is
	}
	strict := filter("all", "1") || filter(c.parent, "1") // the larger of the two counts
	if strict && !filter("all", "2") && !filter(c.parent, "2") {
		return []string{fmt.Sprintf("hostAccess: the host drops what containers send it, as rp_filter of %s is strict; set net.ipv4.conf.%s.rp_filter to 2", c.parent, c.parent)}
	}
	return nil
}

// Links implements cni.Linker.
func (c *Config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	l, err := endpoint.Interface(a.NetNS, a.Owner.IfName)
	return []*current.Interface{l}, err
}
