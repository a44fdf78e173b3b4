package golden_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
)

// testdata/examples shows what each example does, plugin by plugin; the tests of
// the plugins compare the sections. Here: that none is missing or left over.
func TestExamplesAreComplete(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join(testnet.Root(), "conf-examples", "*.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range examples {
		list, err := libcni.ConfListFromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".conflist"))
		var want, got []string
		for _, p := range list.Plugins {
			want = append(want, p.Network.Type)
		}
		for _, f := range golden.Open(t, "testdata/examples/"+names[len(names)-1]+".txtar").Files {
			got = append(got, f.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: shown is %q, want %q", path, got, want)
		}
	}
	golden.Each(t, "testdata/examples/*.txtar", func(t *testing.T, _ *golden.Archive) {
		if name := t.Name()[strings.LastIndex(t.Name(), "/")+1:]; !slices.Contains(names, name) {
			t.Errorf("there is no example %s", name)
		}
	})
}
