package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A ledger is a store with one host.
type ledger struct {
	host    peer.Host
	refuses error
	leftOut []error
	err     error
}

func (l *ledger) Look(context.Context) (peer.Snapshot, []error, error) {
	return peer.Snapshot{{Address: l.host.Address, Blocks: slices.Clone(l.host.Blocks)}}, l.leftOut, l.err
}

func (l *ledger) Claim(_ context.Context, subnet netip.Prefix, bits int) (netip.Prefix, error) {
	for i := range 4 {
		b := subnet.Addr().As4()
		b[3] += byte(i << (32 - bits))
		if block := netip.PrefixFrom(netip.AddrFrom4(b), bits); !slices.Contains(l.host.Blocks, block) {
			l.host.Blocks = append(l.host.Blocks, block)
			return block, nil
		}
	}
	return netip.Prefix{}, peer.ErrFull
}

func (l *ledger) ClaimAddress(_ context.Context, a netip.Addr) error {
	if l.refuses != nil {
		return l.refuses
	}
	if b := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(l.host.Blocks, b) && !l.host.Has(a) {
		l.host.Blocks = append(l.host.Blocks, b)
	}
	return nil
}

func (l *ledger) Return(_ context.Context, b netip.Prefix) error {
	l.host.Blocks = slices.DeleteFunc(l.host.Blocks, func(o netip.Prefix) bool { return o == b })
	return nil
}

func (l *ledger) Confirm(context.Context) error { return nil }

func (l *ledger) Changed() <-chan struct{} { return nil }

func newTestDaemon(t *testing.T) (*Daemon, *ledger) {
	t.Helper()
	c := New().(*Config)
	c.Name, c.Subnets = "net", []netip.Prefix{netip.MustParsePrefix("10.1.0.0/27")}
	c.Etcd = &Etcd{BlockSizeIPv4: 29}
	c.IPAM = []byte(fmt.Sprintf(`{"dataDir": %q}`, t.TempDir()))
	l := &ledger{host: peer.Host{Address: netip.MustParseAddr("192.0.2.1")}}
	d := NewDaemon(c, slog.New(slog.DiscardHandler))
	d.store, d.shared, d.known.Self = l, l, l.host.Address
	return d, l
}

// leaves leaves the leases of these addresses of 10.1.0.0/24, and no others.
func leaves(t *testing.T, d *Daemon, last ...int) {
	t.Helper()
	if err := os.RemoveAll(d.leaseDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.leaseDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range last {
		if err := os.WriteFile(filepath.Join(d.leaseDir(), fmt.Sprint("10.1.0.", n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A host claims a block when its own get full, rests the last that is empty while
// others have room, and returns it when it is drained; never one with a container
// in it, nor its only one.
func TestBlocks(t *testing.T) {
	d, l := newTestDaemon(t)
	rested := func() { // the time is over that it has to rest
		for b := range d.idle {
			d.idle[b] = time.Now().Add(-idleTime)
		}
	}
	for i, step := range []struct {
		leases   []int
		rested   bool
		blocks   int
		draining int
	}{
		{nil, false, 1, 0},
		{nil, true, 1, 0},
		{[]int{2, 3, 4, 5}, false, 1, 0},
		{[]int{2, 3, 4, 5, 6}, false, 2, 0},
		{[]int{2, 3, 4, 5, 6, 10}, true, 2, 0},
		{[]int{2, 3, 4, 5, 6}, true, 2, 0}, // the other has no addresses
		{[]int{2, 3}, false, 2, 1},
		{[]int{2, 3}, false, 2, 1},
		{[]int{2, 3, 10}, true, 2, 0}, // an ADD had begun before
		{[]int{2, 3}, false, 2, 1},
		{[]int{2, 3}, true, 1, 0},
		{nil, true, 1, 0},
	} {
		leaves(t, d, step.leases...)
		if step.rested {
			rested()
		}
		hosts, err := d.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := hosts[0].Blocks; len(got) != step.blocks || len(d.idle) != step.draining || len(l.host.Blocks) != step.blocks {
			t.Errorf("step %d: found blocks %v, draining %v, want %d and %d", i, got, d.idle, step.blocks, step.draining)
		}
	}
}
