package integration

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// The laws of DESIGN.md, each over every example.
var laws = []struct {
	name string
	law  func(*testing.T, example)
}{
	{"1 ADD then CHECK", checkAfterAdd},
	{"2 CHECK names what is broken, 3 DEL finds the rest", breakAndCheck},
	{"2 CHECK allows what later plugins change", allowed},
	{"4 a failed ADD leaves nothing", failEverywhere},
	{"5 DEL leaves the host as before", delAfterAdd},
	{"6 DEL needs only the owner", delWithLess},
	{"7 GC", collect},
	{"8 any interleaving", walk},
	{"9 killed during ADD", killDuringAdd},
	{"9 killed during DEL", killDuringDel},
	{"10 a plugin that stands twice", standTwice},
}

// lawful are the examples that are held to the laws: all, or with -short three that
// have little in common.
func lawful(t *testing.T) []example {
	t.Helper()
	return slices.DeleteFunc(examples(t), func(e example) bool {
		return testing.Short() && !slices.Contains([]string{"bridge", "macvlan", "overlay-static"}, e.name)
	})
}

func TestLaws(t *testing.T) {
	t.Cleanup(func() { draws().judge(t) })
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel() // so that none waits for the slowest example of another
			for _, e := range lawful(t) {
				if !testnet.Here(t, "example/"+e.name, needs(t, e.conflist)...) {
					continue
				}
				t.Run(e.name, func(t *testing.T) {
					t.Parallel()
					l.law(t, e)
				})
			}
		})
	}
}

func checkAfterAdd(t *testing.T, e example) {
	l := newLab(t, e, 1)
	l.add(l.atts[0])
	before := l.look()
	l.check(l.atts[0])
	l.is(before, "after CHECK")
	if _, err := l.net.Add(l.atts[0]); err == nil && !e.shared() {
		t.Error("a second ADD without DEL succeeded")
	}
	l.is(before, "after a second ADD that failed")
	l.check(l.atts[0])
	if err := l.net.Status(); err != nil {
		t.Error("STATUS:", err)
	}
	l.is(before, "after STATUS")
}

func delAfterAdd(t *testing.T, e example) {
	l := newLab(t, e, 1)
	before, after := l.pristine, l.base
	if e.shared() { // an interface of the container that is up stays up
		before, after = hostOnly(before), hostOnly(after)
	}
	if err := testnet.SharedOnly(before, after, l.atts[0].ID); err != nil {
		t.Error("after the first ADD and DEL: ", err)
	}
	l.add(l.atts[0])
	l.del(l.atts[0])
	l.is(l.base, "after DEL")
	l.del(l.atts[0])
	l.is(l.base, "after the second DEL")
}

// less are ways in which a runtime knows less at DEL than at ADD.
var less = map[string]func(*testnet.Call){
	"no CNI_NETNS":     func(c *testnet.Call) { c.Unset("CNI_NETNS") },
	"empty CNI_NETNS":  func(c *testnet.Call) { c.Unset("CNI_NETNS"); c.Env = append(c.Env, "CNI_NETNS=") },
	"no prevResult":    func(c *testnet.Call) { delete(c.Config, "prevResult") },
	"no runtimeConfig": func(c *testnet.Call) { delete(c.Config, "runtimeConfig") },
	"no CNI_ARGS":      func(c *testnet.Call) { c.Unset("CNI_ARGS") },
	"invalid":          invalidate,
	"nothing but names": func(c *testnet.Call) {
		less := map[string]any{}
		for _, k := range []string{"cniVersion", "name", "type"} {
			less[k] = c.Config[k]
		}
		if ipam, ok := c.Config["ipam"].(map[string]any); ok {
			less["ipam"] = map[string]any{"type": ipam["type"]}
			if dir, ok := ipam["dataDir"]; ok {
				less["ipam"].(map[string]any)["dataDir"] = dir
			}
		}
		c.Config = less
		c.Unset("CNI_NETNS")
	},
}

