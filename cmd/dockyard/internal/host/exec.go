package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// Exec replaces this program by a command in the network namespace of a container.
func Exec(c *inventory.Container, args []string) error {
	if unix.Geteuid() != 0 {
		return fmt.Errorf("%w, to enter namespaces", inventory.ErrRoot)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	err = ns.WithNetNSPath(c.NetNS, func(ns.NetNS) error {
		if filesErr := files(c); filesErr != nil {
			return filesErr
		}
		return fmt.Errorf("%s: %w", path, unix.Exec(path, args, os.Environ()))
	})
	return fmt.Errorf("container %s: %w", c.Title(), err)
}

// files gives the command the container's files of names, and the /sys of its
// namespace, in a mount namespace of its own.
func files(c *inventory.Container) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	// A /sys that cannot be had shows the host's links: as without it.
	if unix.Unmount("/sys", unix.MNT_DETACH) == nil {
		_ = unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	for _, dir := range []string{filepath.Join(zone.Default().Containers(), c.CNIID), filepath.Join("/etc/netns", filepath.Base(c.NetNS))} {
		for _, name := range []string{"resolv.conf", "hosts"} {
			err := unix.Mount(filepath.Join(dir, name), filepath.Join("/etc", name), "", unix.MS_BIND, "")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("/etc/%s: %w", name, err)
			}
		}
	}
	return nil
}
