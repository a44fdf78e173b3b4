package vxlan

import (
	"context"
	"fmt"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// A TxChecksum says who computes the checksums of the packets that leave by a
// link of the host: the hardware that they leave the host by (Offload), or the
// kernel at the link.
type TxChecksum struct {
	Link    string
	Offload bool
}

const txChecksum = "tx-checksum-ip-generic"

// Key implements engine.Resource.
func (c TxChecksum) Key() string { return "checksum " + c.Link }

func (c TxChecksum) String() string {
	return fmt.Sprintf("ethtool -K %s %s %s", c.Link, txChecksum, link.OnOff(c.Offload))
}

// Observe implements engine.Resource.
func (c TxChecksum) Observe(context.Context) (diff engine.Diff, err error) {
	err = withEthtool(func(e *ethtool.Ethtool) error {
		features, featErr := e.Features(c.Link)
		diff = engine.Differ(c.Link+" "+txChecksum, link.OnOff(features[txChecksum]), link.OnOff(c.Offload))
		return featErr
	})
	return diff, err
}

// Apply implements engine.Resource.
func (c TxChecksum) Apply(ctx context.Context) error {
	diff, err := c.Observe(ctx)
	if err != nil || diff == engine.Same {
		return err
	}
	return withEthtool(func(e *ethtool.Ethtool) error { return e.Change(c.Link, map[string]bool{txChecksum: c.Offload}) })
}

// Remove has nothing to do: it goes with the link.
func (c TxChecksum) Remove(context.Context) error { return nil }

func withEthtool(f func(*ethtool.Ethtool) error) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return f(e)
}

// ChecksumFault says why checksums of what a VXLAN device sends by a link of the
// underlay may be wrong when they are left to the hardware; "" if nothing is known
// against it.
//
// Kernels before 5.7 changed UDP checksums of 0 when they translate addresses
// (commit ea64d8d6c675, "netfilter: nat: never update the UDP checksum when it's
// 0"), and vmxnet3 computes them wrong for ports that it does not take for VXLAN's.
func ChecksumFault(underlay string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major < 5 || major == 5 && minor < 7) {
		return fmt.Sprintf("kernel %s may change UDP checksums of 0", release), nil
	}
	driver := ""
	err := withEthtool(func(e *ethtool.Ethtool) error {
		driver, _ = e.DriverName(underlay) // what has no driver has no fault
		return nil
	})
	if driver == "vmxnet3" {
		return "driver vmxnet3 of " + underlay + " may compute them wrong", err
	}
	return "", err
}
