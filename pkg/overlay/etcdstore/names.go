package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrUnregistered says that this host has no lease, or not yet: NamesChanged
// receives when it has.
var ErrUnregistered = errors.New("etcd: this host is not registered")

// NamesChanged receives when Names may say something new.
func (s *Store) NamesChanged() <-chan struct{} { return s.namesChanged }

// Names makes etcd have under this host's lease, for this host, the names own,
// any text by its key, and no others. It returns those of the other hosts, as
// Look does. It may run beside the other methods, but not beside itself.
func (s *Store) Names(ctx context.Context, own map[string]string) (map[netip.Addr][]string, error) {
	lease := s.lease.Load()
	if lease == 0 {
		return nil, ErrUnregistered
	}
	if err := s.list.whole(ctx); err != nil {
		return nil, err
	}
	others, ops := s.compareNames(own, lease)
	s.list.mu.Unlock()
	return others, s.writeNames(ctx, ops)
}

func (s *Store) compareNames(own map[string]string, lease int64) (others map[netip.Addr][]string, ops []clientv3.Op) {
	others, prefix := map[netip.Addr][]string{}, s.base+names+"/"
	found := s.list.kinds[names]
	for _, key := range slices.Sorted(maps.Keys(found)) {
		host, rest, _ := strings.Cut(key, "/")
		address, err := netip.ParseAddr(host)
		if err != nil {
			continue // nobody's
		}
		if address != s.Self.Address {
			others[address] = append(others[address], found[key].value.(string))
		} else if _, ok := own[rest]; !ok {
			ops = append(ops, clientv3.OpDelete(prefix+key))
		}
	}
	for rest, value := range own {
		key := s.Self.Address.String() + "/" + rest
		if n := found[key]; n.value != value || n.lease != lease {
			ops = append(ops, clientv3.OpPut(prefix+key, value, clientv3.WithLease(clientv3.LeaseID(lease))))
		}
	}
	return others, ops
}

func (s *Store) writeNames(ctx context.Context, ops []clientv3.Op) error {
	for some := range slices.Chunk(ops, most) {
		res, err := s.client.Txn(ctx).If(s.leaseHeld()).Then(some...).Commit()
		if err != nil {
			return fmt.Errorf("etcd: names: %w", err)
		}
		if !res.Succeeded {
			return ErrUnregistered
		}
		s.list.reach(ctx, res.Header.Revision)
	}
	return nil
}
