package iptables

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
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
func lock(ctx context.Context) (*os.File, error) { return filelock.File(ctx, lockPath) }

// release closes a file that nothing was written to: it cannot fail in a way
// that matters.
func release(f *os.File) { _ = f.Close() }
