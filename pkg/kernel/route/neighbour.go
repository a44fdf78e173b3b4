package route

import (
	"context"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Neighbour is a permanent neighbour entry of the host: an IP address on a
// link has this hardware address, without anybody being asked.
type Neighbour struct {
	Link string
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Key implements engine.Resource.
func (n Neighbour) Key() string { return "neigh " + n.Addr.String() + " " + n.Link }

func (n Neighbour) String() string {
	return "ip neigh replace " + n.Addr.String() + " lladdr " + n.MAC.String() + " dev " + n.Link
}

// Observe implements engine.Resource.
func (n Neighbour) Observe(context.Context) (engine.Diff, error) {
	all, err := Neighbours(n.Link)
	for _, found := range all {
		if found.Addr == n.Addr {
			return engine.Differ("lladdr", found.MAC.String(), n.MAC.String()), err
		}
	}
	return engine.Absent, err
}

// Apply implements engine.Resource.
func (n Neighbour) Apply(context.Context) error {
	h, entry, err := n.entry()
	if err != nil {
		return err
	}
	return h.NeighSet(entry)
}

// Remove implements engine.Resource.
func (n Neighbour) Remove(context.Context) error {
	h, entry, err := n.entry()
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return ignore(h.NeighDel(entry), unix.ENOENT)
}

func (n Neighbour) entry() (*netlink.Handle, *netlink.Neigh, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, nil, err
	}
	l, err := h.LinkByName(n.Link)
	if err != nil {
		return nil, nil, err
	}
	return h, &netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: family(n.Addr), State: netlink.NUD_PERMANENT,
		IP: n.Addr.AsSlice(), HardwareAddr: n.MAC,
	}, nil
}

// Neighbours returns the permanent entries of a link. It costs what the link
// has: the kernel leaves out the entries of others (NDA_IFINDEX).
func Neighbours(link string) (out []Neighbour, err error) {
	_, index, err := onHost(link)
	if err != nil || index == 0 {
		return nil, err
	}
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := netns.Dump(func() ([][]byte, error) {
			req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
			req.AddData(&netlink.Ndmsg{Family: fam})
			req.AddData(nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(index))))
			return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
		})
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			n, err := netlink.NeighDeserialize(m)
			if err != nil {
				return nil, err
			}
			if n.LinkIndex != index || n.State&netlink.NUD_PERMANENT == 0 {
				continue
			}
			a, _ := netip.AddrFromSlice(n.IP)
			out = append(out, Neighbour{Link: link, Addr: a.Unmap(), MAC: n.HardwareAddr})
		}
	}
	return out, nil
}
