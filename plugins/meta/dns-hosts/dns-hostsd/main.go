// Command dns-hostsd is what "dns-hosts daemon" and "dns-hosts status" run. See
// ../README.md.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/daemon"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dns-hosts:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "daemon":
		return daemon.Run(daemonLock, serve)
	case len(args) > 0 && args[0] == "status":
		return status(args[1:])
	}
	return errors.New("unknown command; usage: dns-hosts daemon | status [json | metrics]")
}
