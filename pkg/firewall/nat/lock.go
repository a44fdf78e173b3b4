package nat

import (
	"context"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// portsLock serialises looking for overlapping host ports and claiming one.
const portsLock = "/run/dockyard/ports.lock"

// LockPorts waits for the lock on the host's published ports and returns what
// releases it.
func LockPorts(ctx context.Context) (unlock func(), err error) {
	return filelock.Acquire(ctx, portsLock)
}
