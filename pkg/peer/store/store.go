// Package store keeps the hosts of overlay networks in etcd: who is there, and
// who holds which block of the subnets.
//
// The keys of a network, below PREFIX/NETWORK/:
//
//	network          what all its hosts must agree on; written anew by each claim of an address
//	hosts/ADDRESS    a host, under its lease: gone when the host is
//	blocks/BLOCK     the address of the host that holds it, until it gives it back;
//	                 one of a single address is that of a container which chose it
//	names/ADDRESS/…  what a container of the host is called, under the host's lease
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
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
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
	client       *clientv3.Client
	base         string
	changed      chan struct{}
	namesChanged chan struct{}

	lease    atomic.Int64       // a clientv3.LeaseID, or 0
	letGo    context.CancelFunc // of the lease
	alive    <-chan *clientv3.LeaseKeepAliveResponse
	agreed   int64 // the revision of etcd at which the network's key was last written
	blocks   map[netip.Prefix]held
	orphaned map[netip.Prefix]time.Time // first seen without a living holder

	names     map[string]name // by what follows "names/" in the key
	namesRead int64           // the revision of etcd that they are of
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
		changed: make(chan struct{}, 1), namesChanged: make(chan struct{}, 1), orphaned: map[netip.Prefix]time.Time{},
	}
	go s.watch(ctx)
	return s
}

// Changed receives when Look may say something new.
func (s *Store) Changed() <-chan struct{} { return s.changed }

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Store) wakeBoth() {
	wake(s.changed)
	wake(s.namesChanged)
}

// watch wakes at every event, and when events may have been missed.
func (s *Store) watch(ctx context.Context) {
	const again = time.Second
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for r := range s.client.Watch(watching, s.base, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
			if r.Err() != nil {
				s.Log.Warn("watch", "error", r.Err())
				break
			}
			s.wakeFor(r.Events)
		}
		cancel()
		s.wakeBoth()
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// wakeFor wakes those whom events concern; none come when a watch begins.
func (s *Store) wakeFor(events []*clientv3.Event) {
	if len(events) == 0 {
		s.wakeBoth()
	}
	for _, e := range events {
		if strings.HasPrefix(string(e.Kv.Key), s.base+names) {
			wake(s.namesChanged)
		} else {
			wake(s.changed)
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
		kvs, err := s.get(ctx)
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		hosts, again, err := s.read(ctx, kvs)
		if err != nil || !again {
			return hosts, err
		}
	}
	return nil, fmt.Errorf("etcd: %s: does not keep what this host writes", s.base)
}

// get reads all keys but the names, which Names does.
func (s *Store) get(ctx context.Context) (kvs []*mvccpb.KeyValue, err error) {
	from := s.base + names
	res, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(s.base, clientv3.WithRange(from)),
		clientv3.OpGet(clientv3.GetPrefixRangeEnd(from), clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.base))),
	).Commit()
	if err != nil {
		return nil, err
	}
	for _, r := range res.Responses {
		kvs = append(kvs, r.GetResponseRange().Kvs...)
	}
	return kvs, nil
}

// read judges one answer. It reports whether it has written something.
func (s *Store) read(ctx context.Context, kvs []*mvccpb.KeyValue) (hosts peer.Snapshot, again bool, err error) {
	var agreed, known bool
	s.blocks = map[netip.Prefix]held{}
	for _, kv := range kvs {
		kind, name, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), s.base), "/")
		switch kind {
		case "network":
			agreed, s.agreed = true, kv.ModRevision
			err = s.agree(kv.Value)
		case "hosts":
			var r registration
			if r, err = s.registered(name, kv.Value); err == nil && r.Address == s.Self.Address {
				if r.ID != s.ID {
					err = fmt.Errorf("another machine, %q, is registered with this one's address %s", r.ID, r.Address)
				}
				known = kv.Lease == s.lease.Load()
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
