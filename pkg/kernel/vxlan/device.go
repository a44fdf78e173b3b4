// Package vxlan is the host's end of an overlay network's tunnels as resources: the
// device, and where in the underlay its frames go.
package vxlan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Device is the host's end of the tunnels of one network (RFC 7348): a device
// of the host, up, which carries the network's mark as its alias.
//
// One without a mark that is as wanted is adopted. One of the same mark that
// differs is made anew. Any other is refused: Apply returns a engine.HeldError
// that names the holder.
type Device struct {
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

// MarkOf is the mark of a network's device, which is no attachment's. No network is
// called "*".
func MarkOf(network string) owner.Mark {
	return owner.Key{Network: "*", ContainerID: network, IfName: "overlay"}.Mark()
}

// Key implements engine.Resource.
func (d Device) Key() string { return "link " + d.Name }

func (d Device) String() string {
	s := "ip link add " + d.Name
	if d.MAC != nil {
		s += " address " + d.MAC.String()
	}
	if d.MTU > 0 {
		s += fmt.Sprintf(" mtu %d", d.MTU)
	}
	if d.Bridge != "" {
		s += " master " + d.Bridge
	}
	s += fmt.Sprintf(" type vxlan id %d dstport %d", d.VNI, d.Port)
	if d.Local.IsValid() {
		s += " local " + d.Local.String()
	}
	if d.Group.IsValid() {
		s += fmt.Sprintf(" group %s dev %s", d.Group, d.Parent)
	}
	if !d.Learning {
		s += " nolearning"
	}
	return s + fmt.Sprintf(" ; ip link set %s alias %s up", d.Name, d.Mark)
}

// Observe implements engine.Resource.
func (d Device) Observe(context.Context) (engine.Diff, error) {
	h, l, err := link.Find(netns.Host(), d.Name)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	return engine.First(d.differs(h, l), engine.Differ("alias", l.Attrs().Alias, string(d.Mark)), engine.Differ("state", link.State(l), "up")), nil
}

// differs compares what a device is made with.
func (d Device) differs(h *netlink.Handle, l netlink.Link) engine.Diff {
	found, ok := l.(*netlink.Vxlan)
	if !ok {
		return engine.Differ("type", l.Type(), "vxlan")
	}
	diffs := []engine.Diff{
		engine.Differ("id", found.VxlanId, d.VNI),
		engine.Differ("dstport", found.Port, d.Port),
		engine.Differ("local", address(found.SrcAddr), d.Local),
		engine.Differ("group", address(found.Group), d.Group),
		engine.Differ("learning", found.Learning, d.Learning),
		engine.Differ("master", linkName(h, l.Attrs().MasterIndex), d.Bridge),
	}
	if d.Parent != "" {
		diffs = append(diffs, engine.Differ("dev", linkName(h, found.VtepDevIndex), d.Parent))
	}
	if d.MTU > 0 {
		diffs = append(diffs, engine.Differ("mtu", l.Attrs().MTU, d.MTU))
	}
	if d.MAC != nil && !bytes.Equal(l.Attrs().HardwareAddr, d.MAC) {
		diffs = append(diffs, engine.Differ("address", l.Attrs().HardwareAddr.String(), d.MAC.String()))
	}
	return engine.First(diffs...)
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

// Apply implements engine.Resource.
func (d Device) Apply(context.Context) error {
	h, l, err := link.Find(netns.Host(), d.Name)
	if err == nil && l != nil {
		l, err = d.reuse(h, l)
	}
	if err == nil && l == nil {
		l, err = d.add(h)
	}
	if err != nil {
		return err
	}
	if l.Attrs().Alias != string(d.Mark) {
		if err := h.LinkSetAlias(l, string(d.Mark)); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
	}
	if link.State(l) == "up" {
		return nil
	}
	return h.LinkSetUp(l)
}

// reuse returns a device that is there and can stay; nil when it could not and
// was taken away.
func (d Device) reuse(h *netlink.Handle, l netlink.Link) (netlink.Link, error) {
	diff := d.differs(h, l)
	switch alias := l.Attrs().Alias; {
	case alias == string(d.Mark) && diff == engine.Same, alias == "" && diff == engine.Same:
		return l, nil
	case alias == string(d.Mark):
		if err := h.LinkDel(l); err != nil && !link.Gone(err) {
			return nil, err
		}
		return nil, nil
	}
	return nil, d.held(h, l)
}

func (d Device) add(h *netlink.Handle) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = d.Name, d.MAC
	if attrs.MTU = d.MTU; d.MTU == 0 {
		attrs.MTU = -1
	}
	if d.Bridge != "" {
		_, bridge, err := link.MustFind(netns.Host(), d.Bridge)
		if err != nil {
			return nil, err
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: d.VNI, Port: d.Port, Learning: d.Learning, SrcAddr: d.Local.AsSlice(), Group: d.Group.AsSlice()}
	if d.Parent != "" {
		_, parent, err := link.MustFind(netns.Host(), d.Parent)
		if err != nil {
			return nil, err
		}
		dev.VtepDevIndex = parent.Attrs().Index
	}
	if err := h.LinkAdd(dev); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	l, err := h.LinkByName(d.Name)
	if notFound(err) {
		if err = d.holder(h); err == nil {
			err = fmt.Errorf("VNI %d, UDP port %d: %w, by a device that went meanwhile or that this namespace does not show", d.VNI, d.Port, engine.ErrExists)
		}
		return nil, err
	}
	if err == nil {
		if diff := d.differs(h, l); diff != engine.Same { // another was faster
			return nil, d.held(h, l)
		}
	}
	return l, err
}

// Vacant requires that nothing else has the device's name or its VNI, so that ADD
// has made nothing when it is refused. Only while there is no such device does it
// cost a listing of the host's links.
func (d Device) Vacant() engine.Resource { return vacant{d} }

type vacant struct{ Device }

// Key implements engine.Resource.
func (v vacant) Key() string { return "vacant " + v.Device.Key() }

func (v vacant) String() string {
	return fmt.Sprintf("ip -d link show type vxlan # no other with id %d, dstport %d", v.VNI, v.Port)
}

// Observe implements engine.Resource.
func (v vacant) Observe(context.Context) (engine.Diff, error) {
	h, l, err := link.Find(netns.Host(), v.Name)
	switch {
	case err != nil:
		return engine.Same, err
	case l == nil:
		return engine.Same, v.holder(h)
	case l.Attrs().Alias == string(v.Mark), l.Attrs().Alias == "" && v.differs(h, l) == engine.Same:
		return engine.Same, nil
	}
	return engine.Same, v.held(h, l)
}

// Apply and Remove have nothing to do.
func (v vacant) Apply(context.Context) error { return nil }

// Remove implements engine.Resource.
func (v vacant) Remove(context.Context) error { return nil }

// holder finds who has the VNI: the kernel allows one device of a VNI, port and
// underlay family on a host.
func (d Device) holder(h *netlink.Handle) error {
	links, err := netns.Dump(h.LinkList)
	if err != nil {
		return err
	}
	for _, l := range links {
		if found, ok := l.(*netlink.Vxlan); ok && found.VxlanId == d.VNI && found.Port == d.Port && found.Name != d.Name {
			return d.held(h, l)
		}
	}
	return nil
}

func (d Device) held(h *netlink.Handle, l netlink.Link) error {
	object := fmt.Sprintf("VNI %d, UDP port %d", d.VNI, d.Port)
	if found, ok := l.(*netlink.Vxlan); !ok || found.VxlanId != d.VNI || found.Port != d.Port {
		object = "link " + d.Name
	}
	holder := fmt.Sprintf("link %s, type %s", l.Attrs().Name, l.Type())
	if alias := l.Attrs().Alias; alias != "" {
		holder += ", of " + alias
	} else if diff := d.differs(h, l); diff != engine.Same {
		holder += ", with " + string(diff)
	}
	return &engine.HeldError{Object: object, Holder: holder}
}

// Remove implements engine.Resource.
func (d Device) Remove(context.Context) error {
	h, l, err := link.Find(netns.Host(), d.Name)
	if err != nil || l == nil {
		return err
	}
	if err := h.LinkDel(l); err != nil && !link.Gone(err) {
		return err
	}
	return nil
}
