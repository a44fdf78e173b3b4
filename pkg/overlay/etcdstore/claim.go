package etcdstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

func blockName(b netip.Prefix) string {
	return blocks + "/" + strings.Replace(b.String(), "/", "-", 1)
}

func (s *Store) blockKey(b netip.Prefix) string { return s.base + blockName(b) }

func (s *Store) hostKey(a netip.Addr) string { return s.base + hosts + "/" + a.String() }

// leaseHeld is the condition of every write: that this host is registered under its
// lease, which lives.
func (s *Store) leaseHeld() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(s.hostKey(s.Self.Address)), "=", clientv3.LeaseID(s.lease.Load()))
}

// Claim takes a block of a subnet that no host holds, or one whose holder is gone
// for longer than Reclaim. The first to look at follows from the host's address,
// so that hosts that start together do not all try the same ones.
func (s *Store) Claim(ctx context.Context, subnet netip.Prefix, bits int) (netip.Prefix, error) {
	for b := range candidates(subnet, bits, s.Self.Address) {
		if s.overlaps(b) {
			continue
		}
		ok, err := s.claim(ctx, b)
		if err != nil || ok {
			return b, err
		}
	}
	return s.takeOver(ctx, subnet)
}

// claim takes a block that nobody has as far as is known. If somebody has it all
// the same, or an address in it, that is known afterwards.
func (s *Store) claim(ctx context.Context, b netip.Prefix) (bool, error) {
	key := s.blockKey(b)
	res, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0), s.nothingChosen(), s.leaseHeld()).
		Then(clientv3.OpPut(key, s.Self.Address.String())).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return false, fmt.Errorf("etcd: %w", err)
	}
	if res.Succeeded {
		s.note(b, held{s.Self.Address, res.Header.Revision})
		s.list.reach(ctx, res.Header.Revision)
		return true, nil
	}
	if len(res.Responses[0].GetResponseRange().Kvs) > 0 {
		s.note(b, held{})
		return false, nil
	}
	return false, s.lookAnew(ctx)
}

// note keeps Claim from trying a block again, until Look says whose it is.
func (s *Store) note(b netip.Prefix, h held) {
	if s.blocks == nil {
		s.blocks = map[netip.Prefix]held{}
	}
	s.blocks[b] = h
}

func (s *Store) overlaps(b netip.Prefix) bool {
	if _, ok := s.blocks[b]; ok {
		return true
	}
	for o := range s.blocks {
		if o.Bits() != b.Bits() && o.Overlaps(b) {
			return true
		}
	}
	return false
}

func (s *Store) takeOver(ctx context.Context, subnet netip.Prefix) (netip.Prefix, error) {
	for b, since := range s.orphaned {
		h, ok := s.blocks[b]
		if !ok || b.IsSingleIP() || !subnet.Contains(b.Addr()) || time.Since(since) < s.Reclaim {
			continue
		}
		key := s.blockKey(b)
		ok, err := s.commit(ctx, clientv3.OpPut(key, s.Self.Address.String()), s.orphan(key, h)...)
		if err != nil || ok {
			return b, err
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: of %s", peer.ErrFull, subnet)
}

// orphan is what taking a block over is subject to: that it is still that of the
// same holder, who is gone.
func (s *Store) orphan(key string, h held) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", h.revision),
		clientv3.Compare(clientv3.CreateRevision(s.hostKey(h.by)), "=", 0),
	}
}

// Return gives a block of this host back.
func (s *Store) Return(ctx context.Context, b netip.Prefix) error {
	key := s.blockKey(b)
	_, err := s.commit(ctx, clientv3.OpDelete(key), clientv3.Compare(clientv3.Value(key), "=", s.Self.Address.String()))
	return err
}

func (s *Store) commit(ctx context.Context, do clientv3.Op, when ...clientv3.Cmp) (bool, error) {
	res, err := s.client.Txn(ctx).If(append(when, s.leaseHeld())...).Then(do).Commit()
	if err != nil {
		return false, fmt.Errorf("etcd: %w", err)
	}
	if res.Succeeded {
		s.list.reach(ctx, res.Header.Revision)
	} else {
		s.list.forget() // what is known is not so
	}
	return res.Succeeded, nil
}

// candidates are the blocks of a subnet, from one that follows from the host's
// address on: all of them, or the first few of very many.
func candidates(subnet netip.Prefix, bits int, host netip.Addr) func(func(netip.Prefix) bool) {
	const most = 1 << 16
	n := uint64(1) << min(bits-subnet.Bits(), 62)
	sum := sha256.Sum256(host.AsSlice())
	start := binary.BigEndian.Uint64(sum[:]) % n
	return func(yield func(netip.Prefix) bool) {
		for i := range min(n, most) {
			if !yield(nth(subnet, bits, (start+i)%n)) {
				return
			}
		}
	}
}

// nth is the i-th block of a subnet.
func nth(subnet netip.Prefix, bits int, i uint64) netip.Prefix {
	b := subnet.Addr().AsSlice()
	for bit := bits - 1; i > 0; bit, i = bit-1, i>>1 {
		if i&1 == 1 {
			b[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}
