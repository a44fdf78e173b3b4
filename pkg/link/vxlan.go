package link

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// A VXLAN is the host's end of the tunnels of one network (RFC 7348): a device
// of the host, up, which carries the network's mark as its alias.
//
// One without a mark that is as wanted is adopted. One of the same mark that
// differs is made anew. Any other is refused: Apply returns a state.HeldError
// that names the holder.
type VXLAN struct {
	Name     string
	VNI      int
	Port     int        // UDP
	Local    netip.Addr // the underlay's address of this host
	Parent   string     // the underlay's link, which a Group needs
	Group    netip.Addr // of multicast, where frames to unknown addresses go
	Learning bool       // where an address is from the frames that come from there
	MTU      int        // 0 leaves it to the kernel when made, and is not compared
	MAC      net.HardwareAddr
	Bridge   string // that it is a port of, "" for none
	Mark     owner.Mark
}

// SharedMark is the mark of a link that belongs to a network rather than to an
// attachment. No network is called "*".
func SharedMark(network, what string) owner.Mark {
	return owner.Key{Network: "*", ContainerID: network, IfName: what}.Mark()
}

// Key implements state.Resource.
func (v VXLAN) Key() string { return "link " + v.Name }

func (v VXLAN) String() string {
	s := "ip link add " + v.Name
	if v.MAC != nil {
		s += " address " + v.MAC.String()
	}
	if v.MTU > 0 {
		s += fmt.Sprintf(" mtu %d", v.MTU)
	}
	if v.Bridge != "" {
		s += " master " + v.Bridge
	}
	s += fmt.Sprintf(" type vxlan id %d dstport %d", v.VNI, v.Port)
	if v.Local.IsValid() {
		s += " local " + v.Local.String()
	}
	if v.Group.IsValid() {
		s += fmt.Sprintf(" group %s dev %s", v.Group, v.Parent)
	}
	if !v.Learning {
		s += " nolearning"
	}
	return s + fmt.Sprintf(" ; ip link set %s alias %s up", v.Name, v.Mark)
}

// Observe implements state.Resource.
func (v VXLAN) Observe(context.Context) (state.Diff, error) {
	h, l, err := Find(netns.Host(), v.Name)
	if err != nil || l == nil {
		return state.Absent, err
	}
	return state.First(v.differs(h, l), state.Differ("alias", l.Attrs().Alias, string(v.Mark)), state.Differ("state", State(l), "up")), nil
}

