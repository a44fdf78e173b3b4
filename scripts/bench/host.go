package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// host is a network namespace with a thread that lives in it. Processes that
// the thread starts live there too, which is how plugins get onto this host.
type host struct{ work chan func() }

func newHost() (*host, error) {
	path, err := newNetNS()
	if err != nil {
		return nil, err
	}
	h := &host{work: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := enter(path)
		entered <- err
		if err != nil {
			return
		}
		for f := range h.work {
			f()
		}
	}()
	return h, <-entered
}

// do runs f on the host's thread.
func (h *host) do(f func() error) error {
	done := make(chan error)
	h.work <- func() { done <- f() }
	return <-done
}

func (h *host) close() { close(h.work) }

// inNetNS runs f on a thread of its own in the namespace at path.
func inNetNS(path string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := enter(path); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", path, err)
	}
	return nil
}

var netnsCount atomic.Int64

// newNetNS makes a namespace with lo up, bound to a path as container runtimes do.
func newNetNS() (string, error) {
	path := filepath.Join(netnsDir, fmt.Sprintf("bench%d", netnsCount.Add(1)))
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- bindNewNetNS(path)
	}()
	return path, <-done
}

func bindNewNetNS(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// sweep takes away every namespace and all state that plugins keep. Both lie in
// file systems of the sandbox.
func sweep() {
	namespaces, _ := filepath.Glob(netnsDir + "/*")
	for _, path := range namespaces {
		_ = unix.Unmount(path, unix.MNT_DETACH)
	}
	for _, dir := range []string{"/run/*", "/var/lib/cni/*"} {
		entries, _ := filepath.Glob(dir)
		for _, entry := range entries {
			_ = os.RemoveAll(entry)
		}
	}
}
