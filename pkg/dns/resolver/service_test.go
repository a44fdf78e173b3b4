package resolver

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// A town is a host with containers that a service answers.
type town struct {
	*testing.T
	h       *testnet.Host
	store   zone.Store
	service *Service
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{T: t, h: testnet.New(t), store: zone.Default()}
	w.service = New(w.store, "/nonexistent", silent())
	t.Cleanup(w.service.Close)
	if err := os.MkdirAll(w.store.Containers(), 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *town) entry(i int) zone.Entry {
	name := fmt.Sprintf("c%d", i)
	return zone.Entry{Store: w.store, Record: zone.Record{
		Mark: owner.Key{Network: "net", ContainerID: name, IfName: "eth0"}.Mark(), Network: "net", ContainerID: name,
		NetNS: w.h.Path(name), Names: []string{name}, TTL: 5, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})},
	}}
}

func (w *town) container(i int) {
	w.Helper()
	name := fmt.Sprintf("c%d", i)
	w.h.Container(name)
	w.h.Run("ip", "-n", name, "link", "set", "lo", "up")
	w.h.Run("ip", "-n", name, "link", "add", "eth0", "type", "bridge")
	w.h.Run("ip", "-n", name, "addr", "add", fmt.Sprintf("10.0.0.%d/24", i), "dev", "eth0")
}

