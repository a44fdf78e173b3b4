package nft

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// A Claim says that the table holds something for an owner: an attachment, or with
// a mark that begins with "*/" a link of the host that containers share.
type Claim struct {
	Kind string
	Mark owner.Mark
	Link string // the host link that it lives by, if any
}

// Claims lists the index of the table; none where there is no table.
func Claims(ctx context.Context) ([]Claim, error) {
	elems, err := elements(ctx, owners)
	var out []Claim
	for _, e := range elems {
		ix := &index{}
		ix.add(0, e.Key, e.Comment)
		c := claim{kind: ix.kind, mark: ix.mark}
		if ix.mark.Valid() && slices.Equal(indexKey(c.hash(), 0), e.Key) {
			out = append(out, Claim{Kind: ix.kind, Mark: ix.mark, Link: ix.witness})
		}
	}
	return out, err
}

// OfLink finds the claims that belong to a link of the host, whatever made them:
// policy, hairpin, guard.
func OfLink(ctx context.Context, name string) (found []engine.Found, err error) {
	claims, err := Claims(ctx)
	for _, c := range claims {
		if c.Mark.OnNetwork("*") && c.Mark.Container() == name {
			found = append(found, engine.Found{Mark: c.Mark, Resource: claim{kind: c.Kind, mark: c.Mark}.resource()})
		}
	}
	return found, err
}

// A HeldPort is a published port, and who holds it.
type HeldPort struct {
	Mark     owner.Mark
	HostIP   netip.Addr // the zero Addr: all of the target's family
	HostPort uint16
	Protocol nat.Protocol
	Target   netip.AddrPort // unknown where conditions decide
	IPv6     bool
}

// HeldPorts lists all published ports.
func HeldPorts(ctx context.Context) ([]HeldPort, error) {
	var out []HeldPort
	for _, f := range families() {
		s := f.sets()
		for _, set := range []set{s.ports, s.hostPorts, s.conditional, s.hostConditional} {
			elems, err := elements(ctx, set)
			if err != nil {
				return nil, err
			}
			for _, e := range elems {
				ip, proto, port, ok := hostPort(set.name, e.Key)
				if !ok {
					continue
				}
				p := HeldPort{Mark: owner.Mark(e.Comment), HostIP: ip, HostPort: port, Protocol: proto, IPv6: f.suffix == v6.suffix}
				if n := int(f.bytes); len(e.Val) >= n+2 {
					addr, _ := netip.AddrFromSlice(e.Val[:n])
					p.Target = netip.AddrPortFrom(addr, uint16(e.Val[n])<<8|uint16(e.Val[n+1]))
				}
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// elements lists a set; nothing where there is no set, or no table.
func elements(ctx context.Context, s set) ([]nftables.SetElement, error) {
	elems, err := reader().GetSetElements(s.in(inet()))
	if err != nil && !s.exists(ctx) {
		return nil, nil
	}
	return elems, err
}

// exists asks for the set itself, as the error of a listing does not tell. What
// cannot be asked is thought to be there.
func (s set) exists(ctx context.Context) bool {
	_, err := query(ctx, unix.NFT_MSG_GETSET, inet(), []netlink.Attribute{
		{Type: unix.NFTA_SET_TABLE, Data: text(tableName)},
		{Type: unix.NFTA_SET_NAME, Data: text(s.name)},
	})
	return !errors.Is(err, fs.ErrNotExist)
}
