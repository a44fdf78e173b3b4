package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/daemon/watch"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A Store says which hosts there are of one network.
type Store interface {
	// Look makes this host known if it is not, and returns all hosts with their
	// blocks. An error says nothing about hosts, but one that wraps
	// peer.ErrAnswered that this host's blocks are its own. What cannot be
	// believed is not among the hosts, and why is in leftOut.
	Look(context.Context) (hosts peer.Snapshot, leftOut []error, err error)
	// Changed receives when Look may say something new.
	Changed() <-chan struct{}
}

// A Claimer is a Store where the hosts meet, and share the subnets by blocks.
type Claimer interface {
	// Confirm, and after it Look, do not succeed unless this host has been known
	// and its blocks its own since it was called.
	Confirm(context.Context) error
	// Claim takes a block of a subnet that no other host has. An error that
	// wraps peer.ErrFull says that there is none.
	Claim(ctx context.Context, subnet netip.Prefix, bits int) (netip.Prefix, error)
	// ClaimAddress takes a block of one address, which is in no block of another
	// host: else the error is a *engine.HeldError that names it.
	ClaimAddress(context.Context, netip.Addr) error
	// Return gives a block of this host back.
	Return(context.Context, netip.Prefix) error
}

// A Daemon keeps the host's part of one network as a Store says. What it makes is
// a function of the whole answer: an event only wakes it.
type Daemon struct {
	c      *Config
	store  Store
	shared Claimer // the same, nil where blocks are not claimed
	log    *slog.Logger

	looks, checks pace      // of what the store says, and of what the kernel has
	checked       time.Time // the kernel, for the last time

	mu      sync.Mutex // held while the kernel is changed
	known   State
	whole   bool      // the kernel has been found as known says, or made so
	contact time.Time // since which the last answer has held
	lookErr error     // of the last look
	leftOut []error   // of the last answer
	faults  faultlog.Log
	idle    map[netip.Prefix]time.Time
	claims
	requests chan func() // of those who connect: done between rounds
	unlock   func()      // another daemon may keep the network
}

// NewDaemon returns the daemon of a network, whose configuration has been
// validated and is its own.
func NewDaemon(c *Config, log *slog.Logger) *Daemon {
	log = log.With("network", c.Name)
	return &Daemon{
		c: c, log: log, faults: faultlog.Log{Log: log, Wrong: "not converged", Right: "converged"}, idle: map[netip.Prefix]time.Time{}, requests: make(chan func()),
		claims: claims{holding: map[*claim]bool{}, seen: map[netip.Prefix]bool{}, began: time.Now()},
		looks:  pace{most: 50 * time.Millisecond}, checks: pace{most: time.Second},
	}
}

const (
	resync = 30 * time.Second // for what no event told
	retry  = 500 * time.Millisecond
)

// Run works until ctx ends, after Start. What it has made stays: containers go on.
func (d *Daemon) Run(ctx context.Context, store Store) error {
	d.store = store
	d.shared, _ = store.(Claimer)
	defer d.unlock()
	kernel, err := link.Changes(ctx, d.c.device(), d.c.Bridge)
	if err != nil {
		return err
	}
	server := control.New(d.c.socketFile(), d.answer)
	defer server.Close()
	leases, err := watch.Dir(ctx, d.leaseDir(), d.log)
	if err != nil {
		return err
	}
	grace := time.AfterFunc(idleTime, func() { d.between(ctx, func() {}) }) // then what nobody uses is nobody's
	defer grace.Stop()
	for next := time.Now(); ctx.Err() == nil; {
		now := time.Now()
		all := !next.After(now)
		look, check := all || d.looks.isDue(now), d.checks.isDue(now) || now.Sub(d.checked) >= d.confirmEvery()
		if look || check {
			next = now.Add(d.confirmEvery())
			if err = errors.Join(server.Listen(ctx), d.round(ctx, look, check)); err != nil {
				next = now.Add(retry)
			}
			if ctx.Err() == nil {
				d.faults.Tell(errors.Join(err, summary(d.leftOut)))
			}
			d.done(now, look, check)
		}
		if err = d.await(ctx, kernel, leases, sooner(next, sooner(d.looks.due, d.checks.due))); err != nil {
			return err
		}
	}
	return nil
}

