// Command dns-hosts gives containers names. See README.md.
package main

import (
	"fmt"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/cni"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(command(os.Args[1], os.Args[2:]))
	}
	cni.Main("dns-hosts", cni.Planned{New: newConfig, Scopes: scopes})
}

// command is what a person or systemd runs; runtimes give no arguments.
func command(name string, args []string) int {
	var err error
	switch name {
	case "daemon":
		err = daemon()
	case "status":
		err = status(args)
	default:
		err = fmt.Errorf("unknown command; usage: dns-hosts daemon | status [json | metrics]")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "dns-hosts %s: %v\n", name, err)
		return 1
	}
	return 0
}
