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
	return p.locked(p.mappings, func() error {
		if err := p.refuseOverlap(ctx); err != nil {
			return err
		}
		c := p.claim
		if err := c.yield(); err != nil {
			return err
		}
		return c.Apply(ctx)
	})
}

// Remove implements engine.Resource. It works from the index alone.
func (p published) Remove(ctx context.Context) error {
	ix, err := p.readIndex()
	if err != nil || ix == nil {
		return err
	}
	return p.locked(ix.mappings(), func() error { return p.claim.Remove(ctx) })
}

// locked holds the lock of all host ports while f looks and changes, and then
// has the kernel forget where their packets went.
func (p published) locked(ms []nat.Mapping, f func() error) error {
	unlock, err := nat.LockPorts()
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

func (p published) refuseOverlap(ctx context.Context) error {
	for _, m := range p.mappings {
		var holder string
		var err error
		if m.OpenOnly {
			continue
		}
		s := familyOf(m.Target.Addr()).sets()
		if m.HostIP.IsValid() {
			holder, err = held(s, m)
		} else {
			holder, err = heldByAddress([]set{s.hostPorts, s.hostConditional}, m)
		}
		if err != nil {
			return err
		}
		if holder == "" || holder == string(p.mark) || p.mark.SameContainer(owner.Mark(holder)) {
			continue
		}
		if err := p.evictHolder(ctx, owner.Mark(holder), "host port "+m.Host()); err != nil {
			return err
		}
	}
	return nil
}

// held finds who holds the port of all addresses.
func held(s byFamily, m nat.Mapping) (string, error) {
	key := concatKey([]byte{byte(m.Protocol)}, port(m.HostPort))
	for _, s := range []set{s.ports, s.conditional} {
		f, err := get(inet(), s, key)
		if err != nil || f != nil {
			return comment(f), err
		}
	}
	return "", nil
}

func comment(f *found) string {
	if f == nil {
		return ""
	}
	return f.comment
}

// heldByAddress finds who holds the port of any one address. There is no key
// to ask by, so this lists; hosts publish few ports on single addresses.
func heldByAddress(sets []set, m nat.Mapping) (string, error) {
	for _, s := range sets {
		elems, err := reader().GetSetElements(s.in(inet()))
		if err != nil {
			return "", fmt.Errorf("list %s: %w", s.name, err)
		}
		for _, e := range elems {
			if _, proto, port, ok := hostPort(s.name, e.Key); ok && proto == m.Protocol && port == m.HostPort {
				return e.Comment, nil
			}
		}
	}
	return "", nil
}

// evictHolder releases the holder's claim if it is dead, otherwise it fails
// with a HeldError.
func (c claim) evictHolder(ctx context.Context, mark owner.Mark, object string) error {
	holder := claim{kind: c.kind, mark: mark}
	ix, err := holder.readIndex()
	if err != nil {
		return err
	}
	if ix == nil || !ix.dead() {
		return &engine.HeldError{Object: object, Holder: string(mark)}
	}
	return holder.Remove(ctx)
}
