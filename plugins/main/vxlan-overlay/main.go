// Command vxlan-overlay attaches a container to a network that spans hosts. See
// README.md.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/overlay"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		fmt.Fprintln(os.Stderr, "vxlan-overlay daemon:", daemon(os.Args[2:]))
		os.Exit(1)
	}
	cni.Main("vxlan-overlay", overlay.Plugin())
}

// daemon becomes the program beside this one: a client of etcd in this one would
// take each ADD and DEL several milliseconds to start.
func daemon(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(self), "vxlan-overlayd")
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, append([]string{path}, args...), os.Environ()))
}
