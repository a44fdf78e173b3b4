// Package store keeps the hosts of overlay networks in etcd: who is there, and
// who holds which block of the subnets.
//
// The keys of a network, below PREFIX/NETWORK/:
//
//	network          what all its hosts must agree on
//	hosts/ADDRESS    a host, under its lease: gone when the host is
//	blocks/BLOCK     the address of the host that holds it, until it gives it back
//
// A block outlives its host's lease, so that a host that comes back, or that etcd
// was away from, has its old blocks. Another host may take it over only when no
// other block is free and it has seen the holder's lease gone for as long as
// Reclaim; a host that has had no word with etcd for as long must stop to use its
// blocks (see Store.Look), which is earlier, as its lease ends after its last word.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/peer"
)

// A Network is what all hosts of a network must agree on.
type Network struct {
	Subnets []netip.Prefix `json:"subnets"`
	VNI     int            `json:"vni"`
	Port    int            `json:"port"`
}

// Options are of one host on one network.
type Options struct {
	Prefix  string // of all keys
	Name    string // of the network
	Network Network
	Self    peer.Host
	ID      string // of the machine: two may not have one address
	TTL     time.Duration
	Reclaim time.Duration
	Log     *slog.Logger
}

// A Store is one host's view of one network in etcd.
type Store struct {
	Options
	client  *clientv3.Client
	base    string
	changed chan struct{}

	lease    clientv3.LeaseID
	letGo    context.CancelFunc // of the lease
	alive    <-chan *clientv3.LeaseKeepAliveResponse
	blocks   map[netip.Prefix]held
	orphaned map[netip.Prefix]time.Time // first seen without a living holder
}

type held struct {
	by       netip.Addr
	revision int64
}

// A registration is the value of a host's key.
type registration struct {
	peer.Host
	ID string `json:"id"`
}

// New returns the store of one network. It does not yet speak to etcd.
func New(ctx context.Context, client *clientv3.Client, o Options) *Store {
	s := &Store{
		Options: o, client: client, base: strings.TrimSuffix(o.Prefix, "/") + "/" + o.Name + "/",
		changed: make(chan struct{}, 1), orphaned: map[netip.Prefix]time.Time{},
	}
	go s.watch(ctx)
	return s
}

// Changed receives when Look may say something new.
func (s *Store) Changed() <-chan struct{} { return s.changed }

func (s *Store) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// watch wakes at every event, and when events may have been missed.
func (s *Store) watch(ctx context.Context) {
	const again = time.Second
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for r := range s.client.Watch(watching, s.base, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
			if s.wake(); r.Err() != nil {
				s.Log.Warn("watch", "error", r.Err())
				break
			}
		}
		cancel()
		s.wake()
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// Look makes this host known under its lease if it is not, and returns all hosts
// with their blocks, this one's too. Each answer is one revision of etcd.
func (s *Store) Look(ctx context.Context) (peer.Snapshot, error) {
	if err := s.ensureLease(ctx); err != nil {
		return nil, err
	}
	const tries = 3 // each after something of ours was put right
	for range tries {
		res, err := s.client.Get(ctx, s.base, clientv3.WithPrefix())
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		hosts, again, err := s.read(ctx, res)
		if err != nil || !again {
			return hosts, err
		}
	}
	return nil, fmt.Errorf("etcd: %s: does not keep what this host writes", s.base)
}

// read judges one answer. It reports whether it has written something.
func (s *Store) read(ctx context.Context, res *clientv3.GetResponse) (hosts peer.Snapshot, again bool, err error) {
	var agreed, known bool
	s.blocks = map[netip.Prefix]held{}
	for _, kv := range res.Kvs {
		kind, name, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), s.base), "/")
		switch kind {
		case "network":
			agreed = true
			err = s.agree(kv.Value)
		case "hosts":
			var r registration
			if r, err = s.registered(name, kv.Value); err == nil && r.Address == s.Self.Address {
				if r.ID != s.ID {
					err = fmt.Errorf("another machine, %q, is registered with this one's address %s", r.ID, r.Address)
				}
				known = kv.Lease == int64(s.lease)
			}
			hosts = append(hosts, r.Host)
		case "blocks":
			err = s.block(name, kv.Value, kv.ModRevision)
		default:
			err = errors.New("no key of an overlay network")
		}
		if err != nil {
			return nil, false, fmt.Errorf("etcd: %s: %w", kv.Key, err)
		}
	}
	if !agreed || !known {
		return nil, true, s.register(ctx)
	}
	return s.assemble(hosts), false, nil
}

