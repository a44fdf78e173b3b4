package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A walker takes one attachment through verbs in random order and knows what
// each must answer.
type walker struct {
	net      *testnet.Network
	a        testnet.Attachment
	all      []testnet.Attachment // of this network: what GC must keep
	random   *rand.Rand
	again    bool // a second ADD is allowed
	attached bool
	trail    []string
}

func (w *walker) step() error {
	verb := []string{"ADD", "CHECK", "DEL", "DEL", "GC", "STATUS", "ADD"}[w.random.IntN(7)]
	w.trail = append(w.trail, verb)
	switch verb {
	case "ADD":
		_, err := w.net.Add(w.a)
		if w.attached && !w.again && err == nil {
			return errors.New("a second ADD succeeded")
		}
		if !w.attached && err != nil {
			return err
		}
		w.attached = true
	case "CHECK":
		if w.attached {
			return w.net.Check(w.a)
		}
	case "DEL":
		w.attached = false
		return w.net.Del(w.a)
	case "GC":
		return w.net.GC(w.all...)
	case "STATUS":
		return w.net.Status()
	}
	return nil
}

func (w *walker) run(steps int) error {
	for range steps {
		if err := w.step(); err != nil {
			return fmt.Errorf("%s: %s: %w", w.a.ID, strings.Join(w.trail, " "), err)
		}
	}
	if w.attached {
		if err := w.net.Check(w.a); err != nil {
			return fmt.Errorf("%s: at the end: %w", w.a.ID, err)
		}
	}
	return w.net.Del(w.a)
}

// walk lets attachments of two networks come and go at the same time.
func walk(t *testing.T, e example) {
	steps := 25
	if testnet.Emulated() {
		steps = 12 // of seconds each
	}
	l := newLab(t, e, 3)
	other := readExample(t, "testdata/conflist/other.conflist")
	count := 3
	if e.static() {
		count = 1
	}
	walkers := l.walkers(e, l.net, l.atts[:count])
	foreign := l.network(other)
	var others []testnet.Attachment
	for i := range 2 {
		a := other.attachment(l.h, foreign, 5+i)
		l.h.Container(a.ID)
		others = append(others, a)
	}
	l.atts = append(l.atts, others...)
	walkers = append(walkers, l.walkers(other, foreign, others)...)
	// What the other network shares is there before we look.
	if _, err := foreign.Add(others[0]); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Del(others[0]); err != nil {
		t.Fatal(err)
	}
	l.base = l.look()

	var wg sync.WaitGroup
	for _, w := range walkers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			l.h.Do(func() {
				if err := w.run(steps); err != nil {
					t.Error(err)
				}
			})
		}()
	}
	wg.Wait()
	for _, w := range walkers {
		if err := w.net.Del(w.a); err != nil {
			t.Error(err)
		}
	}
	l.is(l.base, "after all")
}

func (l *lab) walkers(e example, n *testnet.Network, atts []testnet.Attachment) []*walker {
	var out []*walker
	for i, a := range atts {
		seed := rand.Uint64()
		l.Logf("%s: seed %d", a.ID, seed)
		out = append(out, &walker{net: n, a: a, all: atts, again: e.shared(), random: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	return out
}
