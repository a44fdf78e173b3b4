package link

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Veth is a veth pair: one end on the host, up and in a bridge if one is named,
// the other in a container, down until its sysctls are set.
type Veth struct {
	Host   string    // name of the host's end
	Bridge string    // empty: the pair alone connects the two
	NS     *netns.NS // the container's
	Peer   string    // name of the container's end
	MAC    net.HardwareAddr
	MTU    int  // 0 leaves it to the kernel when made, and is not compared
	Down   bool // the container's end stays down
	Mark   owner.Mark
}

// Key implements engine.Resource.
func (v Veth) Key() string { return "link " + v.Host }

func (v Veth) String() string {
	if v.NS == nil {
		return "ip link add " + v.Host + " type veth"
	}
	s := "ip link add " + v.Host
	if v.MTU > 0 {
		s += fmt.Sprintf(" mtu %d", v.MTU)
	}
	if v.Bridge != "" {
		s += " master " + v.Bridge
	}
	s += fmt.Sprintf(" up type veth peer name %s netns %s", v.Peer, v.NS.Path())
	if v.MAC != nil {
		s += " address " + v.MAC.String()
	}
	return s + fmt.Sprintf(" ; ip link set %s alias %s", v.Host, v.Mark)
}

// Observe implements engine.Resource. It leaves the container's MTU alone: the
// tuning plugin may have changed it.
func (v Veth) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), v.Host)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	bridge := ""
	if m, err := h.LinkByIndex(l.Attrs().MasterIndex); err == nil {
		bridge = m.Attrs().Name
	}
	diff := engine.First(
		engine.Differ("type", l.Type(), "veth"),
		engine.Differ("alias", l.Attrs().Alias, string(v.Mark)),
		engine.Differ("master", bridge, v.Bridge),
		engine.Differ("state", State(l), "up"))
	if v.MTU > 0 && diff == engine.Same {
		diff = engine.Differ("mtu", l.Attrs().MTU, v.MTU)
	}
	if diff != engine.Same {
		return diff, nil
	}
	return v.observePeer(l)
}

func (v Veth) observePeer(host netlink.Link) (engine.Diff, error) {
	_, l, err := Find(v.NS, v.Peer)
	if err != nil {
		return engine.Same, err
	}
	if l == nil {
		return engine.Diff(fmt.Sprintf("peer %s is not in the container", v.Peer)), nil
	}
	diff := engine.Differ("peer's index", l.Attrs().Index, host.Attrs().ParentIndex)
	if diff == engine.Same && v.Down { // Up sets it up, when it has its addresses
		diff = engine.Differ("peer's state", State(l), "down")
	}
	if diff == engine.Same && v.MAC != nil && !bytes.Equal(l.Attrs().HardwareAddr, v.MAC) {
		diff = engine.Differ("peer's address", l.Attrs().HardwareAddr.String(), v.MAC.String())
	}
	return diff, nil
}

// Apply makes the pair in one message: its container's end is born there.
func (v Veth) Apply(context.Context) error {
	fd, err := v.NS.FD()
	if err != nil {
		return err
	}
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	if v.Bridge != "" {
		_, bridge, err := MustFind(netns.Host(), v.Bridge)
		if err != nil {
			return err
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	attrs.Name, attrs.Flags = v.Host, net.FlagUp
	attrs.HardwareAddr = v.Mark.HostMAC() // set, so that no udev policy changes it
	veth := netlink.NewVeth(attrs)
	if v.MTU > 0 {
		veth.MTU, veth.PeerMTU = v.MTU, uint32(v.MTU)
	}
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = v.Peer, v.MAC, netlink.NsFd(fd)
	if err := h.LinkAdd(veth); err != nil {
		return v.explain(err)
	}
	if err := h.LinkSetAlias(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: v.Host, Index: veth.Index}}, string(v.Mark)); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	return nil
}

// explain says which of the two names is taken.
func (v Veth) explain(err error) error {
	if !exists(err) {
		return err
	}
	if _, l, findErr := Find(v.NS, v.Peer); findErr == nil && l != nil {
		return fmt.Errorf("%s in the container %w; choose another CNI_IFNAME, or DEL what made it", v.Peer, engine.ErrExists)
	}
	return fmt.Errorf("%s %w", v.Host, engine.ErrExists)
}

// Remove implements engine.Resource. Removing one end removes the other.
func (v Veth) Remove(context.Context) error {
	h, l, err := Find(netns.Host(), v.Host)
	if err != nil || l == nil {
		return err
	}
	if err := h.LinkDel(l); err != nil && !Gone(err) {
		return err
	}
	return nil
}

// gone reports whether a link vanished between lookup and use: with its
// namespace, or by another DEL.
