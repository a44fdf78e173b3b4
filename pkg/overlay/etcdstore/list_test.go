package etcdstore

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// awaitChange returns when a store wakes who looks.
func awaitChange(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Changed():
	case <-time.After(testnet.Patience):
		t.Fatal("nobody is woken")
	}
}

// A change costs what has changed: of the others' values none is judged again.
func TestEvents(t *testing.T) {
	client := etcd(t)
	judged := 0
	a, b := member(t, client, 1), member(t, client, 2)
	a.list.decode = func(kind, name string, value []byte) (any, error) {
		judged++
		return a.decode(kind, name, value)
	}
	look(t, a)
	look(t, b)
	for range 10 {
		block, err := b.Claim(t.Context(), subnet, 29)
		if err != nil {
			t.Fatal(err)
		}
		awaitChange(t, a)
		if h, _ := look(t, a).Find(b.Self.Address); len(h.Blocks) != 1 || h.Blocks[0] != block {
			t.Fatalf("%+v, want %s", h, block)
		}
		if err := b.Return(t.Context(), block); err != nil {
			t.Fatal(err)
		}
		look(t, b) // has it back
	}
	if want := 1 + 1 + 1 + 10; judged != want { // the network, two hosts, and each claim
		t.Errorf("%d values were judged, want %d", judged, want)
	}
}

// When events are compacted before they were told, the list is read anew.
func TestCompaction(t *testing.T) {
	client := etcd(t)
	a, b := member(t, client, 1), member(t, client, 2)
	look(t, a)
	a.list.mu.Lock()
	a.list.stop() // a connection breaks, and while it does much happens
	a.list.mu.Unlock()
	look(t, b)
	res, err := client.Put(t.Context(), "/else", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), res.Header.Revision); err != nil {
		t.Fatal(err)
	}
	for len(a.Changed()) > 0 {
		<-a.Changed()
	}
	a.list.mu.Lock()
	a.list.stop = a.list.follow(a.list.revision + 1)
	a.list.mu.Unlock()
	awaitChange(t, a)
	if all, _, err := a.Look(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

// A watch that says nothing any more, though nothing says that it has ended, does
// not hide that this host is gone: Confirm finds it.
func TestConfirm(t *testing.T) {
	client := etcd(t)
	a := member(t, client, 1)
	look(t, a)
	block, err := a.Claim(t.Context(), subnet, 29)
	if err != nil {
		t.Fatal(err)
	}
	look(t, a)
	for _, key := range []string{a.base + "hosts/" + a.Self.Address.String(), a.blockKey(block)} {
		a.list.mu.Lock()
		a.list.stop()
		a.list.stop = func() {}
		a.list.mu.Unlock()
		if _, err := client.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := a.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, _, err := a.Look(t.Context())
		if err != nil || len(all) != 1 || (len(all[0].Blocks) == 1) != (key != a.blockKey(block)) {
			t.Errorf("without %s: %v, %v", key, all, err)
		}
	}
}

// Whatever is written, and whenever events are lost, a list that has been kept is
// one that is read.
func TestKept(t *testing.T) {
	client := etcd(t)
	kept := member(t, client, 1)
	look(t, kept)
	random := rand.New(rand.NewPCG(1, 2))
	key := func(kind string, n int) string {
		switch kind {
		case hosts:
			return fmt.Sprintf("%s%s/192.0.0.%d", kept.base, hosts, n+2)
		case blocks:
			return kept.blockKey(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(8 * n)}), 29))
		}
		return fmt.Sprintf("%s%s/%d", kept.base, kind, n)
	}
	for i := range 600 {
		kind := []string{hosts, hosts, blocks, blocks, blocks, "garbage"}[random.IntN(6)]
		n := random.IntN(map[string]int{hosts: 20, blocks: 32, "garbage": 1}[kind])
		value := fmt.Sprintf("192.0.0.%d", random.IntN(20)+2)
		if kind == hosts {
			value = fmt.Sprintf(`{"address": "192.0.0.%d", "id": "x"}`, n+2)
		}
		op := clientv3.OpPut(key(kind, n), value)
		if random.IntN(3) == 0 || kind == "garbage" && random.IntN(3) != 0 {
			op = clientv3.OpDelete(key(kind, n))
		}
		if _, err := client.Do(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		if random.IntN(50) == 0 {
			kept.list.forget()
		}
		if i%20 != 0 {
			continue
		}
		abreast(t, kept)
		other := member(t, client, 1)
		if err := other.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		abreast(t, kept)
		kept.lease.Store(other.lease.Load()) // its life, so to speak
		found, leftOut, err := kept.Look(t.Context())
		want, wantOut, wantErr := other.Look(t.Context())
		if !reflect.DeepEqual(found, want) || fmt.Sprint(leftOut) != fmt.Sprint(wantOut) || err != nil || wantErr != nil {
			t.Fatalf("after %d: found %v, %v, %v, want %v, %v, %v", i, found, leftOut, err, want, wantOut, wantErr)
		}
		if err == nil && !reflect.DeepEqual(kept.blocks, other.blocks) {
			t.Fatalf("after %d: found %v, want %v", i, kept.blocks, other.blocks)
		}
	}
	var none peer.Snapshot
	if all := look(t, kept); reflect.DeepEqual(all, none) {
		t.Error("nobody is there")
	}
}
