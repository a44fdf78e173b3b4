package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden/plan"
)

var planned = cni.Planned{New: newConfig, Scopes: scopes}

func TestPlan(t *testing.T) { plan.Test(t, planned) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, planned) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "bandwidth", planned) }

// Whatever a user and a runtime write, there is a plan or an error.
func FuzzPlan(f *testing.F) {
	golden.Seed(f, "testdata/plan/*.txtar", "conf.json")
	golden.SeedBroken(f, "testdata/broken.txtar")
	f.Fuzz(func(t *testing.T, conf []byte) { plan.Twice(t, planned, conf, nil) })
}
