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
	if len(os.Args) > 1 { // a person's or systemd's: runtimes give no arguments
		fmt.Fprintln(os.Stderr, "vxlan-overlay:", cni.Become("vxlan-overlayd", os.Args[1:]))
		os.Exit(1)
	}
	cni.Main("vxlan-overlay", overlay.Plugin())
}
