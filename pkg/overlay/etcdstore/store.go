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
	s.list.judge, s.list.wake = s.judge, s.wake
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
func (s *Store) Look(ctx context.Context) (peer.Snapshot, error) {
	if err := s.ensureLease(ctx); err != nil {
		return nil, err
	}
	const tries = 3 // each after something of ours was put right
	for range tries {
		hosts, known, err := s.read(ctx)
		if err != nil || known {
			return hosts, err
		}
		if err := s.Register(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("etcd: %s: does not keep what this host writes", s.base)
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

// judge says what a value means, or why nothing.
func (s *Store) judge(kind, name string, value []byte) (any, error) {
	switch kind {
	case network:
		return nil, s.agree(value)
	case hosts:
		return s.registered(name, value)
	case blocks:
		return s.block(name, value)
	case names:
		return string(value), nil
	}
	return nil, errors.New("no key of an overlay network")
}

// read reports whether this host is known; if not, the answer is not a full one.
func (s *Store) read(ctx context.Context) (all peer.Snapshot, known bool, err error) {
	if err = s.list.whole(ctx); err != nil {
		return nil, false, err
	}
	defer s.list.mu.Unlock()
	if err = s.list.err(); err != nil {
		return nil, false, err
	}
	me, there := s.list.kinds[hosts][s.Self.Address.String()]
	if r, _ := me.value.(registration); there && r.ID != s.ID {
		return nil, false, fmt.Errorf("etcd: %s%s/%s: another machine, %q, is registered with this one's address", s.base, hosts, r.Address, r.ID)
	}
	description, agreed := s.list.kinds[network][""]
	if !agreed || !there || me.lease != s.lease.Load() {
		return nil, false, nil
	}
	s.agreed = description.revision
	if all, err = s.assemble(); err != nil {
		return nil, false, err
	}
	return all, true, nil
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

// A claim is what a key of blocks says.
type claim struct {
	block netip.Prefix
	by    netip.Addr
}

func (s *Store) block(name string, value []byte) (c claim, err error) {
	if c.block, err = netip.ParsePrefix(strings.Replace(name, "-", "/", 1)); err != nil {
		return c, err
	}
	if c.by, err = netip.ParseAddr(string(value)); err != nil {
		return c, err
	}
	var rep conf.Report
	peer.ValidateBlock("block", c.block, s.Network.Subnets, &rep)
	return c, rep.Err()
}

// assemble gives the hosts their blocks, and remembers since when those of no
// host have none.
func (s *Store) assemble() (all peer.Snapshot, err error) {
	for _, e := range s.list.kinds[hosts] {
		h := e.value.(registration).Host
		h.Blocks = slices.Clone(h.Blocks)
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b peer.Host) int { return a.Address.Compare(b.Address) })
	index := make(map[netip.Addr]*peer.Host, len(all))
	for i := range all {
		index[all[i].Address] = &all[i]
	}
	sorted, err := s.holdings()
	if err != nil {
		return nil, err
	}
	now, orphaned := time.Now(), map[netip.Prefix]time.Time{}
	for _, b := range sorted {
		if holder := index[s.blocks[b].by]; holder != nil {
			holder.Blocks = append(holder.Blocks, b)
		} else if since, ok := s.orphaned[b]; ok {
			orphaned[b] = since
		} else {
			orphaned[b] = now
		}
	}
	s.orphaned = orphaned
	return all, nil
}

// holdings returns all blocks in order, of which none overlaps another.
func (s *Store) holdings() (sorted []netip.Prefix, err error) {
	s.blocks = make(map[netip.Prefix]held, len(s.list.kinds[blocks]))
	for _, e := range s.list.kinds[blocks] {
		c := e.value.(claim)
		sorted = append(sorted, c.block)
		s.blocks[c.block] = held{c.by, e.revision}
	}
	slices.SortFunc(sorted, netip.Prefix.Compare)
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.Overlaps(b) {
			return nil, fmt.Errorf("etcd: %s: block: %s and %s overlap", s.base+blockName(b), a, b)
		}
	}
	return sorted, nil
}
