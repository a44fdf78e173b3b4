package zone

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// A container's view is another one if its own records are, and else the same,
// with the names of this moment.
func TestSet(t *testing.T) {
	c := world()
	v, records := c.View("c5"), slices.Clone(c.View("c5").Records)
	slices.Reverse(records)
	c.Set("c5", records)
	if c.View("c5") != v {
		t.Error("nothing changed, but the view is another one")
	}
	c.Set("c6", []*Record{record("two", "c6", "eth0", []string{"new"}, "10.2.0.6")})
	if got := v.Answer("new", dns.TypeA).text(); got != "10.2.0.6" {
		t.Errorf("new: %q", got)
	}
	c.Set("c6", nil)
	if got := v.Answer("new", dns.TypeA).text(); got != "?" {
		t.Errorf("gone: %q", got)
	}
	c.Set("c5", records[:1])
	if c.View("c5") == v || c.View("c5").Answer("db", dns.TypeA).Known == c.View("c5").Answer("web.two", dns.TypeA).Known {
		t.Error("the view is as before, with one network less")
	}
}

// However a catalog came to know what it knows, it answers as one that was told
// at once; and when all have gone, nothing is left.
func TestCatalogHistory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"web", "db", "mail", "x"}
	some := func(network, container string) *Record {
		i := rnd.IntN(200)
		r := record(network, container, "eth"+network[:1], []string{names[rnd.IntN(4)], names[rnd.IntN(4)]}, fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("fd00::%d", i%50))
		r.TTL = uint32(1 + rnd.IntN(9))
		return r
	}
	c, now := NewCatalog(), map[string][]*Record{}
	var remote []*Record
	for range 300 {
		container := fmt.Sprintf("c%d", rnd.IntN(8))
		now[container] = nil
		for _, network := range []string{"one", "two"} {
			if rnd.IntN(2) == 0 {
				now[container] = append(now[container], some(network, container))
			}
		}
		c.Set(container, now[container])
		if rnd.IntN(5) == 0 {
			far := some("one", fmt.Sprintf("r%d", rnd.IntN(3)))
			far.NetNS = ""
			remote = append(remote[len(remote)/2:len(remote):len(remote)], far)
			c.SetRemote(remote)
		}
		fresh := NewCatalog()
		fresh.SetRemote(remote)
		for _, container := range slices.Sorted(maps.Keys(now)) {
			fresh.Set(container, now[container])
		}
		sameAnswers(t, c, fresh, names)
	}
	for container := range now {
		c.Set(container, nil)
	}
	c.SetRemote(nil)
	if len(c.zones)+len(c.views) > 0 {
		t.Errorf("left: %d zones, %d views", len(c.zones), len(c.views))
	}
}

func sameAnswers(t *testing.T, a, b *Catalog, names []string) {
	t.Helper()
	if len(a.views) != len(b.views) {
		t.Fatalf("%d views, want %d", len(a.views), len(b.views))
	}
	for container, v := range a.Views() {
		for _, name := range names {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				same(t, v.Answer(name, qtype), b.View(container).Answer(name, qtype))
			}
		}
		for i := range 200 {
			name := fmt.Sprintf("%d.0.0.10.in-addr.arpa", i)
			same(t, v.Answer(name, dns.TypePTR), b.View(container).Answer(name, dns.TypePTR))
		}
	}
}

func same(t *testing.T, found, want Answer) {
	t.Helper()
	if found.text() != want.text() || found.TTL != want.TTL {
		t.Fatalf("%s, TTL %d, want %s, TTL %d", found.text(), found.TTL, want.text(), want.TTL)
	}
}

// While a catalog changes, who has a name goes on having it.
func TestAskedWhileChanging(t *testing.T) {
	c := world()
	v := c.View("c1")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, name := range []string{"db1", "db", "web", "2.0.1.10.in-addr.arpa"} {
				if !v.Answer(name, dns.TypeA).Known && !v.Answer(name, dns.TypePTR).Known {
					t.Errorf("%s is not known", name)
				}
			}
		}
	})
	for i := range 1000 {
		c.Set("c2", []*Record{record("one", "c2", "eth0", []string{"db1", "db"}, fmt.Sprintf("10.1.1.%d", i%250))})
		c.Set("c6", []*Record{record("one", "c6", "eth0", []string{"web"}, fmt.Sprintf("10.1.2.%d", i%250))}[:i%2])
	}
	close(stop)
	wg.Wait()
}
