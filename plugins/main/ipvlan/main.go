// Command ipvlan attaches a container to a network of the host by a link that
// shares the hardware address of its parent. See README.md.
package main

import (
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/childlink"
)

func main() {
	cni.Main("ipvlan", cni.Planned{New: newConfig, Scopes: childlink.Scopes})
}