// confirmEvery is how often the store is asked whether all is as it says: often
// enough to stop the use of blocks in time when it cannot be asked, and to take
// those of others.
func (d *Daemon) confirmEvery() time.Duration {
	return min(resync, max(time.Second, d.c.Etcd.Reclaim()/4))
}

func (d *Daemon) done(began time.Time, look, check bool) {
	now := time.Now()
	if look {
		d.reply()
		d.looks.done(began, now)
	}
	if check {
		d.checked = now
		d.checks.done(began, now)
	}
}

// await takes note of the next event, or returns at some time without one.
func (d *Daemon) await(ctx context.Context, kernel, leases <-chan struct{}, until time.Time) error {
	select {
	case <-ctx.Done():
	case <-d.store.Changed():
		d.looks.ask(time.Now())
	case <-leases:
		d.looks.ask(time.Now())
	case do := <-d.requests:
		do()
		d.looks.ask(time.Now())
	case _, ok := <-kernel:
		if !ok && ctx.Err() == nil {
			return errors.New("the kernel's messages ended")
		}
		d.checks.ask(time.Now())
	case <-time.After(time.Until(until)):
	}
	return nil
}

// Start finds the host in the underlay, and takes up what an earlier daemon left.
func (d *Daemon) Start() error {
	if err := os.MkdirAll(d.c.StateDir, 0o700); err != nil {
		return err
	}
	unlock, err := filelock.Try(d.c.lockFile())
	if err != nil {
		return fmt.Errorf("another daemon keeps the network: %w", err)
	}
	d.unlock = unlock
	if info, err := os.Stat(d.c.stateFile()); err == nil {
		if err := d.c.readState(); err != nil {
			d.log.Warn("starting anew", "error", err)
		} else {
			d.contact = info.ModTime()
		}
	}
	if d.c.PeersFile != "" {
		if hosts, err := d.c.readPeers(); err == nil { // else the first look says what is wrong
			d.c.hosts = hosts
		}
	}
	d.known.Hosts = d.c.hosts
	if err := d.c.locateSelf(); err != nil {
		return err
	}
	if d.c.MTU == 0 {
		d.c.MTU = d.c.underlay.innerMTU()
	}
	d.known.Self = d.c.underlay.addr
	return d.c.lookForFault()
}

