package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where ip-netns(8) keeps namespaces by their names.
const Dir = "/run/netns"

// Create makes a namespace with a name, as "ip netns add" does, with lo up.
func Create(name string) (*NS, error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		handle, err := vns.NewNamed(name)
		if err == nil {
			err = handle.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	ns := At(filepath.Join(Dir, name))
	h, err := ns.Netlink()
	if err != nil {
		return nil, err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return ns, h.LinkSetUp(lo)
}

// Delete takes the name from a namespace. It ends with the last process in it.
func Delete(name string) error {
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.Remove(path)
}