func (w *town) attach(i int) {
	w.Helper()
	if err := w.entry(i).Apply(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *town) detach(i int) {
	w.Helper()
	if err := w.entry(i).Remove(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *town) reconcile() {
	w.Helper()
	if err := w.service.Reconcile(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// ask returns the address that container i gets for a name, "" for none.
func (w *town) ask(i int, name, network string) (out string) {
	w.Helper()
	w.h.In(fmt.Sprintf("c%d", i), func() {
		c := &dns.Client{Net: network, Timeout: testnet.Patience}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), net.JoinHostPort(zone.Resolver, "53"))
		if err != nil {
			out = err.Error()
		} else if len(m.Answer) == 1 {
			out = m.Answer[0].(*dns.A).A.String()
		}
	})
	return out
}

// When all containers have gone, nothing of them is left in the daemon, whether
// they were detached or their namespaces died.
func TestServiceLeavesNothing(t *testing.T) {
	const containers = 20
	w := newTown(t)
	w.reconcile()
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	for round := range 2 {
		for i := range containers {
			w.container(i)
			w.attach(i)
		}
		w.reconcile()
		for i := range containers {
			for _, network := range []string{"udp", "tcp"} {
				if got, want := w.ask(i, "c7.", network), "10.0.0.7"; got != want {
					t.Fatalf("c%d by %s: %q, want %q", i, network, got, want)
				}
			}
		}
		for i := range containers {
			if round == 0 {
				w.detach(i)
			} else {
				w.h.DeleteContainer(fmt.Sprintf("c%d", i))
			}
		}
		w.reconcile()
		if n := len(w.service.State().Containers); n > 0 {
			t.Errorf("%d containers are still served", n)
		}
		testnet.Eventually(t, func() error {
			if g, f := runtime.NumGoroutine(), openFiles(t); g > goroutines || f > descriptors {
				return fmt.Errorf("%d goroutines, were %d; %d descriptors, were %d", g, goroutines, f, descriptors)
			}
			return nil
		})
		for i := range containers {
			if round == 0 {
				if out := w.h.Run("nsenter", "--net="+w.h.Path(fmt.Sprintf("c%d", i)), "nft", "list", "tables"); out != "" {
					t.Errorf("c%d still has %s", i, out)
				}
				w.h.DeleteContainer(fmt.Sprintf("c%d", i))
			} else {
				w.detach(i)
			}
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// What has changed at a path is looked at, and nothing else.
func TestReconcileAt(t *testing.T) {
	w := newTown(t)
	w.reconcile()
	dir := func(i int) string { return filepath.Join(w.store.Containers(), fmt.Sprintf("c%d", i)) }
	reconcile := func(paths ...string) {
		t.Helper()
		if err := w.service.Reconcile(t.Context(), paths...); err != nil {
			t.Fatal(err)
		}
	}
	served := func(when string, want ...string) {
		t.Helper()
		var found []string
		for _, c := range w.service.State().Containers {
			found = append(found, c.ID)
		}
		if !slices.Equal(found, want) {
			t.Errorf("%s: %q are served, want %q", when, found, want)
		}
	}
	for i := range 4 {
		w.container(i)
		w.attach(i)
	}
	reconcile(dir(1), dir(2), dir(7))
	served("two have come", "c1", "c2")
	if got := w.ask(1, "c2.", "udp"); got != "10.0.0.2" {
		t.Errorf("c1 asks for c2: %q", got)
	}
	reconcile(w.h.Path("c0"), "/run/netns/nobody")
	served("of a namespace nobody has read the record", "c1", "c2")
	w.reconcile()
	served("all", "c0", "c1", "c2", "c3")
	w.h.DeleteContainer("c3")
	w.detach(2)
	reconcile(w.h.Path("c3"))
	served("a namespace is gone", "c0", "c1", "c2")
	reconcile(dir(2))
	served("a record is gone", "c0", "c1")
	w.container(3)
	reconcile(w.h.Path("c3"))
	served("another namespace has the path", "c0", "c1")
	w.detach(3)
	w.attach(3)
	reconcile(dir(3))
	served("the container is attached again", "c0", "c1", "c3")
	if got := w.ask(3, "c0.", "udp"); got != "10.0.0.0" {
		t.Errorf("c3 asks for c0: %q", got)
	}
	for _, gone := range []string{"c0", "c2", "c3"} {
		w.h.Run("ip", "-n", gone, "link", "del", "eth0")
	}
	for _, seen := range []string{dir(0), dir(1)} { // before the directory itself goes
		if err := os.RemoveAll(seen); err != nil {
			t.Fatal(err)
		}
		reconcile(seen)
		if err := os.RemoveAll(w.store.Containers()); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(w.store.Containers(), 0o755); err != nil {
			t.Fatal(err)
		}
		reconcile(dir(0))
		served("all records were deleted; of one the address is there", "c1")
	}
}

// A query that comes before the names are known waits for them.
func TestPrepared(t *testing.T) {
	w := newTown(t)
	w.container(1)
	done, err := w.service.Prepare(t.Context(), w.entry(1).Mark, w.h.Path("c1"), false)
	if err != nil {
		t.Fatal(err)
	}
	w.reconcile() // finds no record
	answer := make(chan string)
	go func() { answer <- w.ask(1, "c1.", "udp") }()
	select {
	case got := <-answer:
		t.Fatalf("answered %q before anything was known", got)
	case <-time.After(50 * time.Millisecond):
	}
	w.attach(1)
	done()
	w.reconcile()
	if got := <-answer; got != "10.0.0.1" {
		t.Errorf("%q", got)
	}
	if _, err := w.service.Prepare(t.Context(), "net/nobody/eth0", w.h.Path("nobody"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a container without a namespace: %v", err)
	}
}

// An ADD that fails, or dies, has left no record: nothing stays in the container.
func TestPreparedInVain(t *testing.T) {
	w := newTown(t)
	w.container(1)
	before := w.h.Run("nft", "list", "ruleset")
	done, err := w.service.Prepare(t.Context(), w.entry(1).Mark, w.h.Path("c1"), false)
	if err != nil {
		t.Fatal(err)
	}
	done()
	w.reconcile()
	w.h.In("c1", func() {
		if after := w.h.Run("nft", "list", "ruleset"); after != before {
			t.Errorf("left behind: %s", after)
		}
		if out := w.h.Run("ss", "-Hlntu"); out != "" {
			t.Errorf("left behind: %s", out)
		}
	})
}

// A new namespace under an old path is another container, which is served when it is
// attached; a container that is attached again has its rules again, whoever took them
// away.
func TestReplaced(t *testing.T) {
	w := newTown(t)
	w.container(1)
	w.attach(1)
	w.reconcile()
	w.h.DeleteContainer("c1")
	w.container(1)
	w.reconcile()
	w.untouched("c1", "in a namespace that nobody has attached")
	w.detach(1)
	w.attach(1)
	w.reconcile()
	if got := w.ask(1, "c1.", "udp"); got != "10.0.0.1" {
		t.Errorf("in the new namespace: %q", got)
	}
	w.detach(1)
	w.h.Run("nsenter", "--net="+w.h.Path("c1"), "nft", "flush", "ruleset")
	w.attach(1)
	w.reconcile()
	if got := w.ask(1, "c1.", "udp"); got != "10.0.0.1" {
		t.Errorf("attached again: %q", got)
	}
}

// untouched fails if the service has sockets or rules in a namespace; "" is the host's.
func (w *town) untouched(container, when string) {
	w.Helper()
	look := func() {
		if out := w.h.Run("ss", "-Hlntu") + w.h.Run("nft", "list", "tables"); strings.Contains(out, "127.0.0.11") || strings.Contains(out, "dockyard-dns") {
			w.Errorf("%s: %s", when, out)
		}
	}
	if container == "" {
		look()
	} else {
		w.h.In(container, look)
	}
}

// A3: a container was killed, nobody called DEL, and its path leads to the host's
// namespace by now, as that of a process does whose number is used again, or to another
// container's. Neither is served, whether the daemon was there before or comes after,
// whether the record tells the inode or is of an earlier version; not for an ADD; and
// names of the container are gone.
func TestA3PathOfAnother(t *testing.T) {
	for _, version := range []string{"with the inode", "of an earlier version", "with an inode that is used again"} {
		for _, other := range []string{"the host", "another container"} {
			for _, daemon := range []string{"the same daemon", "another daemon"} {
				t.Run(version+", "+other+", "+daemon, func(t *testing.T) { pathOfAnother(t, version, other, daemon) })
			}
		}
	}
}

func pathOfAnother(t *testing.T, version, other, daemon string) {
	w := newTown(t)
	w.container(1)
	w.container(2)
	w.container(3) // who asks
	w.attach(3)
	path := filepath.Join(w.h.Dir(), "path")
	lead := func(to string) {
		t.Helper()
		_ = os.Remove(path)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	target := map[string]string{"the host": "/proc/thread-self/ns/net", "another container": w.h.Path("c2")}[other]
	lead(w.h.Path("c1"))
	e := w.entry(1)
	e.Record.NetNS = path
	if version == "with an inode that is used again" {
		var st unix.Stat_t
		if err := unix.Stat(target, &st); err != nil {
			t.Fatal(err)
		}
		e.NetNSInode = st.Ino
		lead(target)
	}
	if err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if version == "of an earlier version" {
		w.h.Run("sed", "-i", `s/"netnsInode":[0-9]*,//`, filepath.Join(w.store.Containers(), "c1", "net@eth0"))
	}
	w.reconcile()
	if daemon == "another daemon" {
		w.service.Close()
	}
	lead(target)
	if daemon == "another daemon" {
		w.service = New(w.store, "/nonexistent", silent())
		t.Cleanup(w.service.Close)
	}
	w.reconcile()
	w.untouched("", "in the host")
	w.untouched("c2", "in another container")
	if out := w.ask(3, "c1.", "udp"); out != "" && (version == "with the inode" || other == "the host") {
		t.Errorf("the name of the dead container leads to %q", out)
	}
	if other == "the host" {
		if _, err := w.service.Prepare(t.Context(), "net/new/eth0", path, true); err == nil {
			t.Error("the host's namespace is prepared")
		}
		w.untouched("", "prepared")
	}
}

// A server that is dead or mute does not make who asks wait until it is given up,
// and is asked last from then on; where nobody answers, that ends in time.
func TestRace(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0") // takes all, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	mute := newUpstream(c.LocalAddr().(*net.UDPAddr).AddrPort(), silent(), "")
	good := newUpstream(goodServer(t), silent(), "")
	dead := newUpstream(netip.MustParseAddrPort("127.0.0.1:1"), silent(), "")
	m := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
	dial := (&net.Dialer{}).DialContext
	for _, x := range []struct {
		name    string
		servers []*upstream
		within  time.Duration
		ok      bool
	}{
		{"nobody", nil, patience, false},
		{"a dead one", []*upstream{dead}, patience, false},
		{"a dead one first", []*upstream{dead, good}, patience, true},
		{"a mute one first", []*upstream{mute, good}, patience, true},
		{"a mute one alone", []*upstream{mute}, 2 * patience, false},
	} {
		start := time.Now()
		answer, err := race(t.Context(), x.servers, dial, m)
		if took := time.Since(start); (answer != nil) != x.ok || !x.ok && err == nil || took > x.within {
			t.Errorf("%s: %v, %v after %v", x.name, answer, err, took)
		}
		if x.ok {
			testnet.Eventually(t, func() error { // who was overtaken takes note of it
				if byHealth(x.servers)[0] != good {
					return fmt.Errorf("%s: it is asked first again", x.name)
				}
				return nil
			})
		}
	}
}

func goodServer(t *testing.T) netip.AddrPort {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Queries that come at once are all answered, each once, with answers of several
// sizes to several clients, also where the loopback cannot take them together.
func TestBurst(t *testing.T) {
	w := newTown(t)
	w.container(1)
	w.attach(1)
	w.reconcile()
	for _, mtu := range []string{"65536", "68"} {
		w.h.Run("ip", "-n", "c1", "link", "set", "lo", "mtu", mtu)
		for id, answers := range w.burst(40) {
			if answers != 1 {
				t.Errorf("mtu %s: query %d has %d answers", mtu, id, answers)
			}
		}
	}
}

// burst sends n queries from two sockets before the resolver reads any, and counts
// the good answers to each.
func (w *town) burst(n int) map[uint16]int {
	w.Helper()
	got := map[uint16]int{}
	err := netns.At(w.h.Path("c1")).Do(func() error {
		var conns []net.Conn
		for range 2 {
			c, err := net.Dial("udp", zone.Resolver+":53")
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			conns = append(conns, c)
		}
		for i := range n {
			m := new(dns.Msg).SetQuestion([]string{"c1.", "C1.net."}[i/2%2], dns.TypeA).SetEdns0(1232, false)
			m.Id, got[uint16(i)] = uint16(i), 0
			b, err := m.Pack()
			if err == nil {
				_, err = conns[i%2].Write(b)
			}
			if err != nil {
				return err
			}
		}
		for i := range n {
			c := &dns.Conn{Conn: conns[i%2]}
			_ = c.SetDeadline(time.Now().Add(testnet.Patience))
			m, err := c.ReadMsg()
			if err != nil {
				return err
			}
			if int(m.Id)%2 == i%2 && len(m.Answer) == 1 && m.Question[0].Name == []string{"c1.", "C1.net."}[m.Id/2%2] {
				got[m.Id]++
			}
		}
		return nil
	})
	if err != nil {
		w.Error(err)
	}
	return got
}

// D6: records and containers that are wrong, and stay so, are a line each, not one each
// time that they are looked at; no more are servers that do not answer.
func TestD6ProblemsAreLoggedOnce(t *testing.T) {
	var out strings.Builder
	w := newTown(t)
	w.service = New(w.store, "/nonexistent", slog.New(slog.NewTextHandler(&out, nil)))
	t.Cleanup(w.service.Close)
	w.container(1)
	w.attach(1)
	w.container(2)
	w.attach(2)
	w.h.Run("ip", "-n", "c2", "link", "del", "eth0")
	bad := filepath.Join(w.store.Containers(), "c1", "net@eth9")
	if err := os.WriteFile(bad, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		w.service.failed = map[string]failure{} // as if it were time to try again
		w.reconcile()
		w.ask(1, "other.example.", "udp")
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("logged %d lines, want 3:\n%s", n, out.String())
	}
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	w.detach(2)
	w.reconcile()
	if n := strings.Count(out.String(), "\n"); n != 5 {
		t.Errorf("logged %d lines when all was well again, want 5:\n%s", n, out.String())
	}
}
