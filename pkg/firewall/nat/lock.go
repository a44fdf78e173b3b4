package nat

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// portsLock serialises looking for overlapping host ports and claiming one.
const portsLock = "/run/dockyard/ports.lock"

// LockPorts waits for the lock on the host's published ports and returns what
// releases it. The lock ends with the process, too.
func LockPorts() (unlock func(), err error) {
	if err = os.MkdirAll(filepath.Dir(portsLock), 0o755); err != nil {
		return nil, fmt.Errorf("lock ports: %w", err)
	}
	f, err := os.OpenFile(portsLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock ports: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock ports: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
