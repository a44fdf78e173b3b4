// Command vxlan-overlay attaches a container to a network that spans hosts. See
// README.md.
package main

import (
	"fmt"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/overlay"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		fmt.Fprintln(os.Stderr, "vxlan-overlay daemon:", cni.Become("vxlan-overlayd", os.Args[2:]))
		os.Exit(1)
	}
	cni.Main("vxlan-overlay", overlay.Plugin())
}
