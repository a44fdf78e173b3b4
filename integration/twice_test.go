package integration

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// twice are the chained plugins that may stand more than once in a list.
var twice = []string{"bandwidth", "dns-hosts", "firewall", "portmap", "tuning"}

// standTwice: a plugin that stands twice in a list makes what it makes once: the
// second neither undoes the first's work nor fails for it. CHECK succeeds for both, and
// DEL and GC leave nothing.
func standTwice(t *testing.T, e example) {
	second := e.only(t, twice)
	if second == nil {
		return
	}
	l := newLab(t, e, 1)
	a := l.atts[0]
	addTwice := func() {
		first, err := l.net.Add(a)
		if err != nil {
			t.Fatal(err)
		}
		once := l.look()
		rest, err := l.h.Network(second, l.net.Dirs()...)
		if err != nil {
			t.Fatal(err)
		}
		rest.Edit = func(c *testnet.Call) {
			if c.Verb() != "ADD" || c.Config["prevResult"] != nil {
				return
			}
			prev, old := first.GetAsVersion(c.Config["cniVersion"].(string)) // as runtimes give it
			if old != nil {
				t.Error(old)
			}
			c.Config["prevResult"] = prev
		}
		again, err := rest.Add(a)
		if err != nil {
			t.Fatal("ADD of what stands twice: ", err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Error("the result of what stands twice: ", diff)
		}
		l.is(once, "after ADD of what stands twice")
		l.check(a)
	}
	addTwice()
	l.del(a)
	l.is(l.base, "after DEL")
	addTwice()
	if err := l.net.GC(); err != nil {
		t.Error("GC: ", err)
	}
	l.del(a) // for lists of a version without GC
	l.is(l.base, "after GC and DEL")
}

// only is the conflist with some of its plugins alone, nil if it has none of them.
func (e example) only(t *testing.T, names []string) []byte {
	t.Helper()
	var list map[string]json.RawMessage
	var plugins, out []json.RawMessage
	if err := json.Unmarshal(e.conflist, &list); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(list["plugins"], &plugins); err != nil {
		t.Fatal(err)
	}
	for i, name := range e.plugins(t) {
		if slices.Contains(names, name) {
			out = append(out, plugins[i])
		}
	}
	if out == nil {
		return nil
	}
	var err error
	if list["plugins"], err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	conflist, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return conflist
}
