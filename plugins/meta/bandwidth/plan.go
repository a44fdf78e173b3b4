package main

import (
	"context"
	"slices"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/qdisc"
)

const prefix = "bwp" // of the ifb's name, as with the reference plugin

// scopes: the limits of a link go with it; so they are looked for only on the
// links that bridge names, which may outlive a failed ADD of this plugin.
func scopes(*cni.Request) []engine.Scope {
	return []engine.Scope{link.Scope{Prefix: prefix}, qdisc.Scope{Prefix: owner.HostPrefix}}
}

func (c *config) limited() bool { return c.ingress.Rate > 0 || c.egress.Rate > 0 }

// Resolve implements cni.Resolver.
func (c *config) Resolve(_ context.Context, a *cni.Attachment) error {
	if c.limited() && a.Prev != nil && a.HostEnd() == "" {
		return cni.Errorf(cni.CodeConfig, "prevResult: no link of the host leads to the container (macvlan, ipvlan?), so bandwidth cannot limit it; take bandwidth out of the list, or runtimeConfig.bandwidth out of the call")
	}
	return nil
}

// Plan implements cni.Config.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	host := a.HostEnd()
	if host == "" { // Resolve has refused limits
		return p
	}
	if c.ingress.Rate > 0 {
		p.Own(qdisc.TBF{Link: host, Limit: c.ingress})
	}
	if c.egress.Rate > 0 {
		p.Own(qdisc.IFB{Name: ifb(a), MTU: host, Limit: c.egress, Mark: a.Mark()}, qdisc.Redirect{Link: host, Through: ifb(a)})
	}
	return p
}

func ifb(a *cni.Attachment) string { return a.Mark().Link(prefix) }

// Report implements cni.Reporter.
func (c *config) Report(a *cni.Attachment, res *current.Result) {
	reported := slices.ContainsFunc(res.Interfaces, func(i *current.Interface) bool { return i.Name == ifb(a) })
	if c.egress.Rate > 0 && !reported {
		res.Interfaces = append(res.Interfaces, &current.Interface{Name: ifb(a), Mac: a.Mark().MAC().String()})
	}
}
