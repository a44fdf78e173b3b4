package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// plugin implements cni.Verbs.
type plugin struct{}

var _ cni.Verbs = plugin{}

// Add leases one address of each range set. Repeated for the same attachment it
// gives the same addresses.
func (plugin) Add(ctx context.Context, r *cni.Request) (*current.Result, error) {
	c, err := valid(r)
	if err != nil {
		return nil, err
	}
	dns, err := readResolvConf(c.ResolvConf)
	if err != nil {
		return nil, cni.Errorf(cni.CodeConfig, "ipam.resolvConf: %w", err)
	}
	s, err := lease.Open(ctx, c.DataDir, r.Name, c.pools, true)
	if err != nil {
		return nil, unopened(err)
	}
	defer s.Close()
	leases, err := acquire(s, r, c)
	if err != nil {
		return nil, coded(err, cni.CodeTryAgain)
	}
	return &current.Result{CNIVersion: current.ImplementedSpecVersion, IPs: ips(leases), Routes: c.routes(), DNS: dns}, nil
}

func acquire(s *lease.Store, r *cni.Request, c *config) ([]lease.Lease, error) {
	// A namespace that cannot be looked at makes the lease harder to reclaim,
	// nothing else: what is wrong with it is for the interface plugin to say.
	inode, err := r.NetNS.Inode()
	if err != nil || r.NetNS.Path() == "" {
		inode = 0
	}
	if err := refuseSecond(s, r, inode); err != nil {
		return nil, err
	}
	return s.Acquire(r.Owner, inode, c.requested)
}

// refuseSecond fails if the attachment is certainly alive: it has a lease in
// the namespace that this call is for, and its interface is there. An interface
// plugin that does not look for itself would otherwise fail later, and release
// the first ADD's addresses.
func refuseSecond(s *lease.Store, r *cni.Request, inode uint64) error {
	addrs, err := s.Of(r.Owner)
	if err != nil || len(addrs) == 0 || inode == 0 || !s.From(addrs, inode) {
		return err
	}
	if !hasLink(r.NetNS, r.Owner.IfName) {
		return nil
	}
	return cni.Errorf(cni.CodeExists, "%s: %s is leased to it and the interface exists; DEL it first", r, addrs[0])
}

func hasLink(ns *netns.NS, name string) bool {
	h, err := ns.Netlink()
	if err != nil {
		return false
	}
	_, err = h.LinkByName(name)
	return err == nil
}

// Check compares the addresses of prevResult with those leased.
func (plugin) Check(ctx context.Context, r *cni.Request) error {
	if r.Prev == nil {
		return cni.Errorf(cni.CodeConfig, "prevResult: missing, want the result of ADD")
	}
	prev, err := r.PrevIPs()
	if err != nil {
		return err
	}
	var want []netip.Addr
	for _, ip := range prev {
		want = append(want, ip.Prefix.Addr())
	}
	found, err := leased(ctx, r)
	if err != nil {
		return err
	}
	slices.SortFunc(want, netip.Addr.Compare)
	slices.SortFunc(found, netip.Addr.Compare)
	if !slices.Equal(found, want) {
		return cni.Errorf(cni.CodeDiffers, "addresses leased to %s: found %s, want %s as in prevResult", r, list(found), list(want))
	}
	return nil
}

func leased(ctx context.Context, r *cni.Request) (addrs []netip.Addr, err error) {
	err = existing(ctx, r, nil, func(s *lease.Store) error {
		addrs, err = s.Of(r.Owner)
		return err
	})
	return addrs, err
}

// Del releases what the attachment has. It needs no valid configuration.
func (plugin) Del(ctx context.Context, r *cni.Request) error {
	return existing(ctx, r, anyPools(r), func(s *lease.Store) error { return s.Release(r.Owner) })
}

// GC releases what no valid attachment has.
func (plugin) GC(ctx context.Context, r *cni.Request) error {
	return existing(ctx, r, anyPools(r), func(s *lease.Store) error {
		return s.Prune(func(k owner.Key) bool { return k.IfName == "" && anyInterface(r, k) || r.Keep(k.Mark()) })
	})
}

// anyInterface reports whether any interface of a container is valid, for
// leases that name none.
func anyInterface(r *cni.Request, k owner.Key) bool {
	for m := range r.Valid {
		if strings.HasPrefix(string(m), string(k.Mark())) {
			return true
		}
	}
	return false
}

// Status fails if a range set has no address left for the next ADD, or no lease can be
// written.
func (plugin) Status(ctx context.Context, r *cni.Request) error {
	c, err := valid(r)
	if err != nil {
		return err
	}
	if err = lease.Writable(c.DataDir, r.Name); err != nil {
		return cni.Errorf(cni.CodeNotReady, "%w", err)
	}
	if _, err = readResolvConf(c.ResolvConf); err != nil {
		return cni.Errorf(cni.CodeNotReady, "ipam.resolvConf: %w", err)
	}
	err = existing(ctx, r, c.pools, (*lease.Store).Exhausted)
	return coded(err, cni.CodeNotReady)
}

// existing calls f with the leases of the network, if it has any yet.
func existing(ctx context.Context, r *cni.Request, pools []lease.Pool, f func(*lease.Store) error) error {
	s, err := lease.Open(ctx, dataDir(r), r.Name, pools, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unopened(err)
	}
	defer s.Close()
	return f(s)
}

// unopened gives the error of leases that cannot be opened its code: that another
// process holds the lock will pass.
func unopened(err error) error {
	if errors.Is(err, filelock.ErrBusy) {
		return cni.Errorf(cni.CodeTryAgain, "%w", err)
	}
	return cni.Errorf(cni.CodeIO, "%w", err)
}

// coded gives an exhausted range the code that the verb has for it.
func coded(err error, code uint) error {
	var exhausted *lease.ExhaustedError
	if errors.As(err, &exhausted) {
		return cni.Errorf(code, "%w", err)
	}
	return err
}

func valid(r *cni.Request) (*config, error) {
	c, report := load(r)
	r.Warn(report.Warnings()...)
	if err := report.Err(); err != nil {
		return nil, cni.Errorf(cni.CodeConfig, "%w", err)
	}
	return c, nil
}

func ips(leases []lease.Lease) []*current.IPConfig {
	var out []*current.IPConfig
	for _, l := range leases {
		ip := &current.IPConfig{Address: net.IPNet{
			IP:   l.Addr.AsSlice(),
			Mask: net.CIDRMask(l.Range.Subnet.Bits(), l.Addr.BitLen()),
		}}
		if l.Range.Gateway.IsValid() {
			ip.Gateway = l.Range.Gateway.AsSlice()
		}
		out = append(out, ip)
	}
	return out
}

func list(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(addrs), "[]")
}
