package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
)

func FuzzPlan(f *testing.F) { plan.Fuzz(f, planned) }
