package overlay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A chosen address is claimed for who asks, kept while he or a lease has it, and
// given back at once after that; but one that an earlier daemon has claimed only
// when whoever asked for it must be over.
func TestChosen(t *testing.T) {
	d, l := newTestDaemon(t)
	chosen := netip.MustParsePrefix("10.1.0.30/32")
	look := func(when string, want bool) {
		t.Helper()
		hosts, err := d.look(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, _, got := hosts.Holder(chosen.Addr()); got != want {
			t.Errorf("%s: claimed %v, want %v: %v", when, got, want, hosts)
		}
	}
	ask := func() *claim {
		c := &claim{addrs: []netip.Addr{chosen.Addr()}, done: make(chan answer, 1)}
		d.asking = append(d.asking, c)
		return c
	}
	leaves(t, d)
	look("nobody asks", false)
	c := ask()
	look("asked for", true)
	d.reply()
	if said := <-c.done; said.Held != nil || said.Refused != "" {
		t.Errorf("answered %+v", said)
	}
	look("not leased yet", true)
	leaves(t, d, 30)
	delete(d.holding, c)
	look("leased", true)
	leaves(t, d)
	look("no longer leased", false)

	l.host.Blocks = append(l.host.Blocks, chosen)
	look("of an earlier daemon's", true)
	d.began = time.Now().Add(-2 * idleTime)
	look("of an earlier daemon's, later", false)

	l.refuses = &engine.HeldError{Object: "address 10.1.0.30", Holder: "host 192.0.2.2"}
	c = ask()
	look("refused", false)
	d.reply()
	if said := <-c.done; said.Held == nil || len(d.holding) > 0 {
		t.Errorf("refused: answered %+v, held %v", said, d.holding)
	}
	c = ask()
	c.addrs[0] = netip.MustParseAddr("10.2.0.1")
	look("of no subnet", false)
	d.reply()
	if said := <-c.done; said.Refused == "" {
		t.Errorf("of no subnet: answered %+v", said)
	}
}

// A block of one's own with an address in it that an ADD is about to have is not
// drained.
func TestChosenInDraining(t *testing.T) {
	d, l := newTestDaemon(t)
	l.host.Blocks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/29"), netip.MustParsePrefix("10.1.0.8/29")}
	leaves(t, d)
	if _, err := d.look(t.Context()); err != nil || len(d.idle) != 1 {
		t.Fatalf("draining %v, %v", d.idle, err)
	}
	d.asking = []*claim{{addrs: []netip.Addr{netip.MustParseAddr("10.1.0.10")}, done: make(chan answer, 1)}}
	if _, err := d.look(t.Context()); err != nil || len(d.idle) != 0 {
		t.Errorf("draining %v, %v", d.idle, err)
	}
}
