package link

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A PortVLAN is the VLANs of a bridge port. A new port is in the bridge's
// default VLAN; unless KeepDefault is set it leaves that one for Untagged.
type PortVLAN struct {
	Link        string
	Untagged    int // of frames without a tag
	Tagged      []int
	KeepDefault bool // frames of the default VLAN go out too, without a tag
}

// DefaultVLAN is the one that a new port is in.
const DefaultVLAN = 1

func (p PortVLAN) leavesDefault() bool { return !p.KeepDefault && p.Untagged != DefaultVLAN }

// Key implements engine.Resource.
func (p PortVLAN) Key() string { return "vlan " + p.Link }

func (p PortVLAN) String() string {
	s := ""
	if p.leavesDefault() {
		s = fmt.Sprintf("bridge vlan del dev %s vid %d ; ", p.Link, DefaultVLAN)
	}
	s += fmt.Sprintf("bridge vlan add dev %s vid %d pvid untagged", p.Link, p.Untagged)
	for _, id := range p.Tagged {
		s += fmt.Sprintf(" ; bridge vlan add dev %s vid %d", p.Link, id)
	}
	return s
}

func (p PortVLAN) want() map[int]uint16 {
	want := map[int]uint16{}
	for _, id := range p.Tagged {
		want[id] = 0
	}
	if p.KeepDefault {
		want[DefaultVLAN] = nl.BRIDGE_VLAN_INFO_UNTAGGED
	}
	want[p.Untagged] = nl.BRIDGE_VLAN_INFO_PVID | nl.BRIDGE_VLAN_INFO_UNTAGGED
	return want
}

// vlansOf returns the VLANs that a bridge or a port is in, with their flags.
func vlansOf(h *netlink.Handle, l netlink.Link) (map[int]uint16, error) {
	all, err := netns.Dump(h.BridgeVlanList)
	if err != nil {
		return nil, fmt.Errorf("bridge vlan: %w", err)
	}
	found := map[int]uint16{}
	for _, v := range all[int32(l.Attrs().Index)] {
		found[int(v.Vid)] = v.Flags & (nl.BRIDGE_VLAN_INFO_PVID | nl.BRIDGE_VLAN_INFO_UNTAGGED)
	}
	return found, nil
}

// Observe implements engine.Resource.
func (p PortVLAN) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), p.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	found, err := vlansOf(h, l)
	if err != nil {
		return engine.Same, err
	}
	return engine.Differ("vlans", show(found), show(p.want())), nil
}

func show(vlans map[int]uint16) string {
	var ids []int
	for id := range vlans {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	s := ""
	for _, id := range ids {
		s += fmt.Sprintf("%d/%d ", id, vlans[id])
	}
	return s
}

// Apply implements engine.Resource. It takes the port out of all other VLANs without
// reading which it is in, as that would be to list every port of the host.
func (p PortVLAN) Apply(context.Context) error {
	h, l, err := MustFind(netns.Host(), p.Link)
	if err != nil {
		return err
	}
	want := p.want()
	for id, flags := range want {
		pvid, untagged := flags&nl.BRIDGE_VLAN_INFO_PVID != 0, flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0
		if err := h.BridgeVlanAdd(l, uint16(id), pvid, untagged, false, true); err != nil {
			return fmt.Errorf("vlan %d: %w", id, err)
		}
	}
	next := 1
	for _, id := range append(slices.Sorted(maps.Keys(want)), maxVLAN+1) {
		if next < id {
			if err := h.BridgeVlanDelRange(l, uint16(next), uint16(id-1), false, false, false, true); err != nil && !Gone(err) {
				return fmt.Errorf("vlans %d to %d: %w", next, id-1, err)
			}
		}
		next = id + 1
	}
	return nil
}

// Remove has nothing to do: the VLANs go with the port.
func (p PortVLAN) Remove(context.Context) error { return nil }

// A BridgeVLAN is the host's own interface in one VLAN of a bridge: "cni0.100"
// on "cni0". It is made down.
type BridgeVLAN struct {
	Bridge string
	ID     int
}

// Name returns the name of the interface.
func (b BridgeVLAN) Name() string { return fmt.Sprintf("%s.%d", b.Bridge, b.ID) }

// Key implements engine.Resource.
func (b BridgeVLAN) Key() string { return "link " + b.Name() }

func (b BridgeVLAN) String() string {
	return fmt.Sprintf("bridge vlan add dev %s vid %d self ; ip link add %s link %s type vlan id %d", b.Bridge, b.ID, b.Name(), b.Bridge, b.ID)
}

// Observe implements engine.Resource.
func (b BridgeVLAN) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(netns.Host(), b.Name())
	if err != nil || l == nil {
		return engine.Absent, err
	}
	bridge, err := h.LinkByName(b.Bridge)
	if err != nil {
		return engine.Same, err
	}
	vlans, err := vlansOf(h, bridge)
	if err != nil {
		return engine.Same, err
	}
	_, member := vlans[b.ID]
	id := 0
	if v, ok := l.(*netlink.Vlan); ok {
		id = v.VlanId
	}
	return engine.First(
		engine.Differ("type", l.Type(), "vlan"),
		engine.Differ("parent's index", l.Attrs().ParentIndex, bridge.Attrs().Index),
		engine.Differ("id", id, b.ID),
		engine.Differ("the bridge's part in VLAN "+strconv.Itoa(b.ID), member, true)), nil
}

// Apply implements engine.Resource.
func (b BridgeVLAN) Apply(ctx context.Context) error {
	h, bridge, err := MustFind(netns.Host(), b.Bridge)
	if err != nil {
		return err
	}
	if err = h.BridgeVlanAdd(bridge, uint16(b.ID), false, false, true, false); err != nil && !exists(err) {
		return fmt.Errorf("bridge vlan: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = b.Name(), bridge.Attrs().Index
	err = h.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: b.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	if !exists(err) {
		return err
	}
	diff, err := b.Observe(ctx)
	if err == nil && diff != engine.Same {
		err = fmt.Errorf("there is another link of that name: %w", diff)
	}
	return err
}

// Remove implements engine.Resource.
func (b BridgeVLAN) Remove(context.Context) error {
	h, l, err := Find(netns.Host(), b.Name())
	if err != nil || l == nil {
		return err
	}
	return h.LinkDel(l)
}
