// Command bandwidth limits the traffic of a container. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("bandwidth", cni.Planned{New: newConfig, Scopes: scopes})
}
