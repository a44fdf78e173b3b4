// Command host-local is a CNI IPAM plugin: it leases addresses from ranges and
// keeps the leases on local disk. See README.md.
package main

import "github.com/dockyard-cni/dockyard/pkg/cni"

func main() { cni.Main("host-local", plugin{}) }
