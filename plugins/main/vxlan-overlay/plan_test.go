package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/overlay"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden/plan"
)

func TestPlan(t *testing.T) { plan.Test(t, overlay.Plugin()) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, overlay.Plugin()) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "vxlan-overlay", overlay.Plugin()) }
