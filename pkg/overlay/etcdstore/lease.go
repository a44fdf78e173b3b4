package etcdstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ensureLease sees to it that this host has a lease, as far as it knows.
func (s *Store) ensureLease(ctx context.Context) error {
	for s.lease.Load() != 0 {
		select {
		case _, ok := <-s.alive:
			if ok {
				continue
			}
			s.abandon()
		default:
			return nil
		}
	}
	l, err := s.client.Grant(ctx, int64(s.TTL/time.Second))
	if err != nil {
		return fmt.Errorf("etcd: lease: %w", err)
	}
	keeping, cancel := context.WithCancel(s.client.Ctx())
	alive, err := s.client.KeepAlive(keeping, l.ID) //nolint:contextcheck // it outlives this call
	if err != nil {
		cancel()
		return fmt.Errorf("etcd: lease: %w", err)
	}
	s.alive, s.letGo = alive, cancel
	s.lease.Store(int64(l.ID))
	return nil
}

// abandon lets the lease end by itself, if it has not; the next Look takes another.
func (s *Store) abandon() {
	s.letGo()
	s.lease.Store(0)
}

// Register makes this host known under its lease, without looking who else is:
// Look does it after that. A host's own key is taken over from the same machine's
// earlier life alone.
func (s *Store) Register(ctx context.Context) error {
	if err := s.ensureLease(ctx); err != nil {
		return err
	}
	n, err := s.description()
	if err != nil {
		return err
	}
	me, err := json.Marshal(registration{s.Self, s.ID})
	if err != nil {
		return err
	}
	lease := clientv3.LeaseID(s.lease.Load())
	description, host := s.base+network, s.hostKey(s.Self.Address)
	res, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(description), "=", 0)).
		Then(clientv3.OpPut(description, n)).Else(clientv3.OpGet(description, clientv3.WithKeysOnly())).Commit()
	if err == nil {
		if s.agreed = res.Header.Revision; !res.Succeeded {
			s.agreed = res.Responses[0].GetResponseRange().Kvs[0].ModRevision
		}
		res, err = s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(host), "=", 0)).
			Then(clientv3.OpPut(host, string(me), clientv3.WithLease(lease))).
			Else(clientv3.OpTxn(
				[]clientv3.Cmp{s.ownRegistration(host, string(me))},
				[]clientv3.Op{clientv3.OpPut(host, string(me), clientv3.WithLease(lease))}, nil)).Commit()
	}
	if err != nil {
		s.abandon() // it may be gone
		return fmt.Errorf("etcd: %w", err)
	}
	if res.Succeeded || res.Responses[0].GetResponseTxn().GetSucceeded() {
		s.list.reach(ctx, res.Header.Revision)
	} else {
		s.list.forget() // whose it is has to be judged
	}
	wake(s.namesChanged)
	return nil
}

// ownRegistration is what taking a host's key over is subject to: that it is this
// machine's, whose earlier version may have written it in another form.
func (s *Store) ownRegistration(host, me string) clientv3.Cmp {
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	e, there := s.list.kinds[hosts][s.Self.Address.String()]
	if r, _ := e.value.(registration); there && s.ID != "" && r.ID == s.ID {
		return clientv3.Compare(clientv3.ModRevision(host), "=", e.revision)
	}
	return clientv3.Compare(clientv3.Value(host), "=", me)
}

// description is the value of the network's key.
func (s *Store) description() (string, error) {
	b, err := json.Marshal(s.Network)
	return string(b), err
}
