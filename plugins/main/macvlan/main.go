// Command macvlan attaches a container to a network of the host by a link with a
// hardware address of its own. See README.md.
package main

import (
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/childlink"
)

func main() {
	cni.Main("macvlan", cni.Planned{New: newConfig, Scopes: childlink.Scopes})
}
