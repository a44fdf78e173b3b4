package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Bridge is a Linux bridge of the host, up. One that exists is adopted as it
// is, but for what is asked for here; it is never deleted.
//
// Its MAC address is set: at creation to a random one, of an adopted bridge to the
// one that it has. A bridge whose address nobody set takes that of its lowest port,
// and none without ports, so that containers would lose their gateway's neighbour
// entry when one comes or goes (kernel: br_stp_recalculate_bridge_id).
type Bridge struct {
	Name    string
	MTU     int // of a bridge that is made; 0 leaves it to the kernel
	Promisc bool
	VLANs   bool // vlan_filtering
	// Network is the one that a bridge is made for. Its alias says so, so that
	// whoever removes the network knows whether the bridge goes with it.
	Network string
}

// BridgeMark is the alias of a bridge that was made for a network. No network is
// called "*".
func BridgeMark(network string) owner.Mark {
	return owner.Key{Network: "*", ContainerID: network, IfName: "bridge"}.Mark()
}

// Key implements engine.Resource.
func (b Bridge) Key() string { return "link " + b.Name }

func (b Bridge) String() string {
	s := "ip link add " + b.Name
	if b.MTU > 0 {
		s += fmt.Sprintf(" mtu %d", b.MTU)
	}
	s += " type bridge"
	if b.VLANs {
		s += " vlan_filtering 1"
	}
	s += " ; ip link set " + b.Name + " up"
	if b.Promisc {
		s += " promisc on"
	}
	if b.Network != "" {
		s += fmt.Sprintf(" alias '%s'", BridgeMark(b.Network))
	}
	return s
}

// Observe implements engine.Resource.
func (b Bridge) Observe(context.Context) (engine.Diff, error) {
	_, l, err := Find(netns.Host(), b.Name)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return engine.Differ("type", l.Type(), "bridge"), nil
	}
	diffs := []engine.Diff{engine.Differ("state", State(l), "up"), macOf(br)}
	if b.Promisc {
		diffs = append(diffs, engine.Differ("promisc", l.Attrs().Promisc > 0, true))
	}
	if b.VLANs {
		diffs = append(diffs, engine.Differ("vlan_filtering", br.VlanFiltering != nil && *br.VlanFiltering, true))
	}
	return engine.First(diffs...), nil
}

// Apply implements engine.Resource.
func (b Bridge) Apply(ctx context.Context) error {
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	diff, err := b.Observe(ctx)
	if err != nil || diff == engine.Same {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU, randomMAC()
	if b.MTU == 0 {
		attrs.MTU = -1
	}
	br := &netlink.Bridge{LinkAttrs: attrs}
	if b.VLANs {
		br.VlanFiltering = &b.VLANs
	}
	err = h.LinkAdd(br)
	if b.VLANs && errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the kernel was built without VLANs of bridges (BRIDGE_VLAN_FILTERING), which vlan and vlanTrunk need: %w", err)
	}
	if err == nil && b.Network != "" {
		err = h.LinkSetAlias(br, string(BridgeMark(b.Network)))
	}
	if err != nil && !exists(err) {
		return err
	}
	return b.converge(h)
}

func (b Bridge) converge(h *netlink.Handle) error {
	l, err := h.LinkByName(b.Name)
	if err != nil {
		return err
	}
	br, ok := l.(*netlink.Bridge)
	if !ok {
		return fmt.Errorf("link %s is there already and of type %s; name another bridge, or delete it", b.Name, l.Type())
	}
	if err := pinMAC(h, br); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if b.VLANs && (br.VlanFiltering == nil || !*br.VlanFiltering) {
		if err := h.BridgeSetVlanFiltering(l, true); err != nil {
			return fmt.Errorf("vlan_filtering: %w", err)
		}
	}
	if b.Promisc {
		if err := h.SetPromiscOn(l); err != nil {
			return err
		}
	}
	return h.LinkSetUp(l)
}

// macOf says how the address of a bridge is not one that stays.
func macOf(br *netlink.Bridge) engine.Diff {
	if known, set := macIsSet(br); known && !set {
		return "address not set, so it follows the ports, want it set"
	}
	return engine.Same
}

// pinMAC sets the address that a bridge has, so that it stays; a bridge that lost
// its last port may have none. It is not set again, as the kernel forgets the
// neighbours of a link whose address is set.
func pinMAC(h *netlink.Handle, br *netlink.Bridge) error {
	if known, set := macIsSet(br); known && set {
		return nil
	}
	mac := br.HardwareAddr
	if mac == nil { // all zero
		mac = randomMAC()
	}
	return h.LinkSetHardwareAddr(br, mac)
}

// macIsSet reports whether somebody set the address of a link (addr_assign_type,
// NET_ADDR_SET), which only sysfs tells. That it is not known is no error: a process
// may see the sysfs of another network namespace, or none.
func macIsSet(l netlink.Link) (known, set bool) {
	const dir, addressSet = "/sys/class/net/", "3"
	read := func(attribute string) string {
		b, _ := os.ReadFile(dir + l.Attrs().Name + "/" + attribute)
		return strings.TrimSpace(string(b))
	}
	if read("ifindex") != strconv.Itoa(l.Attrs().Index) {
		return false, false
	}
	return true, read("addr_assign_type") == addressSet
}

// Remove implements engine.Resource.
func (b Bridge) Remove(context.Context) error {
	h, l, err := Find(netns.Host(), b.Name)
	if err != nil || l == nil {
		return err
	}
	return h.LinkDel(l)
}
