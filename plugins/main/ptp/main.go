// Command ptp connects a container with the host by a veth pair of its own. See
// README.md.
package main

import (
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

func main() { cni.Main("ptp", cni.Planned{New: newConfig, Scopes: scopes}) }

// scopes: the pair and its masquerading are found as those of a bridge are.
func scopes(*cni.Request) []engine.Scope { return bridgenet.Scopes() }
