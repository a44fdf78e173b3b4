package plan

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden"
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
	own := reflect.TypeOf(p.New()).Elem()
	for i := range own.NumField() {
		key, _, _ := strings.Cut(own.Field(i).Tag.Get("json"), ",")
		if key != "" && !seen[key] {
			t.Errorf("no case in testdata/plan has the key %q", key)
		}
	}
}
