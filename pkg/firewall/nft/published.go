package nft

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// published is a claim of host ports. Beside what the kernel arbitrates (one
// value a key) a port of all addresses excludes the same port of one address,
// as with bind(2); and entries of connectionless protocols that conntrack
// remembers from before must go, or packets follow them.
type published struct {
	claim
	mappings []nat.Mapping
}

// Apply implements engine.Resource.
func (p published) Apply(ctx context.Context) error {
	return p.locked(ctx, p.mappings, func() error {
		if err := p.refuseOverlap(ctx); err != nil {
			return err
		}
		c := p.claim
		if err := c.yield(ctx); err != nil {
			return err
		}
		return c.Apply(ctx)
	})
}

// Remove implements engine.Resource. It works from the index alone.
func (p published) Remove(ctx context.Context) error {
	ix, err := p.readIndex(ctx)
	if err != nil || ix == nil {
		return err
	}
	return p.locked(ctx, ix.mappings(), func() error { return p.claim.Remove(ctx) })
}

// locked holds the lock of all host ports while f looks and changes, and then
// has the kernel forget where their packets went.
func (p published) locked(ctx context.Context, ms []nat.Mapping, f func() error) error {
	unlock, err := nat.LockPorts(ctx)
	if err != nil {
		return err
	}
	err = f()
	unlock()
	if err != nil {
		return err
	}
	return nat.FlushConntrack(ms)
}

// mappings returns the published ends that the index names, without targets
// but for the family of an unspecified one.
func (ix *index) mappings() (out []nat.Mapping) {
	for _, ref := range ix.refs {
		name, rest, _ := strings.Cut(ref, ":")
		key, err := hex.DecodeString(rest)
		if err != nil || name == "chain" {
			continue
		}
		if ip, proto, port, ok := hostPort(name, key); ok {
			any := netip.IPv4Unspecified()
			if strings.HasSuffix(name, v6.suffix) {
				any = netip.IPv6Unspecified()
			}
			out = append(out, nat.Mapping{HostIP: ip, HostPort: port, Protocol: proto, Target: netip.AddrPortFrom(any, 0)})
		}
	}
	return out
}

// refuseOverlap fails with a HeldError if another container has a port of all
// addresses that is wanted of one, or the other way round.
func (p published) refuseOverlap(ctx context.Context) error {
	holders, err := p.holders(ctx)
	if err != nil {
		return err
	}
	gone := map[owner.Mark]bool{"": true}
	for i, m := range p.mappings {
		holder := holders[i]
		if gone[holder] || holder == p.mark || p.mark.SameContainer(holder) {
			continue
		}
		gone[holder] = true
		if err := p.evictHolder(ctx, holder, "host port "+m.Host()); err != nil {
			return err
		}
	}
	return nil
}

// holders returns who has what overlaps with each mapping, without being the same
// key of the same map.
func (p published) holders(ctx context.Context) ([]owner.Mark, error) {
	holders := make([]owner.Mark, len(p.mappings))
	var asked []element // the port of all addresses, in two maps
	var of []int        // the mapping of each
	byAddress := map[family]map[portKey]owner.Mark{}
	for i, m := range p.mappings {
		f := familyOf(m.Target.Addr())
		switch {
		case m.OpenOnly:
		case m.HostIP.IsValid():
			key := concatKey([]byte{byte(m.Protocol)}, port(m.HostPort))
			s := f.sets()
			asked = append(asked, element{set: s.ports, key: key}, element{set: s.conditional, key: key})
			of = append(of, i, i)
		default:
			if byAddress[f] == nil {
				var err error
				if byAddress[f], err = f.portsOfAddresses(); err != nil {
					return nil, err
				}
			}
			holders[i] = byAddress[f][portKey{m.Protocol, m.HostPort}]
		}
	}
	found, err := getAll(ctx, inet(), asked)
	for j, f := range found {
		if f != nil && holders[of[j]] == "" {
			holders[of[j]] = owner.Mark(f.comment)
		}
	}
	return holders, err
}

type portKey struct {
	protocol nat.Protocol
	port     uint16
}

// portsOfAddresses lists who has which port of any one address. There is no key
// to ask by, so this lists; hosts publish few ports on single addresses.
func (f family) portsOfAddresses() (map[portKey]owner.Mark, error) {
	holders := map[portKey]owner.Mark{}
	for _, s := range []set{f.sets().hostPorts, f.sets().hostConditional} {
		elems, err := reader().GetSetElements(s.in(inet()))
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", s.name, err)
		}
		for _, e := range elems {
			if _, proto, port, ok := hostPort(s.name, e.Key); ok {
				holders[portKey{proto, port}] = owner.Mark(e.Comment)
			}
		}
	}
	return holders, nil
}

// evictHolder releases the holder's claim if it is dead, otherwise it fails
// with a HeldError.
func (c claim) evictHolder(ctx context.Context, mark owner.Mark, object string) error {
	holder := claim{kind: c.kind, mark: mark}
	ix, err := holder.readIndex(ctx)
	if err != nil {
		return err
	}
	dead := false
	if ix != nil {
		if dead, err = ix.dead(); err != nil {
			return err
		}
	}
	if !dead {
		return &engine.HeldError{Object: object, Holder: string(mark)}
	}
	return holder.Remove(ctx)
}
