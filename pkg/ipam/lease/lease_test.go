package lease

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func pool(subnet, first, last string, exclude ...string) Pool {
	p := netip.MustParsePrefix(subnet)
	var out []netip.Prefix
	for _, e := range exclude {
		out = append(out, netip.MustParsePrefix(e))
	}
	return NewPool([]Range{{Subnet: p, First: addr(first), Last: addr(last), Gateway: p.Addr().Next()}}, out)
}

func key(id string) owner.Key { return owner.Key{Network: "net", ContainerID: id, IfName: "eth0"} }

// A network is the leases of one network directory, opened anew for each call
// as by a plugin.
type network struct {
	t     testing.TB
	dir   string
	pools []Pool
	boot  byte // of another boot than the kernel's, if not 0
	alive *census
}

func newNetwork(tb testing.TB, pools ...Pool) *network {
	tb.Helper()
	return &network{t: tb, dir: tb.TempDir(), pools: pools, alive: &census{complete: true}}
}

func (n *network) open() *Store {
	n.t.Helper()
	s, err := Open(context.Background(), n.dir, "net", n.pools, true)
	if err != nil {
		n.t.Fatal(err)
	}
	s.census = func() *census { return n.alive }
	if n.boot != 0 {
		s.boot = [16]byte{n.boot}
	}
	return s
}

func (n *network) close(s *Store) {
	n.t.Helper()
	s.Close()
}

func (n *network) add(id string, netns uint64, want ...string) ([]netip.Addr, error) {
	n.t.Helper()
	s := n.open()
	defer n.close(s)
	var wanted []netip.Addr
	for _, w := range want {
		wanted = append(wanted, addr(w))
	}
	leases, err := s.Acquire(key(id), netns, wanted)
	var addrs []netip.Addr
	for _, l := range leases {
		addrs = append(addrs, l.Addr)
	}
	return addrs, err
}

// gives fails the test unless an ADD leases exactly these addresses.
func (n *network) gives(id string, want ...string) {
	n.t.Helper()
	got, err := n.add(id, 1)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		n.t.Fatalf("ADD %s: got %v, %v, want %v", id, got, err, want)
	}
}

func (n *network) del(id string) {
	n.t.Helper()
	s := n.open()
	defer n.close(s)
	if err := s.Release(key(id)); err != nil {
		n.t.Fatalf("DEL %s: %v", id, err)
	}
}

func (n *network) path(name string) string { return filepath.Join(n.dir, "net", name) }

func (n *network) files() []string {
	n.t.Helper()
	leased, err := dir(n.path("")).list()
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for a := range leased {
		names = append(names, a.String())
	}
	slices.Sort(names)
	return names
}

