package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// An example is a conflist and the capability arguments that a runtime would
// give it: NAME.conflist with NAME.args.json beside it, if it needs any.
type example struct {
	name     string
	conflist []byte
	caps     map[string]any
}

// examples are all files of conf-examples.
func examples(t *testing.T) []example {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "conf-examples", "*.conflist"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conflist in conf-examples (%v)", err)
	}
	var out []example
	for _, path := range paths {
		out = append(out, readExample(t, path))
	}
	return out
}

func readExample(t testing.TB, path string) example {
	t.Helper()
	conflist, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e := example{name: strings.TrimSuffix(filepath.Base(path), ".conflist"), conflist: conflist}
	args, err := os.ReadFile(strings.TrimSuffix(path, ".conflist") + ".args.json")
	if err == nil {
		err = json.Unmarshal(args, &e.caps)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return e
}

// static reports whether only one container can be attached at a time, because
// the example asks for an address or a MAC.
func (e example) static() bool {
	return e.caps["ips"] != nil || e.caps["mac"] != nil || strings.Contains(string(e.conflist), `"ips"`) ||
		strings.Contains(string(e.conflist), `"addresses"`)
}

// onLAN reports whether the example attaches to a network of the host, by eth0.
func (e example) onLAN() bool {
	return strings.Contains(string(e.conflist), `"macvlan"`) || strings.Contains(string(e.conflist), `"ipvlan"`)
}

// plugins lists the types of the chain.
func (e example) plugins(t *testing.T) []string {
	t.Helper()
	var list struct {
		Plugins []struct{ Type string }
	}
	if err := json.Unmarshal(e.conflist, &list); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Type)
	}
	return types
}

// prepare gives a host what the example expects of it: a line to others; an
// overlay's, an address in the underlay, and if it meets others in etcd, an etcd
// and the daemon.
func (e example) prepare(t testing.TB, h *testnet.Host) {
	t.Helper()
	if e.onLAN() {
		h.LAN("lan", "eth0")
	}
	if !strings.Contains(string(e.conflist), `"vxlan-overlay"`) {
		return
	}
	for _, command := range []string{
		"ip link add eth1 type veth peer name lan",
		"sysctl -qw net.ipv6.conf.eth1.accept_ra=0 net.ipv6.conf.lan.accept_ra=0", // else changed with forwarding
		"ip addr add 192.0.2.11/24 dev eth1",
		"ip link set eth1 up",
		"ip link set lan up",
	} {
		h.Run(strings.Fields(command)...)
	}
	if !strings.Contains(string(e.conflist), `"etcd"`) {
		return
	}
	conflist := filepath.Join(h.Dir(), e.name+".conflist")
	if err := os.WriteFile(conflist, e.conflist, 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "http://192.0.2.11:2379"
	for _, args := range [][]string{
		{"etcd", "--data-dir", filepath.Join(h.Dir(), "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", "http://127.0.0.1:2380"},
		{filepath.Join(testnet.Bin(t), "vxlan-overlay"), "daemon", conflist},
	} {
		if err := h.Start(exec.Command(args[0], args[1:]...)); err != nil {
			t.Fatal(err)
		}
	}
	testnet.Eventually(t, func() error {
		b, err := os.ReadFile("/run/dockyard/overlay/" + e.name + ".json")
		if err == nil && !strings.Contains(string(b), "/64") {
			err = fmt.Errorf("no blocks: %s", b)
		}
		return err
	})
}

// shared reports whether the example makes nothing of its own, so that a second
// ADD is as good as the first: the loopback interface is there anyway.
func (e example) shared() bool { return strings.Contains(string(e.conflist), `"loopback"`) }

// attachment is the i-th on the network: host ports can be published once.
func (e example) attachment(h *testnet.Host, n *testnet.Network, i int) testnet.Attachment {
	a := h.Attachment(fmt.Sprintf("%s-c%d", e.name, i))
	if n.Types()[0] == "loopback" {
		a.IfName = "lo"
	}
	a.Caps = maps.Clone(e.caps)
	if ports, ok := a.Caps["portMappings"].([]any); ok {
		moved := make([]any, len(ports))
		for j, p := range ports {
			m := maps.Clone(p.(map[string]any))
			for key, value := range m {
				if strings.EqualFold(key, "hostPort") { // containerd writes it with a capital letter
					m[key] = value.(float64) + float64(100*i)
				}
			}
			moved[j] = m
		}
		a.Caps["portMappings"] = moved
	}
	return a
}

// A lab is a host with containers on the network of one example.
type lab struct {
	*testing.T
	h    *testnet.Host
	net  *testnet.Network
	atts []testnet.Attachment

	conflist []byte

	pristine testnet.Snapshot // before anything was attached
	base     testnet.Snapshot // after one ADD and DEL: with what is shared and stays

	rules map[string][]damage // by "TABLE CHAIN", as last looked; TABLE alone if it was listed
}

func newLab(t *testing.T, e example, containers int) *lab {
	t.Helper()
	l := &lab{T: t, h: testnet.New(t), conflist: e.conflist}
	e.prepare(t, l.h)
	l.net = l.network(e)
	for i := range containers {
		a := e.attachment(l.h, l.net, i)
		l.h.Container(a.ID)
		l.atts = append(l.atts, a)
	}
	l.pristine = l.look()
	for _, a := range l.atts {
		l.add(a)
		l.del(a)
		if e.static() {
			break
		}
	}
	l.base = l.look()
	return l
}

func (l *lab) network(e example) *testnet.Network {
	l.Helper()
	n, err := l.h.Network(e.conflist, testnet.Bin(l))
	if err != nil {
		l.Fatal(err)
	}
	n.Said = func(text string) {
		if !strings.Contains(text, noDaemon) {
			l.Errorf("not silent on success: %s", text)
		}
	}
	return n
}

// look takes a snapshot of the host and all containers that exist.
func (l *lab) look() testnet.Snapshot {
	l.Helper()
	s := l.h.Snapshot()
	for _, a := range l.atts {
		if _, err := os.Stat(a.NetNS); err != nil {
			continue
		}
		for object, attributes := range l.h.SnapshotOf(a.ID) {
			s[inside(a.ID)+object] = attributes
		}
	}
	return s
}

// noDaemon is what dns-hosts says on STATUS where no daemon runs, as none does in
// a lab: names work all the same.
const noDaemon = "dns-hosts daemon: not running"

func inside(container string) string { return "in " + container + ": " }

func (l *lab) add(a testnet.Attachment) {
	l.Helper()
	if _, err := l.net.Add(a); err != nil {
		l.Fatal("ADD: ", err)
	}
}

func (l *lab) check(a testnet.Attachment) {
	l.Helper()
	if err := l.net.Check(a); err != nil {
		l.Fatal("CHECK: ", err)
	}
}

func (l *lab) del(a testnet.Attachment) {
	l.Helper()
	if err := l.net.Del(a); err != nil {
		l.Fatal("DEL: ", err)
	}
}

// is fails the test if the host does not look like want. What ends in the
// kernel's own time may take a moment.
func (l *lab) is(want testnet.Snapshot, when string, args ...any) {
	l.Helper()
	var err error
	for range 20 {
		if err = testnet.Equal(want, l.look()); err == nil {
			return
		}
	}
	l.Errorf("%s: %v", fmt.Sprintf(when, args...), err)
}
