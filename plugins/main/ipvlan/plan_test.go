package main

import (
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/parent"
	"github.com/dockyard-cni/dockyard/pkg/testnet/golden/plan"
)

var planned = cni.Planned{New: newConfig, Scopes: parent.Scopes}

func TestPlan(t *testing.T) { plan.Test(t, planned) }

func TestPlanOfEachKey(t *testing.T) { plan.Keys(t, planned) }

func TestPlanOfExamples(t *testing.T) { plan.Examples(t, "ipvlan", planned) }
