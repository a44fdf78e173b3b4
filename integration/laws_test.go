package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
}

func TestLaws(t *testing.T) {
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel() // so that none waits for the slowest example of another
			for _, e := range examples(t) {
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

// interfere runs ADD or DEL so that the n-th system call that changes something
// in plugin p goes as do says, and reports which call that was: none if there
// are fewer.
func (l *lab) interfere(verb string, p, n int, do ...string) (hit string, err error) {
	report := filepath.Join(l.h.Dir(), "report")
	_ = os.Remove(report)
	net := l.net.With(func(c *testnet.Call) {
		if c.Verb() == verb && c.Index == p {
			c.Wrap = append([]string{"trace", "-n", fmt.Sprint(n), "-report", report, "-do"}, do...)
		}
	})
	if verb == "ADD" {
		_, err = net.Add(l.atts[0])
	} else {
		err = net.Del(l.atts[0])
	}
	b, readErr := os.ReadFile(report)
	if readErr == nil {
		hit = fmt.Sprintf("%s %s, call %d (%s)", l.net.Types()[p], verb, n, b)
	}
	return hit, err
}

// everyCall runs a law for each plugin of an example, on hosts of their own, until
// there is no n-th system call to interfere with.
func everyCall(t *testing.T, e example, emulated int, at func(l *lab, p, n int) bool) {
	for p, plugin := range e.plugins(t) {
		first, step := e.turn(t, plugin, emulated)
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, e, 1)
			for n := first; at(l, p, n) && !t.Failed(); n += step {
			}
			l.add(l.atts[0])
			l.check(l.atts[0])
			l.del(l.atts[0])
		})
	}
}

// turn is the first system call of a plugin that is interfered with, and the step
// to the next. Up to four examples that have the plugin take turns, as its calls
// are much the same in each; tomorrow each has another turn. Under an emulated kernel,
// where a life takes seconds, the step is so long. LAWS_EVERY_CALL=1 interferes with
// each call in each example.
func (e example) turn(t *testing.T, plugin string, emulated int) (first, step int) {
	if os.Getenv("LAWS_EVERY_CALL") != "" {
		return 1, 1
	}
	var with []string
	for _, other := range examples(t) {
		if slices.Contains(other.plugins(t), plugin) && (testnet.Emulated() || len(testnet.Lacking(needs(t, other.conflist))) == 0) {
			with = append(with, other.name)
		}
	}
	step = min(4, len(with))
	if testnet.Emulated() {
		step = emulated
	}
	const day = 24 * 60 * 60
	today := int(time.Now().Unix() / day)
	return 1 + (slices.Index(with, e.name)+today)%step, step
}

// failEverywhere makes calls fail, one in each life. The plugin may get along without
// it; but if ADD fails, nothing of that plugin's is left.
func failEverywhere(t *testing.T, e example) { everyCall(t, e, 23, (*lab).failAt) }

// failAt reports whether there was an n-th call that could fail.
func (l *lab) failAt(p, n int) bool {
	l.Helper()
	var before testnet.Snapshot
	plain := l.net
	l.net = plain.With(func(c *testnet.Call) {
		if c.Verb() == "ADD" && c.Index == p {
			before = l.look()
		}
	})
	hit, err := l.interfere("ADD", p, n, "EIO", "-all")
	l.net = plain
	if err != nil && hit == "" {
		l.Fatal("ADD without interference: ", err)
	}
	if err != nil {
		l.is(before, "EIO from %s: %v", hit, err)
	}
	l.del(l.atts[0])
	l.is(l.base, "DEL after EIO from %s", hit)
	return hit != ""
}

// killDuringAdd: that ADD works again is shown by the next one, which comes
// farther, on a host that looks as before, and by the last, which is whole.
func killDuringAdd(t *testing.T, e example) {
	everyCall(t, e, 11, func(l *lab, p, n int) bool { return l.killAt("ADD", p, n) })
}

func killDuringDel(t *testing.T, e example) {
	everyCall(t, e, 11, func(l *lab, p, n int) bool {
		l.add(l.atts[0])
		return l.killAt("DEL", p, n)
	})
}

// killAt reports whether there was an n-th call to be killed at.
func (l *lab) killAt(verb string, p, n int) bool {
	l.Helper()
	hit, err := l.interfere(verb, p, n, "kill")
	if hit == "" && err != nil {
		l.Fatalf("%s without interference: %v", verb, err)
	}
	if err := l.net.Del(l.atts[0]); err != nil {
		l.Errorf("killed in %s: DEL: %v", hit, err)
	}
	l.is(l.base, "DEL after being killed in %s", hit)
	return hit != ""
}
