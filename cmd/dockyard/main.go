// Command dockyard creates, lists, changes and removes networks, and attaches
// containers that run to them, whichever CNI runtime has started these.
package main

import (
	"os"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr)) }