// round makes the kernel as the store says, or, without looking, as it said last.
// With check it looks at all that the kernel has, else only at what has changed in
// what the store says.
func (d *Daemon) round(ctx context.Context, look, check bool) error {
	hosts := d.known.Hosts
	if look {
		hosts, d.lookErr = d.look(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.contact.IsZero() {
		return d.lookErr // nothing is known yet, so nothing is to be taken away
	}
	before := d.known.Hosts
	d.c.hosts, d.known.Hosts = hosts, hosts
	return d.publish(errors.Join(d.lookErr, d.make(ctx, before, check)))
}

// make makes the kernel as is known.
func (d *Daemon) make(ctx context.Context, before peer.Snapshot, check bool) (err error) {
	was, is := peer.Changes(before, d.known.Hosts)
	ourselves := func(h peer.Host) bool { return h.Address == d.known.Self }
	if check || !d.whole || slices.ContainsFunc(was, ourselves) || slices.ContainsFunc(is, ourselves) {
		err = d.converge(ctx)
	} else {
		err = d.c.leadTo(is).Follow(ctx, d.c.leadTo(was))
	}
	d.whole = err == nil
	return err
}

// summary names the first of what is left out, which may be much.
func summary(leftOut []error) error {
	const most = 5
	if more := len(leftOut) - most; more > 0 {
		return fmt.Errorf("%w\nand %d more keys are left out", errors.Join(leftOut[:most]...), more)
	}
	return errors.Join(leftOut...)
}

// look asks the store, and sees to it that this host has blocks enough. With an
// error it returns what holds all the same: what the store said, or while it
// cannot be asked, what it said last, but for this host's blocks when others may
// take them by now.
func (d *Daemon) look(ctx context.Context) (peer.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, max(d.c.Etcd.TTL()/3, time.Second))
	defer cancel()
	asked, err := time.Now(), error(nil)
	if d.shared != nil && since(d.contact) < d.confirmEvery() {
		asked = d.contact
	} else if d.shared != nil {
		err = d.shared.Confirm(ctx)
	}
	hosts, leftOut, lookErr := d.store.Look(ctx)
	if err == nil && errors.Is(lookErr, peer.ErrAnswered) && !d.contact.IsZero() {
		d.contact = asked
	}
	if err = errors.Join(err, lookErr); err != nil {
		if hosts = d.known.Hosts; since(d.contact) > d.c.Etcd.Reclaim() {
			hosts = hosts.Others(d.known.Self)
		}
		return hosts, err
	}
	d.contact, d.leftOut = asked, leftOut
	if d.shared == nil {
		return hosts, nil
	}
	self, _ := hosts.Find(d.known.Self)
	chosen, chosenErr := d.keepChosen(ctx, self)
	changed, err := d.provide(ctx, self)
	if err = errors.Join(chosenErr, err); changed || chosen {
		again, leftOut, lookErr := d.store.Look(ctx)
		if err = errors.Join(err, lookErr); lookErr == nil {
			hosts, d.leftOut = again, leftOut
		}
	}
	return hosts, err
}

// since is how long ago a time is at least: by the clock that stands still while the
// machine sleeps, and by the one that people set.
func since(t time.Time) time.Duration {
	return max(time.Since(t), time.Now().Round(0).Sub(t.Round(0)))
}

// converge makes the host's part of the network, by the same plan as ADD, step by
// step: what a step is about may come with the one before.
func (d *Daemon) converge(ctx context.Context) error {
	p := d.c.network(true)
	if d.c.Mode == routed {
		p.Ensure(peer.OnlyChosen(d.c.Bridge, d.c.self(), d.c.Subnets))
	}
	for _, s := range p {
		diff, err := s.Observe(ctx)
		if err == nil && diff == engine.Same {
			continue
		}
		d.log.Info("putting right", "object", s.Key(), "found", string(diff))
		if err := engine.Apply(ctx, engine.Plan{s}); err != nil {
			return err
		}
	}
	return nil
}

// publish writes what is true now for the plugin. The file appears whole or not
// at all, and its time is that of the last word with the store.
func (d *Daemon) publish(problem error) error {
	d.known.Problem, d.known.Draining = "", slices.SortedFunc(maps.Keys(d.idle), netip.Prefix.Compare)
	if all := errors.Join(problem, summary(d.leftOut)); all != nil {
		d.known.Problem = all.Error()
	}
	b, err := json.Marshal(d.known)
	if err != nil {
		return err
	}
	path, contact := d.c.stateFile(), time.Now().Add(-since(d.contact)) // also when the clock was set back
	if old, err := os.ReadFile(path); err != nil || string(old) != string(b)+"\n" {
		if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
			return errors.Join(problem, err)
		}
		if err := os.Chtimes(path+".new", contact, contact); err != nil {
			return errors.Join(problem, err)
		}
		return errors.Join(problem, os.Rename(path+".new", path))
	}
	return errors.Join(problem, os.Chtimes(path, contact, contact))
}

// Self is this host as the store is to know it.
func (d *Daemon) Self() peer.Host {
	return peer.Host{Address: d.c.underlay.addr}
}

func (d *Daemon) leaseDir() string { return filepath.Join(d.c.dataDir(), d.c.Name) }
