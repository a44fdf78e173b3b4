package main

import (
	"encoding/json"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
	"github.com/dockyard-cni/dockyard/pkg/overlay"
)

// Whatever a user writes and an IPAM plugin answers, there is a plan or an
// error; neither reads the host, nothing panics, and the same gives the same.
func FuzzPlan(f *testing.F) {
	golden.Seed(f, "testdata/plan/*.txtar", "conf.json", "ipam.json")
	golden.SeedBroken(f, "testdata/broken.txtar", []byte(nil))
	f.Fuzz(func(t *testing.T, conf, answer []byte) {
		res := &current.Result{}
		if len(answer) > 0 && json.Unmarshal(answer, res) != nil {
			return
		}
		plan.Twice(t, overlay.Plugin(), conf, res)
	})
}
