package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A model is what the store should be: leases by address, and the free
// addresses in the order in which they are to be given.
type model struct {
	leased map[netip.Addr]string
	free   []netip.Addr
}

func newModel(p Pool) *model {
	m := &model{leased: map[netip.Addr]string{}}
	a := netip.Addr{}
	for range p.Total() {
		a = p.after(a)
		m.free = append(m.free, a)
	}
	return m
}

func (m *model) of(id string) (netip.Addr, bool) {
	for a, holder := range m.leased {
		if holder == id {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (m *model) lease(a netip.Addr, id string) {
	m.free = slices.DeleteFunc(m.free, func(f netip.Addr) bool { return f == a })
	m.leased[a] = id
}

func (m *model) release(a netip.Addr) {
	delete(m.leased, a)
	m.free = append(m.free, a)
}

// add returns what Acquire should, and does it.
func (m *model) add(id string, want netip.Addr) (netip.Addr, bool) {
	had, has := m.of(id)
	switch holder, taken := m.leased[want]; {
	case want.IsValid() && taken && holder != id:
		return netip.Addr{}, false
	case want.IsValid() && !taken:
		m.lease(want, id)
		if has {
			m.release(had)
		}
		return want, true
	case has:
		return had, true
	case len(m.free) == 0:
		return netip.Addr{}, false
	}
	a := m.free[0]
	m.lease(a, id)
	return a, true
}

// TestModel does thousands of random calls on the store and the model. Between
// them the index is lost or damaged; then only the order of addresses may differ.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := pool("10.1.0.0/24", "10.1.0.1", fmt.Sprint("10.1.0.", 10+rnd.IntN(150)), "10.1.0.8/30")
		n, m := newNetwork(t, p), newModel(p)
		n.alive.complete = false
		for step := range 400 {
			id := fmt.Sprint("c", rnd.IntN(120))
			switch rnd.IntN(8) {
			case 0, 1, 2, 3:
				var want netip.Addr
				var wanted []string
				if rnd.IntN(4) == 0 {
					want = m.any(rnd, p)
					wanted = []string{want.String()}
				}
				got, err := n.add(id, 1, wanted...)
				a, ok := m.add(id, want)
				if (err == nil) != ok || ok && got[0] != a {
					t.Fatalf("seed %d step %d: ADD %s %v: got %v, %v, want %v", seed, step, id, wanted, got, err, a)
				}
			case 4, 5, 6:
				n.del(id)
				if a, ok := m.of(id); ok {
					m.release(a)
				}
			case 7:
				n.agrees(m)
			}
		}
		n.agrees(m)
	}
}

func (m *model) any(rnd *rand.Rand, p Pool) netip.Addr {
	a := p.after(netip.Addr{})
	for range rnd.IntN(int(p.Total())) {
		a = p.after(a)
	}
	return a
}

func (n *network) agrees(m *model) {
	n.t.Helper()
	leased, err := dir(n.path("")).list()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Fatal(err)
	}
	if len(leased) != len(m.leased) {
		n.t.Fatalf("directory has %d leases, want %d", len(leased), len(m.leased))
	}
	for a, id := range m.leased {
		if leased[a] != content(key(id)) {
			n.t.Fatalf("%s: found %q, want %s", a, leased[a], id)
		}
	}
}

// TestProcesses has processes add and delete at once, some killed on the way.
// No address may be given to two, and in the end none may be lost.
func TestProcesses(t *testing.T) {
	if dir := os.Getenv("LEASE_TEST_WORKER"); dir != "" {
		worker(t, dir, os.Getenv("LEASE_TEST_NAME"))
		return
	}
	n := newNetwork(t, workerPool())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for round := range 4 {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if round < 3 {
					time.AfterFunc(time.Duration(50+17*w+31*round)*time.Millisecond, cancel)
				}
				cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProcesses$")
				cmd.Env = append(os.Environ(), "LEASE_TEST_WORKER="+n.dir, fmt.Sprintf("LEASE_TEST_NAME=w%d", w))
				if out, err := cmd.CombinedOutput(); ctx.Err() == nil && err != nil {
					t.Errorf("worker: %v\n%s", err, out)
				}
			}
		})
	}
	wg.Wait()
	s := n.open()
	defer n.close(s)
	for w := range 8 {
		for c := range 5 {
			if err := s.Release(key(fmt.Sprintf("w%d-%d", w, c))); err != nil {
				t.Error(err)
			}
		}
	}
	if left := n.files(); len(left) > 0 {
		t.Errorf("lost: %v", left)
	}
	for c := range workerPool().Total() {
		if _, err := s.Acquire(key(fmt.Sprint("last", c)), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// 8 workers hold 3 addresses each at most.
func workerPool() Pool { return pool("10.1.0.0/27", "10.1.0.1", "10.1.0.30") }

func worker(t *testing.T, path, name string) {
	t.Helper()
	n := &network{t: t, dir: path, pools: []Pool{workerPool()}, alive: &census{complete: false}}
	rnd := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[1])))
	for c := range 5 { // what a killed predecessor held
		n.del(fmt.Sprintf("%s-%d", name, c))
	}
	for range 40 {
		var held []string
		for c := range 1 + rnd.IntN(3) {
			id := fmt.Sprintf("%s-%d", name, c)
			addrs, err := n.add(id, 1)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(n.path(addrs[0].String()))
			if err != nil || !strings.HasPrefix(string(text), id+"\r\n") {
				t.Fatalf("%s was given to %s, its file says %q, %v", addrs[0], id, text, err)
			}
			held = append(held, id)
		}
		for _, id := range held {
			n.del(id)
		}
	}
}
