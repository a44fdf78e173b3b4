package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A Kind requires that the kernel has links of a kind, such as "vxlan", or a
// module for them, which it loads when it is asked. It is asked to make one with
// a name that none can have and without all else, so it never makes one; but for
// that it says EOPNOTSUPP of a kind that it does not know, and EINVAL of one that
// it does (rtnl_newlink, register_netdevice).
type Kind string

// Key implements engine.Resource.
func (k Kind) Key() string { return "kind " + string(k) }

func (k Kind) String() string { return "modprobe rtnl-link-" + string(k) }

const noName = "/"

// Observe implements engine.Resource.
func (k Kind) Observe(context.Context) (engine.Diff, error) {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(noName)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(string(k)))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return k.lacking(), nil
	case errors.Is(err, unix.EINVAL):
		return engine.Same, nil
	}
	return engine.Same, err
}

// modules are what the kernel calls those of kinds that it calls otherwise.
var modules = map[Kind]string{kindVLAN: "8021q"}

func (k Kind) lacking() engine.Diff {
	module, ok := modules[k]
	if !ok {
		module = string(k)
	}
	return engine.Diff(fmt.Sprintf("the kernel has no links of type %s: its module %s is missing; "+
		"install it (many distributions have it in a package of extra modules) or start a kernel that has it", string(k), module))
}

// Apply has nothing to do: the kernel is required.
func (k Kind) Apply(context.Context) error { return nil }

// Remove has nothing to do.
func (k Kind) Remove(context.Context) error { return nil }

// unsupported says what the kernel lacks, where that is why a link was refused.
func unsupported(kind string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", Kind(kind).lacking(), err)
	}
	return err
}
