// Command vxlan-overlay attaches a container to a network that spans hosts. See
// README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("vxlan-overlay", plugin())
}

func plugin() cni.Planned { return cni.Planned{New: newConfig, Scopes: scopes} }
