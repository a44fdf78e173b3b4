// Command firewall lets a network's traffic through the host's firewall, and
// keeps networks apart. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	// nerdctl runs it bare, and asks for 1.7.1 at least.
	cni.Main("firewall", cni.Planned{New: newConfig, Scopes: scopes})
}
