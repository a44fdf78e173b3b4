// Command portmap publishes ports of a container on the host. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("portmap", cni.Planned{New: newConfig, Scopes: scopes})
}
