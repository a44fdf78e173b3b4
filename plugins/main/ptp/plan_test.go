package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
	"github.com/dockyard-cni/dockyard/pkg/cni"
)

var planned = cni.Planned{New: newConfig, Scopes: scopes}

func TestPlan(t *testing.T) { plan.Test(t, planned) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, planned) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "ptp", planned) }
