// Command dns-hosts gives containers names. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() {
	cni.Main("dns-hosts", cni.Planned{New: newConfig, Scopes: scopes})
}
