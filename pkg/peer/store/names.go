package store

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

// names is what the keys of names begin with, below those of the network. What is
// there is no part of what Look reads: there is one for each container.
const names = "names/"

// ErrUnregistered says that this host has no lease, or not yet: NamesChanged
// receives when it has.
var ErrUnregistered = errors.New("etcd: this host is not registered")

// A name is the value of one key of names.
type name struct {
	value           string
	revision, lease int64
}

// NamesChanged receives when Names may say something new.
func (s *Store) NamesChanged() <-chan struct{} { return s.namesChanged }

// Names makes etcd have under this host's lease, for this host, the names own,
// any text by its key, and no others. It returns those of the other hosts. What
// has not changed since the last call is not read again. It may run beside the
// other methods, but not beside itself.
func (s *Store) Names(ctx context.Context, own map[string]string) (map[netip.Addr][]string, error) {
	lease := clientv3.LeaseID(s.lease.Load())
	if lease == 0 {
		return nil, ErrUnregistered
	}
	if err := s.readNames(ctx); err != nil {
		return nil, err
	}
	others := map[netip.Addr][]string{}
	var ops []clientv3.Op
	for _, key := range slices.Sorted(maps.Keys(s.names)) {
		host, rest, _ := strings.Cut(key, "/")
		address, err := netip.ParseAddr(host)
		if err != nil {
			continue // nobody's
		}
		if address != s.Self.Address {
			others[address] = append(others[address], s.names[key].value)
		} else if _, ok := own[rest]; !ok {
			ops = append(ops, clientv3.OpDelete(s.base+names+key))
		}
	}
	for rest, value := range own {
		key := s.Self.Address.String() + "/" + rest
		if n := s.names[key]; n.value != value || n.lease != int64(lease) {
			ops = append(ops, clientv3.OpPut(s.base+names+key, value, clientv3.WithLease(lease)))
		}
	}
	return others, s.writeNames(ctx, ops)
}

func (s *Store) writeNames(ctx context.Context, ops []clientv3.Op) error {
	const most = 100 // in a transaction; etcd takes 128
	for some := range slices.Chunk(ops, most) {
		res, err := s.client.Txn(ctx).If(s.alone()).Then(some...).Commit()
		if err != nil {
			return fmt.Errorf("etcd: names: %w", err)
		}
		if !res.Succeeded {
			return ErrUnregistered
		}
	}
	return nil
}

// readNames reads which keys there are, and the values that are new, in one
// revision of etcd.
func (s *Store) readNames(ctx context.Context) error {
	prefix := s.base + names
	for range 2 { // the second time anew, if it is another etcd than before
		res, err := s.client.Txn(ctx).Then(
			clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()),
			clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithMinModRev(s.namesRead+1)),
		).Commit()
		if err != nil {
			return fmt.Errorf("etcd: names: %w", err)
		}
		known := s.names
		if known == nil {
			known = map[string]name{}
		}
		for _, kv := range res.Responses[1].GetResponseRange().Kvs {
			known[strings.TrimPrefix(string(kv.Key), prefix)] = name{string(kv.Value), kv.ModRevision, kv.Lease}
		}
		now, whole := map[string]name{}, true
		for _, kv := range res.Responses[0].GetResponseRange().Kvs {
			key := strings.TrimPrefix(string(kv.Key), prefix)
			now[key] = known[key]
			whole = whole && known[key].revision == kv.ModRevision
		}
		if whole {
			s.names, s.namesRead = now, res.Header.Revision
			return nil
		}
		s.names, s.namesRead = nil, 0
	}
	return errors.New("etcd: names: keys without values")
}
