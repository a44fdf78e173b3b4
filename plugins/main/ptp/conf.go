package main

import (
	"context"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/firewall/backend"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
)

// config is the wire configuration: the reference plugin's keys and ours.
// README.md says what each means.
type config struct {
	cni.Base
	MTU             int     `json:"mtu"`
	IPMasq          bool    `json:"ipMasq"`
	IPMasqBackend   *string `json:"ipMasqBackend"`
	Announce        bool    `json:"announce"`
	GatewayPriority *int    `json:"gatewayPriority"`

	backend backend.Backend
}

var (
	_ cni.Completer = (*config)(nil)
	_ cni.Resolver  = (*config)(nil)
	_ cni.Linker    = (*config)(nil)
)

func newConfig() cni.Config { return &config{Announce: true} }

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	rep.MTU("mtu", c.MTU, "that of the host's default route")
	if c.GatewayPriority != nil {
		rep.Range("gatewayPriority", *c.GatewayPriority, -endpoint.MaxPriority, endpoint.MaxPriority)
	}
	if !r.HasIPAM() {
		rep.Bad("ipam", "none", "an IPAM plugin: the pair leads to addresses alone")
	}
	c.backend = backend.Named("ipMasqBackend", c.IPMasqBackend, rep)
}

// Resolve implements cni.Resolver.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) (err error) {
	if c.MTU == 0 && !a.Checking {
		if _, c.MTU, err = route.Default(netns.Host()); err != nil {
			return err
		}
	}
	if c.IPMasq && c.IPMasqBackend == nil {
		c.backend, err = backend.Detect(ctx, "bridge", a.Mark(), a.Checking)
	}
	return err
}

// Complete adds the gateways that the IPAM plugin left to us: each address has one,
// as all traffic goes through the host.
func (c *config) Complete(a *cni.Attachment) error { //nolint:unparam // cni.Completer
	for i, ip := range a.IPs {
		if !ip.Gateway.IsValid() {
			a.IPs[i].Gateway = ip.Prefix.Masked().Addr().Next()
		}
	}
	return nil
}

// routed returns the attachment with the routes of its link before those of IPAM:
// the gateway is on the link, and the rest of the subnet behind the gateway.
func routed(a *cni.Attachment) *cni.Attachment {
	out, link := *a, unix.RT_SCOPE_LINK
	out.Routes = nil
	for _, ip := range a.IPs {
		if !ip.Gateway.IsValid() {
			continue
		}
		out.Routes = append(out.Routes, &types.Route{Dst: ipNet(single(ip.Gateway)), Scope: &link})
		if !ip.Prefix.IsSingleIP() {
			out.Routes = append(out.Routes, &types.Route{Dst: ipNet(ip.Prefix.Masked()), GW: ip.Gateway.AsSlice()})
		}
	}
	out.Routes = append(out.Routes, a.Routes...)
	return &out
}

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Links implements cni.Linker: the host's end, and the container's.
func (c *config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	host, err := endpoint.Interface(netns.Host(), bridgenet.HostLink(a))
	if err != nil {
		return nil, err
	}
	container, err := endpoint.Interface(a.NetNS, a.Owner.IfName)
	return []*current.Interface{host, container}, err
}