// invalidate gives every key that the owner mark does not need a value that no
// plugin accepts.
func invalidate(c *testnet.Call) {
	needed := map[string]bool{"cniVersion": true, "name": true, "type": true, "ipam": true}
	for k := range c.Config {
		if !needed[k] {
			c.Config[k] = map[string]any{"no": []any{"such", "value"}}
		}
	}
	c.Config["mtu"], c.Config["vlan"], c.Config["ipMasqBackend"], c.Config["backend"] = 70000, -1, "carrier pigeon", "carrier pigeon"
	if ipam, ok := c.Config["ipam"].(map[string]any); ok {
		for k := range ipam {
			if k != "type" && k != "dataDir" {
				ipam[k] = "not a value"
			}
		}
		ipam["ranges"] = []any{[]any{map[string]any{"subnet": "10.0.0.1/99"}}}
	}
}

func delWithLess(t *testing.T, e example) {
	l := newLab(t, e, 1)
	for name, edit := range less {
		l.add(l.atts[0])
		if err := l.net.With(edit).Del(l.atts[0]); err != nil {
			t.Errorf("%s: DEL: %v", name, err)
		}
		l.is(l.base, "DEL with %s", name)
		if t.Failed() {
			l.del(l.atts[0])
		}
	}
	l.netnsGone(e, func(*testnet.Call) {})
	l.netnsGone(e, less["nothing but names"])
}

// netnsGone attaches a container of its own and deletes its namespace before DEL.
func (l *lab) netnsGone(e example, edit func(*testnet.Call)) {
	l.Helper()
	a := e.attachment(l.h, l.net, 1)
	l.h.Container(a.ID)
	l.add(a)
	l.h.DeleteContainer(a.ID)
	if err := l.net.With(edit).Del(a); err != nil {
		l.Errorf("DEL with the netns gone: %v", err)
	}
	testnet.Eventually(l, func() error { return testnet.Equal(l.base, l.look()) })
}

// collect takes a list of a version before GC for one of 1.1.0.
func collect(t *testing.T, e example) {
	e.conflist = regexp.MustCompile(`"cniVersion": "[0-9.]+"`).ReplaceAll(e.conflist, []byte(`"cniVersion": "1.1.0"`))
	count := 2
	if e.static() {
		count = 1
	}
	l := newLab(t, e, count)
	other := readExample(t, "testdata/conflist/other.conflist")
	foreign := l.network(other)
	b := other.attachment(l.h, foreign, 5)
	l.h.Container(b.ID)
	l.atts = append(l.atts, b)
	if _, err := foreign.Add(b); err != nil {
		t.Fatal(err)
	}
	if err := foreign.GC(b); err != nil {
		t.Error("GC of the other network:", err)
	}
	none := l.look()
	for _, a := range l.atts[:count] {
		l.add(a)
	}
	all := l.look()
	l.gc(l.atts[:count]...)
	l.is(all, "GC with all valid")
	l.del(l.atts[0])
	rest := l.look()
	l.add(l.atts[0])
	l.gc(l.atts[1:count]...)
	l.gone(rest, "GC without the first")
	l.gc()
	l.gone(none, "GC with none")
	if err := foreign.Check(b); err != nil {
		t.Error("the other network after GC:", err)
	}
}

func (l *lab) gc(keep ...testnet.Attachment) {
	l.Helper()
	if err := l.net.GC(keep...); err != nil {
		l.Error("GC: ", err)
	}
}

// gone is is, but for what is inside containers: GC knows no namespace.
func (l *lab) gone(want testnet.Snapshot, when string) {
	l.Helper()
	var err error
	for range 20 {
		if err = testnet.Equal(hostOnly(want), hostOnly(l.look())); err == nil {
			return
		}
	}
	l.Errorf("%s: %v", when, err)
}

func hostOnly(s testnet.Snapshot) testnet.Snapshot {
	out := testnet.Snapshot{}
	for object, attributes := range s {
		if !strings.HasPrefix(object, "in ") {
			out[object] = attributes
		}
	}
	return out
}
