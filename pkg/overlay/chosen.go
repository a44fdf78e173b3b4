package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// choose sees to it that the addresses which the runtime asks for are this host's,
// and returns those that are in no block which containers get theirs from. Where
// there are none of these it asks nobody.
func (c *Config) choose(r *cni.Request) (chosen []netip.Addr, err error) {
	if r.Owner.ContainerID == "" {
		return nil, nil // STATUS
	}
	var rep conf.Report
	var held []error
	for _, a := range r.RequestedIPs(&conf.Report{}) { // the IPAM plugin judges what is no address
		subnet, ok := c.subnet(a.Addr)
		if !ok || c.gives(a.Addr) {
			continue
		}
		chosen = append(chosen, a.Addr)
		if a.Addr == subnet.Addr() || a.Addr.Is4() && a.Addr == lease.Last(subnet) {
			rep.Bad(a.Path, a.Addr, "the address of a host in %s, not the subnet's own or its broadcast address", subnet)
		} else if c.Etcd == nil {
			held = append(held, c.listed(a, &rep))
		}
	}
	if err = rep.Err(); err != nil {
		return nil, cni.Errorf(cni.CodeConfig, "%w", err)
	}
	if err = errors.Join(held...); err != nil || chosen == nil {
		return nil, err
	}
	if c.Etcd != nil {
		err = c.claim(chosen)
	}
	return chosen, err
}

// subnet is the one that an address is in.
func (c *Config) subnet(a netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(c.Subnets, func(s netip.Prefix) bool { return s.Contains(a) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return c.Subnets[i], true
}

// gives reports whether an address is in a block that containers get theirs from.
func (c *Config) gives(a netip.Addr) bool {
	return c.self().Has(a) && !slices.ContainsFunc(c.draining, func(b netip.Prefix) bool { return b.Contains(a) })
}

// listed judges an address by the list of hosts: it must not be in the block of
// another, and between routed hosts it must be a block of this one.
func (c *Config) listed(a cni.Requested, rep *conf.Report) error {
	self := c.self()
	if h, block, ok := c.hosts.Holder(a.Addr); ok && h.Address != self.Address {
		return &engine.HeldError{Object: "address " + a.Addr.String(), Holder: fmt.Sprintf("host %s, in its block %s", h.Address, block)}
	}
	alone := netip.PrefixFrom(a.Addr, a.Addr.BitLen())
	switch {
	case !self.Source(a.Addr).IsValid():
		rep.Bad(a.Path, a.Addr, "an address of the family that this host has a block of, with room for its gateway")
	case c.Mode == routed && !slices.Contains(self.Blocks, alone):
		rep.Bad(a.Path, a.Addr, "an address in a block of this host, %v; to have any other, let %s stand among its blocks in the list that all hosts have", self.Blocks, alone)
	}
	return nil
}

// ranges are what the IPAM plugin may give out, with the addresses that this
// container has chosen, which are excluded for whoever asks for any.
func (c *Config) ranges(ipam map[string]any, chosen []netip.Addr) error {
	self := c.self()
	blocks := slices.DeleteFunc(slices.Clone(self.Blocks), func(b netip.Prefix) bool { return slices.Contains(c.draining, b) })
	sets := peer.Ranges(blocks, c.Subnets, c.Mode == flat)
	if len(sets) == 0 {
		if c.Etcd != nil {
			return c.noBlock()
		}
		return cni.Errorf(cni.CodeConfig, "peers: host %s has no block with addresses for containers", c.underlay.addr)
	}
	var exclude []any
	if list, ok := ipam["exclude"].([]any); ok {
		exclude = list
	}
	for _, a := range chosen {
		r := peer.Range{Subnet: netip.PrefixFrom(a, a.BitLen()), RangeStart: a, RangeEnd: a}
		if c.Mode == flat {
			r.Subnet, _ = c.subnet(a)
			r.Gateway = self.Source(a)
		}
		i := slices.IndexFunc(sets, func(s []peer.Range) bool { return s[0].RangeStart.Is4() == a.Is4() })
		if i < 0 {
			return c.noBlock() // whose address would be the gateway
		}
		sets[i], exclude = append(sets[i], r), append(exclude, a)
	}
	ipam["ranges"] = sets
	if exclude != nil {
		ipam["exclude"] = exclude
	}
	return nil
}

// completeChosen gives addresses that are alone the host's as their gateway.
func (c *Config) completeChosen(a *cni.Attachment) {
	for i, ip := range a.IPs {
		if _, ok := c.subnet(ip.Prefix.Addr()); ok && c.Mode == routed && ip.Prefix.IsSingleIP() {
			a.IPs[i].Gateway = c.self().Source(ip.Prefix.Addr())
		}
	}
}

// A request is what a plugin asks of the daemon by its control socket.
type request struct {
	// Claim are addresses that a container has chosen. They are this host's as
	// long as they are leased, and until the call ends.
	Claim []netip.Addr `json:"claim,omitempty"`
	// Anew has it look at the list of hosts again before it answers.
	Anew bool `json:"anew,omitempty"`
}

// An answer is what the daemon says.
type answer struct {
	State
	Held    *engine.HeldError `json:"held,omitempty"`    // why it could not claim: another has it
	Refused string            `json:"refused,omitempty"` // any other reason
}

// claim has the daemon claim addresses. The call goes on, and with it the claim,
// until this process has ended: by then they are leased, or ADD has failed.
func (c *Config) claim(addrs []netip.Addr) error {
	again := func(err error) error {
		return cni.Errorf(cni.CodeTryAgain, "addresses %v are in no block of this host, and have to be claimed by the daemon: %w; is \"vxlan-overlay daemon\" running for this network?", addrs, err)
	}
	call, err := c.ask(claimFor, request{Claim: addrs})
	if err != nil {
		return again(err)
	}
	c.daemon = call
	said, err := listen(call)
	if err != nil {
		return again(fmt.Errorf("no answer within %v: %w", claimFor, err))
	}
	switch {
	case said.Held != nil:
		return said.Held
	case said.Refused != "":
		return cni.Errorf(cni.CodeTryAgain, "addresses %v cannot be claimed: %s", addrs, said.Refused)
	}
	c.adopt(said.State)
	return nil
}
