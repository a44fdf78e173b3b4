package plan

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/cni"
)

// Keys fails for each key of a plugin's own that no case has: what a key does
// is not known as long as no golden file shows it.
func Keys(t *testing.T, p cni.Planned) {
	t.Helper()
	paths, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		conf, _ := golden.Open(t, path).Input("conf.json")
		var keys map[string]json.RawMessage
		if err := json.Unmarshal([]byte(conf), &keys); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for key := range keys {
			seen[key] = true
		}
	}
	for _, key := range own(reflect.TypeOf(p.New()).Elem()) {
		if !seen[key] {
			t.Errorf("no case in testdata/plan has the key %q", key)
		}
	}
}

// own returns the keys of a configuration but those that all plugins have, also
// what it shares with some.
func own(t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case key != "":
			keys = append(keys, key)
		case f.Anonymous && f.Type != reflect.TypeFor[cni.Base]():
			keys = append(keys, own(f.Type)...)
		}
	}
	return keys
}