func (s *Store) agree(value []byte) error {
	var n Network
	if err := json.Unmarshal(value, &n); err != nil {
		return fmt.Errorf("found %.60q, want the description of a network: %w", value, err)
	}
	if n.VNI != s.Network.VNI || n.Port != s.Network.Port || !slices.Equal(n.Subnets, s.Network.Subnets) {
		return fmt.Errorf("the other hosts have subnets %v, VNI %d, port %d, this one %v, %d, %d; is it another cluster's network of that name?",
			n.Subnets, n.VNI, n.Port, s.Network.Subnets, s.Network.VNI, s.Network.Port)
	}
	return nil
}

func (s *Store) registered(name string, value []byte) (r registration, err error) {
	var rep conf.Report
	conf.Decode(value, &r, &rep)
	if rep.Err() == nil && r.Address.String() != name {
		rep.Bad("address", r.Address, "that of the key")
	}
	if rep.Err() == nil {
		peer.Snapshot{r.Host}.Validate("host", s.Network.Subnets, &rep)
	}
	return r, rep.Err()
}

func (s *Store) block(name string, value []byte, revision int64) error {
	b, err := netip.ParsePrefix(strings.Replace(name, "-", "/", 1))
	if err != nil {
		return err
	}
	holder, err := netip.ParseAddr(string(value))
	if err != nil {
		return err
	}
	var rep conf.Report
	peer.ValidateBlock("block", b, s.Network.Subnets, &rep)
	for o := range s.blocks {
		if o.Overlaps(b) {
			rep.Conflict("block", "%s and %s overlap", o, b)
		}
	}
	s.blocks[b] = held{holder, revision}
	return rep.Err()
}

// assemble gives the hosts their blocks, and remembers since when those of no
// host have none.
func (s *Store) assemble(hosts peer.Snapshot) peer.Snapshot {
	now := time.Now()
	for b, h := range s.blocks {
		i := slices.IndexFunc(hosts, func(x peer.Host) bool { return x.Address == h.by })
		if i >= 0 {
			hosts[i].Blocks = append(hosts[i].Blocks, b)
			delete(s.orphaned, b)
		} else if _, ok := s.orphaned[b]; !ok {
			s.orphaned[b] = now
		}
	}
	for b := range s.orphaned {
		if _, ok := s.blocks[b]; !ok {
			delete(s.orphaned, b)
		}
	}
	for i := range hosts {
		slices.SortFunc(hosts[i].Blocks, netip.Prefix.Compare)
	}
	slices.SortFunc(hosts, func(a, b peer.Host) int { return a.Address.Compare(b.Address) })
	return hosts
}

func (s *Store) ensureLease(ctx context.Context) error {
	for s.lease != 0 {
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
	s.lease, s.alive, s.letGo = l.ID, alive, cancel
	return nil
}

// abandon lets the lease end by itself, if it has not; the next Look takes another.
func (s *Store) abandon() {
	s.letGo()
	s.lease = 0
}

// register writes what of ours is missing. A host's own key is taken over from
// the same machine's earlier life alone; Look has judged that.
func (s *Store) register(ctx context.Context) error {
	n, err := json.Marshal(s.Network)
	if err != nil {
		return err
	}
	me, err := json.Marshal(registration{s.Self, s.ID})
	if err != nil {
		return err
	}
	network, host := s.base+"network", s.base+"hosts/"+s.Self.Address.String()
	_, err = s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(network), "=", 0)).
		Then(clientv3.OpPut(network, string(n))).Commit()
	if err == nil {
		_, err = s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(host), "=", 0)).
			Then(clientv3.OpPut(host, string(me), clientv3.WithLease(s.lease))).
			Else(clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value(host), "=", string(me))},
				[]clientv3.Op{clientv3.OpPut(host, string(me), clientv3.WithLease(s.lease))}, nil)).Commit()
	}
	if err != nil {
		s.abandon() // it may be gone
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}
