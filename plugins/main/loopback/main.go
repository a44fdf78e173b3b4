// Command loopback sets the loopback link of a container up. See README.md.
package main

import (
	"context"
	"net"
	"net/netip"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// name is the link's, whatever CNI_IFNAME says: runtimes pass "lo", or by
// habit the name of another interface.
const name = "lo"

func main() {
	cni.Main("loopback", plugin{cni.Planned{New: func() cni.Config { return &config{} }, Scopes: scopes, Light: true}})
}

// A plugin is Planned, but that behind another plugin the result is the other's:
// the address of a container is not 127.0.0.1.
type plugin struct{ cni.Planned }

func (p plugin) Add(ctx context.Context, r *cni.Request) (*current.Result, error) {
	res, err := p.Planned.Add(ctx, r)
	if err == nil && r.Prev != nil {
		res = r.Prev
	}
	return res, err
}

type config struct{ cni.Base }

// Validate implements cni.Config.
func (*config) Validate(*cni.Request, *conf.Report) {}

// Plan implements cni.Config.
func (*config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	p.Ensure(link.Up{NS: a.NetNS, Name: name})
	return p
}

// scopes: every namespace has the link, so nothing is owned.
func scopes(*cni.Request) []engine.Scope { return nil }

// Links implements cni.Linker.
func (*config) Links(_ context.Context, a *cni.Attachment) ([]*current.Interface, error) {
	lo, err := endpoint.Interface(a.NetNS, name)
	if err != nil {
		return nil, err
	}
	lo.Mac = "00:00:00:00:00:00"
	a.IPs, err = addresses(a.NetNS)
	return []*current.Interface{lo}, err
}

// addresses reads those that the kernel gave the link: without IPv6 one less.
func addresses(ns *netns.NS) (ips []cni.IP, err error) {
	err = ns.Do(func() error {
		lo, failed := net.InterfaceByName(name)
		if failed != nil {
			return failed
		}
		addrs, failed := lo.Addrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				ones, _ := n.Mask.Size()
				ips = append(ips, cni.IP{Prefix: netip.PrefixFrom(cni.Addr(n.IP), ones)})
			}
		}
		return failed
	})
	return ips, err
}
