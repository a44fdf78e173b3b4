// Command bridge attaches a container to a Linux bridge. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("bridge", cni.Planned{New: newConfig, Scopes: scopes})
}
