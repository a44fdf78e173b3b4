// Command dns-hosts gives containers names. See README.md.
package main

import (
	"fmt"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/cni"
)

func main() {
	if len(os.Args) > 1 { // a person's or systemd's: runtimes give no arguments
		fmt.Fprintln(os.Stderr, "dns-hosts:", cni.Become("dns-hostsd", os.Args[1:]))
		os.Exit(1)
	}
	cni.Main("dns-hosts", cni.Planned{New: newConfig, Scopes: scopes, Light: true})
}
