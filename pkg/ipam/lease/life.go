package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Life is what tells later on that the container of a lease is gone. The zero
// Life tells nothing.
type Life struct {
	Boot  [16]byte // the boot that the lease was made in
	NetNS uint64   // inode of the container's namespace, 0 if unknown; nsfs is one file system, so this is all
}

// bootID returns what the kernel calls this boot.
func bootID() (id [16]byte, err error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	digits := strings.ReplaceAll(strings.TrimSpace(string(data)), "-", "")
	if len(digits) != 32 {
		return id, fmt.Errorf("boot_id: found %q, want 32 digits", data)
	}
	for i := range id {
		b, err := strconv.ParseUint(digits[2*i:2*i+2], 16, 8)
		if err != nil {
			return id, fmt.Errorf("boot_id: %w", err)
		}
		id[i] = byte(b)
	}
	return id, nil
}

// A census is what holds network namespaces on this host.
type census struct {
	namespaces map[uint64]bool
	links      map[string]bool
	// complete is false if a process would not be looked into: then a namespace
	// that was not seen may be there all the same.
	complete bool
}

// takeCensus looks for every namespace that a process is in, has open, or has
// mounted, in whatever mount namespace. That a path is missing in ours would
// prove nothing: the runtime that made it may have mounts of its own.
func takeCensus() *census {
	c := &census{namespaces: map[uint64]bool{}, links: map[string]bool{}}
	links, err := net.Interfaces()
	tasks, globErr := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	c.complete = err == nil && globErr == nil && len(tasks) > 0
	for _, l := range links {
		c.links[l.Name] = true
	}
	mounts := map[string]bool{} // mount namespaces that have been looked at
	for _, t := range tasks {
		if err := c.task(t, mounts); err != nil && !ended(err) {
			c.complete = false
		}
	}
	return c
}

// task adds what one thread holds.
func (c *census) task(path string, mounts map[string]bool) error {
	if err := c.link(path + "/ns/net"); err != nil {
		return err
	}
	mnt, err := os.Readlink(path + "/ns/mnt")
	if err == nil && !mounts[mnt] {
		var text []byte
		text, err = os.ReadFile(path + "/mountinfo")
		mounts[mnt] = err == nil
		for word := range strings.FieldsSeq(string(text)) {
			c.add(word)
		}
	}
	names, listErr := readNames(path + "/fd")
	if err = errors.Join(err, listErr); err != nil {
		return err
	}
	for _, name := range names {
		if err := c.link(path + "/fd/" + name); err != nil && !ended(err) {
			return err
		}
	}
	return nil
}

// ended tells the errors of a process or descriptor that has gone meanwhile,
// and so holds nothing.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func (c *census) link(path string) error {
	target, err := os.Readlink(path)
	c.add(target)
	return err
}

// add notes a namespace as the kernel prints it: "net:[4026531840]".
func (c *census) add(text string) {
	if digits, ok := strings.CutPrefix(text, "net:["); ok {
		inode, _ := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
		c.namespaces[inode] = true
	}
}

// gone reports whether the container of a lease is certainly gone. Inode
// numbers are given again, so a namespace that is there may be another's: then
// the lease is kept. A veth of the attachment keeps it as well, as its other
// end is in the container.
func (c *census) gone(k owner.Key, l Life, boot [16]byte) bool {
	switch {
	case l.Boot == [16]byte{}:
		return false // made by the reference plugin
	case l.Boot != boot:
		return true
	case l.NetNS == 0:
		return false
	}
	return c.complete && !c.namespaces[l.NetNS] && !c.links[k.Mark().HostLink()]
}
