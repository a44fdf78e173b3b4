package etcdstore

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

func address(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, last}) }

// An address has one host, whether it was chosen or is in a block; who holds it is
// named.
func TestClaimAddress(t *testing.T) {
	client := etcd(t)
	a, b := member(t, client, 1), member(t, client, 2)
	look(t, a)
	look(t, b)
	if err := a.ClaimAddress(t.Context(), address(77)); err != nil {
		t.Fatal(err)
	}
	if err := a.ClaimAddress(t.Context(), address(77)); err != nil {
		t.Error("again: ", err)
	}
	// b has not looked since.
	var held *engine.HeldError
	if err := b.ClaimAddress(t.Context(), address(77)); !errors.As(err, &held) || held.Holder != "host 192.0.0.1" {
		t.Errorf("another's: %v", err)
	}
	look(t, a)
	look(t, b)
	var blocks []netip.Prefix
	for range 7 { // eight of 32 addresses, but for that which has one chosen
		block, err := b.Claim(t.Context(), subnet, 27)
		if err != nil {
			t.Fatalf("after %v: %v", blocks, err)
		}
		if block.Contains(address(77)) {
			t.Errorf("block %s, which has a chosen address", block)
		}
		blocks = append(blocks, block)
		look(t, b)
	}
	if _, err := b.Claim(t.Context(), subnet, 27); !errors.Is(err, peer.ErrFull) {
		t.Errorf("all are held: %v", err)
	}
	if err := a.ClaimAddress(t.Context(), address(200)); !errors.As(err, &held) || held.Holder != "host 192.0.0.2, in its block 10.1.0.192/27" {
		t.Errorf("in a block: %v", err)
	}
	if err := b.ClaimAddress(t.Context(), address(200)); err != nil {
		t.Errorf("in a block of one's own: %v", err)
	}
	if err := a.Return(t.Context(), netip.PrefixFrom(address(77), 32)); err != nil {
		t.Fatal(err)
	}
	if err := b.ClaimAddress(t.Context(), address(77)); err != nil { // b may not have heard yet
		t.Errorf("once it is given back: %v", err)
	}
	if err := b.Return(t.Context(), netip.PrefixFrom(address(77), 32)); err != nil {
		t.Fatal(err)
	}
	look(t, b)
	if block, err := b.Claim(t.Context(), subnet, 27); err != nil || !block.Contains(address(77)) {
		t.Errorf("once it is given back: %v, %v", block, err)
	}
}

// However blocks and addresses are claimed at once, no two claims overlap: the next
// look would say so.
func TestClaimAtOnce(t *testing.T) {
	client := etcd(t)
	var wg sync.WaitGroup
	for n := range 6 {
		s := member(t, client, n+1)
		look(t, s)
		wg.Go(func() {
			for i := range 12 {
				var held *engine.HeldError
				var err error
				if n%2 == 0 {
					_, err = s.Claim(t.Context(), subnet, 28)
				} else {
					err = s.ClaimAddress(t.Context(), address(byte(1+(i*37+n*11)%254)))
				}
				if err != nil && !errors.As(err, &held) && !errors.Is(err, peer.ErrFull) {
					t.Error(err)
				}
				if _, _, err := s.Look(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var singles, blocks int
	for _, h := range look(t, member(t, client, 1)) {
		for _, b := range h.Blocks {
			if b.IsSingleIP() {
				singles++
			} else {
				blocks++
			}
		}
	}
	if singles == 0 || blocks == 0 {
		t.Errorf("%d addresses and %d blocks: one kind has kept the other out", singles, blocks)
	}
}

// An address whose host is gone for long enough is another's to choose; as a block
// for others it is not taken.
func TestOrphanedAddress(t *testing.T) {
	client := etcd(t)
	a, b := member(t, client, 1), member(t, client, 2)
	b.Reclaim = 0
	look(t, a)
	if err := a.ClaimAddress(t.Context(), address(77)); err != nil {
		t.Fatal(err)
	}
	look(t, b)
	a.letGo()
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(a.lease.Load())); err != nil {
		t.Fatal(err)
	}
	for len(look(t, b)) != 1 {
		time.Sleep(10 * time.Millisecond)
	}
	if block, err := b.takeOver(t.Context(), subnet); !errors.Is(err, peer.ErrFull) {
		t.Errorf("taken over as a block: %v, %v", block, err)
	}
	if err := b.ClaimAddress(t.Context(), address(77)); err != nil {
		t.Error(err)
	}
	if got := look(t, b); len(got[0].Blocks) != 1 {
		t.Errorf("found %v", got)
	}
}
