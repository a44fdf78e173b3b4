package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
	"github.com/dockyard-cni/dockyard/pkg/overlay"
)

func TestPlan(t *testing.T) { plan.Test(t, overlay.Plugin()) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, overlay.Plugin()) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "vxlan-overlay", overlay.Plugin()) }
