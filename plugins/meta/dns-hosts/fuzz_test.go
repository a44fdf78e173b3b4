package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden/plan"
)

// Whatever a user and a runtime write, there is a plan or an error; neither
// reads the host, nothing panics, and the same gives the same.
func FuzzPlan(f *testing.F) {
	golden.Seed(f, "testdata/plan/*.txtar", "conf.json")
	golden.SeedBroken(f, "testdata/broken.txtar")
	f.Fuzz(func(t *testing.T, conf []byte) { plan.Twice(t, planned, conf, nil) })
}