// differs compares what a device is made with.
func (v VXLAN) differs(h *netlink.Handle, l netlink.Link) state.Diff {
	found, ok := l.(*netlink.Vxlan)
	if !ok {
		return state.Differ("type", l.Type(), "vxlan")
	}
	diffs := []state.Diff{
		state.Differ("id", found.VxlanId, v.VNI),
		state.Differ("dstport", found.Port, v.Port),
		state.Differ("local", address(found.SrcAddr), v.Local),
		state.Differ("group", address(found.Group), v.Group),
		state.Differ("learning", found.Learning, v.Learning),
		state.Differ("master", linkName(h, l.Attrs().MasterIndex), v.Bridge),
	}
	if v.Parent != "" {
		diffs = append(diffs, state.Differ("dev", linkName(h, found.VtepDevIndex), v.Parent))
	}
	if v.MTU > 0 {
		diffs = append(diffs, state.Differ("mtu", l.Attrs().MTU, v.MTU))
	}
	if v.MAC != nil && !bytes.Equal(l.Attrs().HardwareAddr, v.MAC) {
		diffs = append(diffs, state.Differ("address", l.Attrs().HardwareAddr.String(), v.MAC.String()))
	}
	return state.First(diffs...)
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	if a = a.Unmap(); a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func linkName(h *netlink.Handle, index int) string {
	if index == 0 {
		return ""
	}
	l, err := h.LinkByIndex(index)
	if err != nil {
		return ""
	}
	return l.Attrs().Name
}

// Apply implements state.Resource.
func (v VXLAN) Apply(context.Context) error {
	h, l, err := Find(netns.Host(), v.Name)
	if err == nil && l != nil {
		l, err = v.reuse(h, l)
	}
	if err == nil && l == nil {
		l, err = v.add(h)
	}
	if err != nil {
		return err
	}
	if l.Attrs().Alias != string(v.Mark) {
		if err := h.LinkSetAlias(l, string(v.Mark)); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
	}
	if isUp(l) {
		return nil
	}
	return h.LinkSetUp(l)
}

// reuse returns a device that is there and can stay; nil when it could not and
// was taken away.
func (v VXLAN) reuse(h *netlink.Handle, l netlink.Link) (netlink.Link, error) {
	diff := v.differs(h, l)
	switch alias := l.Attrs().Alias; {
	case alias == string(v.Mark) && diff == state.Same, alias == "" && diff == state.Same:
		return l, nil
	case alias == string(v.Mark):
		if err := h.LinkDel(l); err != nil && !gone(err) {
			return nil, err
		}
		return nil, nil
	}
	return nil, v.held(h, l)
}

func (v VXLAN) add(h *netlink.Handle) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = v.Name, v.MAC
	if attrs.MTU = v.MTU; v.MTU == 0 {
		attrs.MTU = -1
	}
	if v.Bridge != "" {
		_, bridge, err := MustFind(netns.Host(), v.Bridge)
		if err != nil {
			return nil, err
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: v.VNI, Port: v.Port, Learning: v.Learning, SrcAddr: v.Local.AsSlice(), Group: v.Group.AsSlice()}
	if v.Parent != "" {
		_, parent, err := MustFind(netns.Host(), v.Parent)
		if err != nil {
			return nil, err
		}
		dev.VtepDevIndex = parent.Attrs().Index
	}
	if err := h.LinkAdd(dev); err != nil && !exists(err) {
		return nil, err
	}
	l, err := h.LinkByName(v.Name)
	if notFound(err) {
		if err = v.holder(h); err == nil {
			err = fmt.Errorf("VNI %d, UDP port %d: %w, by a device that went meanwhile or that this namespace does not show", v.VNI, v.Port, state.ErrExists)
		}
		return nil, err
	}
	if err == nil {
		if diff := v.differs(h, l); diff != state.Same { // another was faster
			return nil, v.held(h, l)
		}
	}
	return l, err
}

// Vacant requires that nothing else has the device's name or its VNI, so that ADD
// has made nothing when it is refused. Only while there is no such device does it
// cost a listing of the host's links.
func (v VXLAN) Vacant() state.Resource { return vacant{v} }

type vacant struct{ VXLAN }

// Key implements state.Resource.
func (v vacant) Key() string { return "vacant " + v.VXLAN.Key() }

func (v vacant) String() string {
	return fmt.Sprintf("ip -d link show type vxlan # no other with id %d, dstport %d", v.VNI, v.Port)
}

// Observe implements state.Resource.
func (v vacant) Observe(context.Context) (state.Diff, error) {
	h, l, err := Find(netns.Host(), v.Name)
	switch {
	case err != nil:
		return state.Same, err
	case l == nil:
		return state.Same, v.holder(h)
	case l.Attrs().Alias == string(v.Mark), l.Attrs().Alias == "" && v.differs(h, l) == state.Same:
		return state.Same, nil
	}
	return state.Same, v.held(h, l)
}

// Apply and Remove have nothing to do.
func (v vacant) Apply(context.Context) error { return nil }

// Remove implements state.Resource.
func (v vacant) Remove(context.Context) error { return nil }

// holder finds who has the VNI: the kernel allows one device of a VNI, port and
// underlay family on a host.
func (v VXLAN) holder(h *netlink.Handle) error {
	links, err := RetryDump(h.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		if found, ok := l.(*netlink.Vxlan); ok && found.VxlanId == v.VNI && found.Port == v.Port && found.Name != v.Name {
			return v.held(h, l)
		}
	}
	return nil
}

func (v VXLAN) held(h *netlink.Handle, l netlink.Link) error {
	object := fmt.Sprintf("VNI %d, UDP port %d", v.VNI, v.Port)
	if found, ok := l.(*netlink.Vxlan); !ok || found.VxlanId != v.VNI || found.Port != v.Port {
		object = "link " + v.Name
	}
	holder := fmt.Sprintf("link %s, type %s", l.Attrs().Name, l.Type())
	if alias := l.Attrs().Alias; alias != "" {
		holder += ", of " + alias
	} else if diff := v.differs(h, l); diff != state.Same {
		holder += ", with " + string(diff)
	}
	return &state.HeldError{Object: object, Holder: owner.Mark(holder)}
}

// Remove implements state.Resource.
func (v VXLAN) Remove(context.Context) error {
	h, l, err := Find(netns.Host(), v.Name)
	if err != nil || l == nil {
		return err
	}
	if err := h.LinkDel(l); err != nil && !gone(err) {
		return err
	}
	return nil
}
