// Command tuning changes settings of a container's interface. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("tuning", cni.Planned{New: newConfig, Scopes: scopes})
}
