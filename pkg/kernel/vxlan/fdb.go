package vxlan

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An FDB is a permanent entry in the forwarding database of a VXLAN device of
// the host: frames to MAC go to Dst in the underlay. Those to the address of
// zeros, for which MAC is nil, go to every Dst that there is an entry for: they
// are broadcasts, and whatever no other entry is about.
type FDB struct {
	Link string
	MAC  net.HardwareAddr
	Dst  netip.Addr
	Via  string // link of the underlay that a multicast Dst is reached by; not compared
}

var zeroMAC = make(net.HardwareAddr, 6)

func (f FDB) mac() net.HardwareAddr {
	if f.MAC == nil {
		return zeroMAC
	}
	return f.MAC
}

// Key implements engine.Resource.
func (f FDB) Key() string {
	if f.MAC == nil {
		return "fdb " + f.Link + " " + zeroMAC.String() + " " + f.Dst.String()
	}
	return "fdb " + f.Link + " " + f.MAC.String()
}

func (f FDB) String() string {
	verb := "replace"
	if f.MAC == nil {
		verb = "append"
	}
	return "bridge fdb " + verb + " " + f.mac().String() + " dev " + f.Link + " dst " + f.Dst.String()
}

// Observe implements engine.Resource.
func (f FDB) Observe(context.Context) (engine.Diff, error) {
	all, err := FDBs(f.Link)
	diff := engine.Absent
	for _, e := range all {
		if e.mac().String() == f.mac().String() {
			if diff = engine.Differ("dst", e.Dst, f.Dst); diff == engine.Same {
				return engine.Same, err
			}
		}
	}
	if f.MAC == nil {
		diff = engine.Absent // others stand beside it
	}
	return diff, err
}

// Apply implements engine.Resource.
func (f FDB) Apply(context.Context) error {
	h, entry, err := f.entry()
	if err != nil {
		return err
	}
	if f.MAC != nil {
		return h.NeighSet(entry)
	}
	if err := f.request(h, entry, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// request adds or deletes an entry with its link, which netlink.Neigh has not.
func (f FDB) request(h *netlink.Handle, entry *netlink.Neigh, kind, flags int) error {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.AddData(&netlink.Ndmsg{Family: uint8(entry.Family), Index: uint32(entry.LinkIndex), State: uint16(entry.State), Flags: uint8(entry.Flags)})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, f.Dst.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, entry.HardwareAddr))
	if f.Via != "" {
		via, err := h.LinkByName(f.Via)
		if err != nil {
			return err
		}
		req.AddData(nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(via.Attrs().Index))))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Remove implements engine.Resource.
func (f FDB) Remove(context.Context) error {
	h, entry, err := f.entry()
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.request(h, entry, unix.RTM_DELNEIGH, 0); err != nil && !link.Gone(err) {
		return err
	}
	return nil
}

func (f FDB) entry() (*netlink.Handle, *netlink.Neigh, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, nil, err
	}
	l, err := h.LinkByName(f.Link)
	if err != nil {
		return nil, nil, err
	}
	return h, &netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: f.Dst.AsSlice(), HardwareAddr: f.mac(),
	}, nil
}

// FDBs returns the permanent entries of a VXLAN device that lead somewhere. It
// costs what the device has: the kernel leaves out the entries of others.
func FDBs(device string) (out []FDB, err error) {
	_, l, err := link.Find(netns.Host(), device)
	if err != nil || l == nil {
		return nil, err
	}
	msgs, err := netns.Dump(func() ([][]byte, error) {
		// The kernel takes the link from an ifinfomsg here (rtnl_fdb_dump).
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		about := nl.NewIfInfomsg(unix.AF_BRIDGE)
		about.Index = int32(l.Attrs().Index)
		req.AddData(about)
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	})
	for _, m := range msgs {
		n, parseErr := netlink.NeighDeserialize(m)
		if parseErr != nil {
			return nil, parseErr
		}
		dst, ok := netip.AddrFromSlice(n.IP)
		if n.LinkIndex != l.Attrs().Index || n.State&netlink.NUD_PERMANENT == 0 || n.Flags&netlink.NTF_SELF == 0 || !ok {
			continue
		}
		e := FDB{Link: device, MAC: n.HardwareAddr, Dst: dst.Unmap()}
		if e.MAC.String() == zeroMAC.String() {
			e.MAC = nil
		}
		out = append(out, e)
	}
	return out, err
}

func notFound(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none)
}
