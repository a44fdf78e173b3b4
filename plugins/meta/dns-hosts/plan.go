package main

import (
	"context"
	"slices"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

func scopes(r *cni.Request) []engine.Scope {
	store := zone.Default()
	return []engine.Scope{store.Scope(netnsName(r.NetNS.Path())), rules{store}}
}

// Resolve implements cni.Resolver: a runtime that passes no name has it in the
// container's bundle. ADD says which names are left out.
func (c *config) Resolve(ctx context.Context, a *cni.Attachment) error {
	if !a.Checking && a.Prev != nil {
		a.Warn(c.leftOut...)
		c.leftOut = nil
	}
	if c.named || a.Owner.ContainerID == "" {
		return ctx.Err()
	}
	for _, name := range slices.Backward(bundleNames(a.Owner.ContainerID)) {
		if parsed, err := zone.ParseName(name); err == nil && !slices.Contains(c.names, parsed) {
			c.names = slices.Insert(c.names, 0, parsed)
		}
	}
	return ctx.Err()
}

// Plan implements cni.Config.
func (c *config) Plan(a *cni.Attachment) engine.Plan {
	var p engine.Plan
	if a.Prev != nil {
		store := zone.Default()
		p.Ensure(served{socket: store.Socket(), mark: a.Mark(), netns: a.NetNS.Path(), capture: c.Capture, last: a.Last})
		p.Own(zone.Entry{Store: store, Record: c.record(a), AnyServers: a.Checking && len(c.servers) == 0})
	}
	return p
}

func (c *config) record(a *cni.Attachment) zone.Record {
	r := zone.Record{
		Mark: a.Mark(), Network: a.Owner.Network, ContainerID: a.Owner.ContainerID, NetNS: a.NetNS.Path(),
		Names: c.allNames(a), Domain: c.DomainName, TTL: uint32(c.TTL), Services: c.services,
		Servers: c.servers, Internal: c.Internal, Capture: c.Capture,
		Search: c.search, Options: c.options, Unique: c.UniqueNames,
	}
	if len(r.Servers) == 0 {
		r.Servers = c.parseServers("", a.Prev.DNS.Nameservers, &conf.Report{})
	}
	if c.NetNSFiles {
		r.NetNSName = netnsName(a.NetNS.Path())
	}
	for _, ip := range a.IPs {
		r.Addrs = append(r.Addrs, ip.Prefix.Addr())
		if c.Internal {
			r.Subnets = append(r.Subnets, ip.Prefix.Masked())
		}
	}
	return r
}

// allNames ends with the short ID, as Docker has it. Where that is no name it is the
// mark's hash, which may look like an address, if it is of digits alone.
func (c *config) allNames(a *cni.Attachment) []string {
	names, hash := slices.Clone(c.names), a.Mark().Hash()
	for _, id := range []string{zone.ShortID(a.Owner.ContainerID), hash[:12], "c" + hash[:11]} {
		if name, err := zone.ParseName(id); err == nil {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			break
		}
	}
	return names
}

// Report implements cni.Reporter: the container is to ask the resolver, and it
// alone, as a C library that asks several takes the first answer. Where the plugin stands
// again in the list, what it has reported before stays.
func (c *config) Report(_ *cni.Attachment, res *current.Result) {
	dns := types.DNS{Nameservers: []string{zone.Resolver}, Domain: res.DNS.Domain, Search: c.search, Options: c.options}
	if slices.Equal(res.DNS.Nameservers, dns.Nameservers) {
		dns.Search, dns.Options = append(res.DNS.Search, c.search...), append(res.DNS.Options, c.options...)
		dns.Search, dns.Options = unique(dns.Search), unique(dns.Options)
	}
	res.DNS = dns
}

// unique leaves out what has come before.
func unique(words []string) (out []string) {
	for _, w := range words {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }

// Warnings implements cni.Warner. ADD does without the daemon, as hosts files do;
// but the container has no other server to ask.
func (c *config) Warnings(context.Context) []string {
	if err := control.Probe(zone.Default().Socket()); err != nil {
		return []string{"dns-hosts daemon: not running (" + err.Error() + "): containers find one another by hosts files alone, and no other names"}
	}
	return nil
}
