package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A feature is what a kernel may have been built without.
type feature string

const (
	vlanLinks   feature = "8021q"
	vlanBridges feature = "vlan_filtering"
	ipvlanLinks feature = "ipvlan"
	dummyLinks  feature = "dummy"

	// onlyIPTables is what a kernel without nf_tables has, the older kind.
	onlyIPTables feature = "only-iptables"
)

// probes make use of a feature, for sh in a namespace of its own.
var probes = map[feature]string{
	vlanLinks:   "ip link add v0 type veth peer name v1 && ip link add link v0 name v0.5 type vlan id 5",
	vlanBridges: "ip link add b0 type bridge vlan_filtering 1",
	ipvlanLinks: "ip link add v0 type veth peer name v1 && ip link add link v0 name i0 type ipvlan",
	dummyLinks:  "ip link add d0 type dummy",

	onlyIPTables: "! nft list ruleset && iptables-legacy -t nat -S",
}

// has returns the features that this kernel has.
var has = sync.OnceValue(func() map[feature]bool {
	found := map[feature]bool{}
	for f, command := range probes {
		found[f] = exec.Command("unshare", "--net", "sh", "-c", command).Run() == nil
	}
	return found
})

// Tests for which this kernel lacks a feature are run by scripts/test.sh under a
// second one. This run writes their names to the file leftTo; that one runs the
// tests that the file left names, and fails if it does not come across each.
// Without either, what cannot be tested is a failed test.
var (
	leftTo = os.Getenv("DOCKYARD_LEAVE")
	left   = os.Getenv("DOCKYARD_LEFT")
)

var leave struct {
	sync.Mutex
	names []string // written, or come across
}

// here reports whether the test of that name runs under this kernel.
func here(t testing.TB, name string, needs ...feature) bool {
	t.Helper()
	missing := lacking(needs)
	switch {
	case left != "":
		if !slices.Contains(leftNames(t), name) {
			return false
		}
		leave.Lock()
		leave.names = append(leave.names, name)
		leave.Unlock()
	case len(missing) > 0 && leftTo != "":
		leaveTest(t, name)
		return false
	}
	if len(missing) > 0 {
		t.Errorf("%s: this kernel has no %s; scripts/test.sh runs it under one that has", name, missing)
		return false
	}
	return true
}

// lacking returns those features that this kernel has not.
func lacking(needs []feature) []feature {
	return slices.DeleteFunc(slices.Clone(needs), func(f feature) bool { return has()[f] })
}

func leftNames(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

func leaveTest(t testing.TB, name string) {
	t.Helper()
	leave.Lock()
	defer leave.Unlock()
	if slices.Contains(leave.names, name) {
		return
	}
	leave.names = append(leave.names, name)
	if err := os.WriteFile(leftTo, []byte(strings.Join(leave.names, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forgotten returns the tests that were left to this run and that it did not
// come across.
func forgotten() (names []string) {
	b, _ := os.ReadFile(cmp.Or(left, os.DevNull))
	for _, name := range strings.Fields(string(b)) {
		if !slices.Contains(leave.names, name) {
			names = append(names, name)
		}
	}
	return names
}

// needs says which features a network has need of.
func needs(t testing.TB, conflist []byte) (features []feature) {
	t.Helper()
	var list struct {
		Plugins []struct {
			Type      string
			Master    string
			VLAN      int
			VLANTrunk []any
			Internal  bool
		}
	}
	if err := json.Unmarshal(conflist, &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Plugins {
		if p.Type == "bridge" && (p.VLAN > 0 || len(p.VLANTrunk) > 0) {
			features = append(features, vlanBridges)
		}
		if p.VLAN > 0 || strings.Contains(p.Master, ".") {
			features = append(features, vlanLinks)
		}
		if p.Type == "ipvlan" {
			features = append(features, ipvlanLinks)
		}
		if p.Master == "" && p.Internal && (p.Type == "macvlan" || p.Type == "ipvlan") {
			features = append(features, dummyLinks)
		}
	}
	return features
}

// A scenario says which features it has need of in a comment.
var kernelLine = regexp.MustCompile(`(?m)^# kernel: (.*)$`)

// scenarios are the scripts that run under this kernel.
func scenarios(t testing.TB) (paths []string) {
	t.Helper()
	all, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatalf("no scenario (%v)", err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want []feature
		if m := kernelLine.FindSubmatch(text); m != nil {
			for _, word := range strings.Fields(string(m[1])) {
				if _, known := probes[feature(word)]; !known {
					t.Fatalf("%s: found %q, want features of %v", path, word, fmt.Sprint(probes))
				}
				want = append(want, feature(word))
			}
		}
		name := "script/" + filepath.Base(path)
		if slices.Contains(want, onlyIPTables) { // a machine of its own, as all others have nf_tables
			name = string(onlyIPTables) + "/" + name
		}
		if here(t, name, want...) {
			paths = append(paths, path)
		}
	}
	return paths
}
