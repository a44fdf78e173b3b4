package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// needs says which features a network has need of.
func needs(t testing.TB, conflist []byte) (features []testnet.Feature) {
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
			features = append(features, testnet.VLANBridges)
		}
		if p.VLAN > 0 || strings.Contains(p.Master, ".") {
			features = append(features, testnet.VLANLinks)
		}
		if p.Type == "ipvlan" {
			features = append(features, testnet.IPVLANLinks)
		}
		if p.Master == "" && p.Internal && (p.Type == "macvlan" || p.Type == "ipvlan") {
			features = append(features, testnet.DummyLinks)
		}
	}
	return features
}

// A scenario says which features it has need of in a comment.
var kernelLine = regexp.MustCompile(`(?m)^# kernel: (.*)$`)

// scenarios are the scripts that run under this kernel.
func scenarios(t *testing.T) (paths []string) {
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
		if bytes.Contains(text, []byte("\nexec sleep")) {
			t.Errorf("%s sleeps, which proves nothing on a busy machine: wait by eventually for what says that somebody looked", path)
		}
		var want []testnet.Feature
		if m := kernelLine.FindSubmatch(text); m != nil {
			for _, word := range strings.Fields(string(m[1])) {
				if _, known := testnet.Probes[testnet.Feature(word)]; !known {
					t.Fatalf("%s: found %q, want features of %v", path, word, fmt.Sprint(testnet.Probes))
				}
				want = append(want, testnet.Feature(word))
			}
		}
		name := "script/" + filepath.Base(path)
		if slices.Contains(want, testnet.OnlyIPTables) { // a machine of its own, as all others have nf_tables
			name = string(testnet.OnlyIPTables) + "/" + name
		}
		if testnet.Here(t, name, want...) {
			paths = append(paths, path)
		}
	}
	return paths
}
