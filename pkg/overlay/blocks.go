package overlay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

const (
	spare    = 8                // addresses below which a further block is claimed, or a quarter of a block if that is less
	idleTime = 10 * time.Second // that a block is empty and not given from before it is returned
)

// dataDir is where host-local keeps the leases.
func (c *Config) dataDir() string {
	var ipam struct {
		DataDir string `json:"dataDir"`
	}
	_ = json.Unmarshal(c.IPAM, &ipam) // host-local validates it
	return cmp.Or(ipam.DataDir, "/var/lib/cni/networks")
}

// leased counts the leases in each block.
func (d *Daemon) leased(blocks []netip.Prefix) (map[netip.Prefix]int, error) {
	entries, err := os.ReadDir(d.leaseDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	n := map[netip.Prefix]int{}
	for _, b := range blocks {
		n[b] = d.claimed(b.Contains)
	}
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		for _, b := range blocks {
			if err == nil && b.Contains(a) {
				n[b]++
			}
		}
	}
	return n, nil
}

// capacity is how many addresses of a block containers can have.
func capacity(b netip.Prefix) int {
	bits := b.Addr().BitLen() - b.Bits()
	if bits > 30 {
		return math.MaxInt32
	}
	n := 1<<bits - 2 // less network or anycast address, and gateway
	if b.Addr().Is4() {
		n-- // and broadcast
	}
	return n
}

// provide claims blocks when those of this host get full, and returns those that
// nobody needs. It reports whether it changed something.
func (d *Daemon) provide(ctx context.Context, self peer.Host) (changed bool, err error) {
	used, err := d.leased(self.Blocks)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, s := range d.c.Subnets {
		free, small := 0, math.MaxInt32
		var blocks []netip.Prefix
		for _, b := range self.Blocks {
			if s.Contains(b.Addr()) && !b.IsSingleIP() {
				blocks = append(blocks, b)
				free += capacity(b) - used[b]
				small = min(small, capacity(b))
			}
		}
		if len(blocks) == 0 || free < min(spare, small/4) {
			_, err := d.shared.Claim(ctx, s, d.c.blockSize(s))
			if len(blocks) > 0 && errors.Is(err, peer.ErrFull) {
				continue // there is still something; STATUS of host-local says when not
			}
			errs = append(errs, err)
			changed = changed || err == nil
			continue
		}
		returned, err := d.release(ctx, blocks, used, free)
		changed = changed || returned
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}

// release returns the last block of several to the store, when the others have
// addresses enough: first it is drained, so that no ADD takes an address from it, and
// if it is still empty when all that had begun before are over, it goes.
func (d *Daemon) release(ctx context.Context, blocks []netip.Prefix, used map[netip.Prefix]int, free int) (bool, error) {
	last := blocks[len(blocks)-1]
	if len(blocks) < 2 || used[last] > 0 || free-capacity(last) < 2*min(spare, capacity(last)/4) {
		delete(d.idle, last)
		return false, nil
	}
	since, ok := d.idle[last]
	if !ok {
		d.idle[last] = time.Now()
		return false, nil
	}
	if time.Since(since) < idleTime {
		return false, nil
	}
	delete(d.idle, last)
	return true, d.shared.Return(ctx, last)
}
