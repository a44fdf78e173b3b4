package testnet

import (
	"cmp"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Feature is what a kernel may have been built without.
type Feature string

// Features that tests have need of.
const (
	VLANLinks   Feature = "8021q"
	VLANBridges Feature = "vlan_filtering"
	IPVLANLinks Feature = "ipvlan"
	DummyLinks  Feature = "dummy"

	// OnlyIPTables is what a kernel without nf_tables has, the older kind.
	OnlyIPTables Feature = "only-iptables"
)

// Probes make use of a feature, for sh in a namespace of its own.
var Probes = map[Feature]string{
	VLANLinks:   "ip link add v0 type veth peer name v1 && ip link add link v0 name v0.5 type vlan id 5",
	VLANBridges: "ip link add b0 type bridge vlan_filtering 1",
	IPVLANLinks: "ip link add v0 type veth peer name v1 && ip link add link v0 name i0 type ipvlan",
	DummyLinks:  "ip link add d0 type dummy",

	OnlyIPTables: "! nft list ruleset && iptables-legacy -t nat -S",
}

// has returns the features that this kernel has, each probed once.
var has = sync.OnceValue(func() map[Feature]bool {
	found := map[Feature]bool{}
	for f, command := range Probes {
		found[f] = exec.Command("unshare", "--net", "sh", "-c", command).Run() == nil
	}
	return found
})

// Lacking returns those features that this kernel has not.
func Lacking(needs []Feature) []Feature {
	if len(needs) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(needs), func(f Feature) bool { return has()[f] })
}

// Tests for which this kernel lacks a feature are run by scripts/test.sh under a
// second one. The first run adds their names to the file leftTo; the second runs the
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

// Emulated reports whether this run is one under the second kernel, on a machine
// that is emulated and so slower by ten times and more.
func Emulated() bool { return left != "" }

// Here reports whether the test of that name runs under this kernel. Where it can be
// left to none it is a subtest that fails, unless others were asked for with -run.
func Here(t *testing.T, name string, needs ...Feature) bool {
	t.Helper()
	if Emulated() {
		if !slices.Contains(leftNames(), name) {
			return false
		}
		leave.Lock()
		leave.names = append(leave.names, name)
		leave.Unlock()
		return true
	}
	missing := Lacking(needs)
	if len(missing) == 0 {
		return true
	}
	if leftTo == "" {
		t.Run(strings.TrimSuffix(path.Base(name), ".txtar"), func(t *testing.T) {
			t.Errorf("this kernel has no %s; scripts/test.sh runs it under one that has (DOCKYARD_LEAVE=file notes %s there instead)", missing, name)
		})
		return false
	}
	if err := leaveTest(name); err != nil {
		t.Fatal(err)
	}
	return false
}

func leftNames() []string {
	b, err := os.ReadFile(cmp.Or(left, os.DevNull))
	if err != nil {
		panic(err)
	}
	return strings.Fields(string(b))
}

// leaveTest adds a name, as packages that are tested at the same time do.
func leaveTest(name string) error {
	leave.Lock()
	defer leave.Unlock()
	if slices.Contains(leave.names, name) {
		return nil
	}
	leave.names = append(leave.names, name)
	f, err := os.OpenFile(leftTo, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	return cmp.Or(err, f.Close())
}

// Forgotten returns the tests that were left to this run and that it did not come
// across, of those for which mine is true.
func Forgotten(mine func(name string) bool) (names []string) {
	leave.Lock()
	defer leave.Unlock()
	for _, name := range leftNames() {
		if mine(name) && !slices.Contains(leave.names, name) {
			names = append(names, name)
		}
	}
	return names
}
