package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden/plan"
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/childlink"
)

var planned = cni.Planned{New: newConfig, Scopes: childlink.Scopes}

func TestPlan(t *testing.T) { plan.Test(t, planned) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, planned) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "macvlan", planned) }
