package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockPath is held by whoever changes anything here. Like the rules it is gone
// at the next boot, so where it is missing there are no rules to look for, and
// a host that only uses nftables never starts iptables.
const lockPath = "/run/dockyard/iptables.lock"

// used reports whether Apply was ever called since boot.
func used() (bool, error) {
	_, err := os.Stat(lockPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lock waits for the lock, which is held until every copy of the file is closed.
func lock() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(lockPath), 0o755); err != nil {
		return nil, fmt.Errorf("lock iptables: %w", err)
	}
	f, err := os.OpenFile(lockPath, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock iptables: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		release(f)
		return nil, fmt.Errorf("lock iptables: %w", err)
	}
	return f, nil
}

// release closes a file that nothing was written to: it cannot fail in a way
// that matters.
func release(f *os.File) { _ = f.Close() }
