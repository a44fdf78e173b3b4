package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A claim is of the addresses that one container has chosen.
type claim struct {
	addrs []netip.Addr
	err   error       // why it is refused
	done  chan answer // room for one
}

// claims are what containers choose. A chosen address is this host's as long as it
// is leased, or as the ADD that asks for it runs: whatever becomes of that, nothing
// of it stays.
type claims struct {
	asking  []*claim              // of this round
	holding map[*claim]bool       // whose ADD runs
	seen    map[netip.Prefix]bool // in use: when they are not, it is over
	began   time.Time
}

// answer tells a client what is true when nothing is under way, after it has done
// what he asks for.
func (d *Daemon) answer(ctx context.Context, client io.ReadWriter, question string) error {
	var r request
	if err := json.Unmarshal([]byte(question), &r); err != nil {
		return err
	}
	if r.Claim == nil && !r.Anew {
		d.mu.Lock()
		known := d.known
		d.mu.Unlock()
		return json.NewEncoder(client).Encode(answer{State: known})
	}
	c := &claim{addrs: r.Claim, done: make(chan answer, 1)}
	if !d.between(ctx, func() { d.asking = append(d.asking, c) }) {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case said := <-c.done:
		err := json.NewEncoder(client).Encode(said)
		_, readErr := io.Copy(io.Discard, client) // until the process at the other end is no more
		d.between(ctx, func() { delete(d.holding, c) })
		return errors.Join(err, readErr)
	}
}

// between has something done by Run, before the next round. It reports whether that
// comes.
func (d *Daemon) between(ctx context.Context, do func()) bool {
	select {
	case <-ctx.Done():
		return false
	case d.requests <- do:
		return true
	}
}

// keepChosen claims what containers ask for, and returns what none has. It reports
// whether it changed something.
func (d *Daemon) keepChosen(ctx context.Context, self peer.Host) (changed bool, err error) {
	for _, c := range d.asking {
		if c.err = d.take(ctx, c.addrs); c.err == nil {
			d.holding[c] = true
		}
		changed = true // also when refused: the other of two may be ours
	}
	var errs []error
	for _, b := range self.Blocks {
		if !b.IsSingleIP() {
			continue
		}
		used, err := d.uses(b.Addr())
		switch {
		case used, err != nil:
			d.seen[b] = true
		case d.seen[b], time.Since(d.began) > idleTime: // else an earlier daemon's ADD may still run
			delete(d.seen, b)
			err, changed = d.shared.Return(ctx, b), true
		}
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}

func (d *Daemon) take(ctx context.Context, addrs []netip.Addr) error {
	for _, a := range addrs {
		if _, ok := d.c.subnet(a); !ok {
			return fmt.Errorf("address %s is in no subnet of %v", a, d.c.Subnets)
		}
		if err := d.shared.ClaimAddress(ctx, a); err != nil {
			return err
		}
		d.seen[netip.PrefixFrom(a, a.BitLen())] = true
	}
	return nil
}

// uses reports whether a container has an address, or is about to.
func (d *Daemon) uses(a netip.Addr) (bool, error) {
	if d.claimed(func(o netip.Addr) bool { return o == a }) > 0 {
		return true, nil
	}
	_, err := os.Lstat(filepath.Join(d.leaseDir(), a.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// claimed counts the addresses that containers are about to have.
func (d *Daemon) claimed(which func(netip.Addr) bool) (n int) {
	for c := range d.holding {
		for _, a := range c.addrs {
			if which(a) {
				n++
			}
		}
	}
	return n
}

// reply answers those who asked before the round that is over.
func (d *Daemon) reply() {
	for _, c := range d.asking {
		said := answer{State: d.known}
		if c.err == nil && !d.holding[c] {
			c.err = d.lookErr
		}
		if c.err != nil && !errors.As(c.err, &said.Held) {
			said.Refused = c.err.Error()
		}
		c.done <- said
	}
	d.asking = nil
}