func (n *network) write(name, text string) {
	n.t.Helper()
	if err := os.MkdirAll(n.path(""), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func TestLayoutIsThatOfTheReference(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"), pool("fd00::/64", "fd00::1", "fd00::ffff"))
	n.gives("c1", "10.1.0.2", "fd00::2")
	for name, want := range map[string]string{
		"10.1.0.2": "c1\r\neth0", "fd00::2": "c1\r\neth0",
		"last_reserved_ip.0": "10.1.0.2", "last_reserved_ip.1": "fd00::2", "lock": "",
	} {
		got, err := os.ReadFile(n.path(name))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	names, err := readNames(n.path(""))
	slices.Sort(names)
	if want := "[.dockyard 10.1.0.2 fd00::2 last_reserved_ip.0 last_reserved_ip.1 lock]"; err != nil || fmt.Sprint(names) != want {
		t.Errorf("directory: got %v, %v, want %s", names, err, want)
	}
	// The reference plugin reads every file it finds below the directory.
	text, err := os.ReadFile(n.path(".dockyard/index"))
	if magic := magic(); err != nil || string(text[:16]) != string(magic[:]) || magic[8] != ' ' {
		t.Errorf("index: got %q, %v; its start must be in no containerID", text[:16], err)
	}
}

func TestReferenceChangesTheDirectory(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
	n.write("10.1.0.2", "ref\r\neth0")
	n.write("last_reserved_ip.0", "10.1.0.2")
	n.gives("c1", "10.1.0.3")
	n.write("10.1.0.4", "ref2\r\neth0")
	n.gives("c2", "10.1.0.5")
	if err := os.Remove(n.path("10.1.0.3")); err != nil {
		t.Fatal(err)
	}
	n.del("ref2")
	n.del("ref")
	n.write("10.1.0.2", "old-format")
	n.del("old-format")
	if got := fmt.Sprint(n.files()); got != "[10.1.0.5]" {
		t.Errorf("files: got %v", got)
	}
}

func TestLeastRecentlyReleasedFirst(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
	for i := range 5 {
		n.gives(fmt.Sprint("c", i), fmt.Sprint("10.1.0.", i+2))
	}
	n.del("c3")
	n.del("c1")
	n.del("c2")
	if _, err := n.add("static", 1, "10.1.0.3"); err != nil {
		t.Fatal(err)
	}
	n.del("static") // now the last in the queue
	n.boot = 7      // the order outlives the index of this boot
	n.gives("d1", "10.1.0.5")
	n.gives("d2", "10.1.0.4")
	n.gives("d3", "10.1.0.3")
}

func TestSameAttachmentSameAddress(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"))
	n.gives("c1", "10.1.0.2")
	n.gives("c1", "10.1.0.2")
	if got, err := n.add("c1", 1, "10.1.0.9"); err != nil || got[0] != addr("10.1.0.9") {
		t.Fatal(got, err)
	}
	if got := fmt.Sprint(n.files()); got != "[10.1.0.9]" {
		t.Errorf("the old address is still leased: %v", got)
	}
}

func TestHeldNamesTheHolder(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254", "10.1.0.64/26"))
	if _, err := n.add("c1", 1, "10.1.0.70"); err != nil {
		t.Fatalf("an excluded address can be asked for: %v", err)
	}
	n.alive.namespaces = map[uint64]bool{1: true}
	_, err := n.add("c2", 2, "10.1.0.70")
	var held *engine.HeldError
	if !errors.As(err, &held) || held.Error() != "address 10.1.0.70 is held by net/c1/eth0" {
		t.Fatal(err)
	}
	n.alive.namespaces = nil
	if _, err = n.add("c2", 2, "10.1.0.70"); err != nil {
		t.Errorf("its holder is gone: %v", err)
	}
}

func TestAllPoolsOrNone(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"), pool("fd00::/64", "fd00::2", "fd00::2"))
	n.gives("c1", "10.1.0.2", "fd00::2")
	n.alive.namespaces = map[uint64]bool{1: true}
	_, err := n.add("c2", 1)
	var exhausted *ExhaustedError
	if !errors.As(err, &exhausted) || exhausted.Used != 1 || exhausted.Total != 1 {
		t.Fatal(err)
	}
	if got := fmt.Sprint(n.files()); got != "[10.1.0.2 fd00::2]" {
		t.Errorf("files: %v", got)
	}
}

func TestReclaim(t *testing.T) {
	small := pool("10.1.0.0/30", "10.1.0.1", "10.1.0.2")
	veth := map[string]bool{key("old").Mark().HostLink(): true}
	tests := []struct {
		name  string
		netns uint64
		alive *census
		boot  byte
		by    string // who made the lease, if not this package
		gone  bool
	}{
		{name: "namespace is there", netns: 5, alive: &census{complete: true, namespaces: map[uint64]bool{5: true}}},
		{name: "namespace is gone", netns: 5, alive: &census{complete: true}, gone: true},
		{name: "its veth is there", netns: 5, alive: &census{complete: true, links: veth}},
		{name: "not every process can be seen", netns: 5, alive: &census{}},
		{name: "namespace unknown", netns: 0, alive: &census{complete: true}},
		{name: "another boot", netns: 0, alive: &census{}, boot: 3, gone: true},
		{name: "the reference made it", alive: &census{complete: true}, boot: 3, by: "ref\r\neth0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNetwork(t, small)
			n.alive = test.alive
			if test.by != "" {
				n.write("10.1.0.2", test.by)
			} else if _, err := n.add("old", test.netns); err != nil {
				t.Fatal(err)
			}
			n.boot = test.boot
			s := n.open()
			if err := s.Exhausted(); (err == nil) != test.gone {
				t.Errorf("Exhausted: %v", err)
			}
			n.close(s)
			if _, err := n.add("new", 1); (err == nil) != test.gone {
				t.Errorf("Acquire: %v", err)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"))
	for i := range 20 {
		n.gives(fmt.Sprint("c", i), fmt.Sprint("10.1.0.", i+2))
	}
	s := n.open()
	if err := s.Prune(func(k owner.Key) bool { return k.ContainerID == "c3" }); err != nil {
		t.Fatal(err)
	}
	n.close(s)
	if got := fmt.Sprint(n.files()); got != "[10.1.0.5]" {
		t.Errorf("files: %v", got)
	}
}

func TestOpenMakesNothing(t *testing.T) {
	base := t.TempDir()
	if _, err := Open(context.Background(), base, "net", nil, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if names, err := readNames(base); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

func TestOpenGivesUpTheLock(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"))
	s := n.open()
	defer n.close(s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, n.dir, "net", nil, false); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
}

func TestCensusSeesItsOwnNamespace(t *testing.T) {
	var own Life
	st, err := os.Readlink("/proc/self/ns/net")
	if _, scanErr := fmt.Sscanf(st, "net:[%d]", &own.NetNS); err != nil || scanErr != nil {
		t.Fatal(err, scanErr)
	}
	own.Boot = [16]byte{1}
	if c := takeCensus(); !c.namespaces[own.NetNS] || c.gone(key("c"), own, own.Boot) {
		t.Error("the namespace of this process is not seen")
	}
}
