package link

import (
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// NoLinkLocalLearning has a bridge learn no hardware address from frames that it does
// not forward (to 01:80:c2:00:00:0X, such as LLDP): these pass no rule of a firewall, so
// a forged one would lead another's frames to the port that it came by
// (kernel: br_handle_frame, BR_BOOLOPT_NO_LL_LEARN, since Linux 5.0).
type NoLinkLocalLearning struct{ Bridge string }

// Key implements engine.Resource.
func (n NoLinkLocalLearning) Key() string { return "learning " + n.Bridge }

func (n NoLinkLocalLearning) String() string {
	return "ip link set " + n.Bridge + " type bridge no_linklocal_learn 1"
}

// Observe implements engine.Resource. Only sysfs tells; see macIsSet.
func (n NoLinkLocalLearning) Observe(context.Context) (engine.Diff, error) {
	_, l, err := Find(netns.Host(), n.Bridge)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	read := func(attribute string) string {
		b, _ := os.ReadFile("/sys/class/net/" + n.Bridge + "/" + attribute)
		return strings.TrimSpace(string(b))
	}
	found := read("bridge/no_linklocal_learn")
	if found == "" || read("ifindex") != strconv.Itoa(l.Attrs().Index) {
		return engine.Same, nil
	}
	return engine.Differ("no_linklocal_learn", found, "1"), nil
}

// Apply implements engine.Resource.
func (n NoLinkLocalLearning) Apply(context.Context) error {
	index, err := Index(netns.Host(), n.Bridge)
	if err != nil {
		return err
	}
	const multiBoolOpt, noLinkLocalLearn = 46, 1 // IFLA_BR_MULTI_BOOLOPT; the bit of the option
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	value := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, noLinkLocalLearn), noLinkLocalLearn)
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(multiBoolOpt, value)
	req.AddData(info)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Remove has nothing to do: the setting goes with the bridge, and others may rely on it.
func (n NoLinkLocalLearning) Remove(context.Context) error { return nil }
