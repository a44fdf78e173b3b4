package etcdstore

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// smallestBlock is the room, in bits, of the smallest block that hosts may claim
// for containers that choose no address.
const smallestBlock = 3

// nothingChosen is what the claim of a block is subject to: that no address was
// claimed since the last Look, as it might be one of that block. Each such claim
// writes the network's key anew.
func (s *Store) nothingChosen() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(s.base+network), "=", s.agreed)
}

// ClaimAddress takes a block of one address, anywhere in the network's subnets. If
// it is another host's, or in a block of one, the error is a *engine.HeldError that
// names the host. What this host has already is no error.
func (s *Store) ClaimAddress(ctx context.Context, a netip.Addr) error {
	const tries = 5 // each after others were faster
	for try := range tries {
		when, err := s.claimable(a)
		if err != nil && try == 0 { // what is known may be behind: it may have been given back
			if err = s.lookAnew(ctx); err != nil {
				return err
			}
			when, err = s.claimable(a)
		}
		if err != nil || when == nil {
			return err
		}
		n, err := s.description()
		if err != nil {
			return err
		}
		key := s.blockKey(netip.PrefixFrom(a, a.BitLen()))
		both := []clientv3.Op{clientv3.OpPut(key, s.Self.Address.String()), clientv3.OpPut(s.base+network, n)}
		if ok, err := s.commit(ctx, clientv3.OpTxn(nil, both, nil), when...); err != nil || ok {
			return err
		}
		if err := s.lookAnew(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("etcd: address %s: others claim all the time", a)
}

// lookAnew is Look, but at what etcd has now.
func (s *Store) lookAnew(ctx context.Context) error {
	s.list.forget()
	_, _, err := s.Look(ctx)
	return err
}

// claimable returns what the claim of an address is subject to, nil if it is this
// host's already.
func (s *Store) claimable(a netip.Addr) ([]clientv3.Cmp, error) {
	own := netip.PrefixFrom(a, a.BitLen())
	for b, h := range s.blocks {
		switch since, orphaned := s.orphaned[b]; {
		case !b.Contains(a):
			continue
		case h.by == s.Self.Address:
			return nil, nil
		case b == own && orphaned && time.Since(since) >= s.Reclaim:
			return s.orphan(s.blockKey(b), h), nil
		case b == own:
			return nil, &engine.HeldError{Object: "address " + a.String(), Holder: "host " + h.by.String()}
		default:
			return nil, &engine.HeldError{Object: "address " + a.String(), Holder: fmt.Sprintf("host %s, in its block %s", h.by, b)}
		}
	}
	var when []clientv3.Cmp
	absent := func(b netip.Prefix) {
		when = append(when, clientv3.Compare(clientv3.CreateRevision(s.blockKey(b)), "=", 0))
	}
	absent(own)
	for _, subnet := range s.Network.Subnets {
		for bits := subnet.Bits(); subnet.Contains(a) && bits <= a.BitLen()-smallestBlock; bits++ {
			absent(netip.PrefixFrom(a, bits).Masked())
		}
	}
	return when, nil
}
