// Package etcdstore keeps the hosts of overlay networks in etcd: who is there, and
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
package etcdstore

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

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
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

// A Store is one host's view of one network in etcd. What it says comes from a
// list that is kept by events: a change costs what has changed.
type Store struct {
	Options
	client       *clientv3.Client
	base         string
	list         *list
	changed      chan struct{}
	namesChanged chan struct{}

	lease    atomic.Int64       // a clientv3.LeaseID, or 0
	letGo    context.CancelFunc // of the lease
	alive    <-chan *clientv3.LeaseKeepAliveResponse
	agreed   int64 // the revision of etcd at which the network's key was last written
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

// New returns the store of one network, which watches until ctx ends. It does not
// yet speak to etcd.
func New(ctx context.Context, client *clientv3.Client, o Options) *Store {
	s := &Store{
		Options: o, client: client, base: strings.TrimSuffix(o.Prefix, "/") + "/" + o.Name + "/",
		changed: make(chan struct{}, 1), namesChanged: make(chan struct{}, 1), orphaned: map[netip.Prefix]time.Time{},
	}
	s.list = newList(ctx, client, s.base, o.Log)
	s.list.decode, s.list.wake = s.decode, s.wake
	return s
}

// Changed receives when Look may say something new.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// wake wakes those whom a change concerns.
func (s *Store) wake(kind string) {
	if kind != hosts && kind != blocks && kind != network {
		wake(s.namesChanged)
	}
	if kind != names {
		wake(s.changed)
	}
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Look makes this host known under its lease if it is not, and returns all hosts
// with their blocks, this one's too. Each answer is one revision of etcd, and has
// all that this Store has written. It may be behind what others have written, by
// as much as the way from etcd takes; with etcd away, by what Confirm allows.
//
// A key that means nothing, and a host or block that contradicts an older one, is
// left out and named in leftOut; all else holds.
func (s *Store) Look(ctx context.Context) (all peer.Snapshot, leftOut []error, err error) {
	if err := s.ensureLease(ctx); err != nil {
		return nil, nil, err
	}
	const tries = 3 // each after something of ours was put right
	for range tries {
		known, err := s.read(ctx)
		if err != nil {
			return nil, nil, err
		}
		if known {
			all, leftOut = s.assemble()
			s.list.mu.Unlock()
			return all, leftOut, nil
		}
		if err := s.Register(ctx); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("etcd: %s: does not keep what this host writes", s.base)
}

// Confirm asks etcd whether this host and its blocks are there as Look says, or
// sees to it that the next Look asks. So after both, without an error, this host
// has been known and its blocks its own at some time since Confirm was called.
func (s *Store) Confirm(ctx context.Context) error {
	for some := range slices.Chunk(s.own(), most) {
		var ops []clientv3.Op
		for _, k := range some {
			ops = append(ops, clientv3.OpGet(s.base+k.name, clientv3.WithKeysOnly()))
		}
		res, err := s.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
		for i, r := range res.Responses {
			if kvs := r.GetResponseRange().Kvs; len(kvs) == 0 || kvs[0].ModRevision != some[i].revision {
				s.list.forget()
			}
		}
	}
	return nil
}

// most is how many operations are in a transaction; etcd takes 128.
const most = 100

// A key is one of this host, and as of which revision it is known.
type key struct {
	name     string
	revision int64
}

// own returns the keys of this host; none when the list has to be read in any case.
func (s *Store) own() (own []key) {
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	if time.Now().After(s.list.due) {
		s.list.lose()
	}
	if s.list.stop == nil {
		return nil
	}
	me := s.Self.Address.String()
	own = append(own, key{hosts + "/" + me, s.list.kinds[hosts][me].revision})
	for b, h := range s.blocks {
		if h.by == s.Self.Address {
			own = append(own, key{blockName(b), h.revision})
		}
	}
	return own
}

// The kinds of keys.
const (
	network = "network"
	hosts   = "hosts"
	blocks  = "blocks"
	names   = "names"
)

// decode says what a value means, or why nothing.
func (s *Store) decode(kind, name string, value []byte) (any, error) {
	switch kind {
	case network:
		if name == "" {
			return nil, s.agree(value)
		}
	case hosts:
		return s.registered(name, value)
	case blocks:
		return s.block(name, value)
	case names:
		return string(value), nil
	}
	return nil, errors.New("no key of an overlay network")
}

// read reports whether this host is known, and then returns with the list locked
// and whole.
func (s *Store) read(ctx context.Context) (known bool, err error) {
	if err = s.list.whole(ctx); err != nil {
		return false, err
	}
	defer func() {
		if !known {
			s.list.mu.Unlock()
		}
	}()
	me, there := s.list.kinds[hosts][s.Self.Address.String()]
	if r, _ := me.value.(registration); there && r.ID != s.ID {
		return false, fmt.Errorf("etcd: %s%s/%s: another machine, %q, is registered with this one's address", s.base, hosts, s.Self.Address, r.ID)
	}
	registered := there && me.lease == s.lease.Load()
	if bad := s.list.bad[network]; bad != nil {
		if bad = s.list.problem(network, bad); registered {
			bad = fmt.Errorf("%w; %w", bad, peer.ErrAnswered)
		}
		return false, bad
	}
	description, agreed := s.list.kinds[network][""]
	s.agreed = description.revision
	return agreed && registered, nil
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
	beside := peer.Snapshot{s.Self, r.Host} // whose family counts
	if r.Address == s.Self.Address {
		beside = beside[1:]
	}
	if rep.Err() == nil {
		beside.Validate("host", s.Network.Subnets, &rep)
	}
	return r, rep.Err()
}

// A claim is what a key of blocks says. One whose value names no host is nobody's
// to take, as another version of this program may know whose it is.
type claim struct {
	block netip.Prefix
	by    netip.Addr
}

func (s *Store) block(name string, value []byte) (any, error) {
	b, err := netip.ParsePrefix(strings.Replace(name, "-", "/", 1))
	if err != nil {
		return nil, err
	}
	var rep conf.Report
	if !peer.ValidateBlock("block", b, s.Network.Subnets, &rep) {
		return nil, rep.Err()
	}
	by, err := netip.ParseAddr(string(value))
	return claim{b, by}, err
}
