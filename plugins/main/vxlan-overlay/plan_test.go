package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/testnet/golden/plan"
)

func TestPlan(t *testing.T) { plan.Test(t, plugin()) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, plugin()) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "vxlan-overlay", plugin()) }
