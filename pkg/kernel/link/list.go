package link

import (
	"net"
	"net/netip"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Listed is what one listing of the host's links tells of a link.
type Listed struct {
	Name, Kind, Alias string
	Master            string // the bridge that it is a port of
	Up                bool
	MTU               int
	MAC               net.HardwareAddr
	RxBytes, TxBytes  uint64 // as the host counts: a container's the other way round
}

// List reads all links of the host in one dump.
func List() ([]Listed, error) {
	h, err := netns.Host().Netlink()
	if err != nil {
		return nil, err
	}
	links, err := netns.Dump(h.LinkList)
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	out := make([]Listed, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		one := Listed{
			Name: a.Name, Kind: l.Type(), Alias: a.Alias, Master: names[a.MasterIndex],
			Up: isUp(l), MTU: a.MTU, MAC: a.HardwareAddr,
		}
		if a.Statistics != nil {
			one.RxBytes, one.TxBytes = a.Statistics.RxBytes, a.Statistics.TxBytes
		}
		out = append(out, one)
	}
	return out, nil
}

// A Placed is the record of an attachment whose link stands on a link of the host.
type Placed struct {
	Mark   owner.Mark
	Parent string       // the link of the host
	Addrs  []netip.Addr // those that the host has a route to, if any
	Alive  bool         // its namespace is there, or may be
}

// Placements reads the records of all child interfaces. One that cannot be read
// says no more than its name.
func Placements() ([]Placed, error) {
	entries, err := os.ReadDir(usersDir)
	if err = ignoreMissing(err); err != nil {
		return nil, err
	}
	var out []Placed
	for _, e := range entries {
		m := markOf(e.Name())
		if !m.Valid() {
			continue
		}
		p := Placed{Mark: m, Alive: lives(m)}
		if parent, err := ParentOf(m); err == nil {
			p.Parent = parent
		}
		if r, found, err := read(m); err == nil && found {
			for _, text := range r.addrs {
				if a, err := netip.ParseAddr(text); err == nil {
					p.Addrs = append(p.Addrs, a)
				}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// DeleteByAlias deletes the link of that name, if its alias is the one given, and
// reports whether there was one.
func DeleteByAlias(name string, alias owner.Mark) (bool, error) {
	h, l, err := Find(netns.Host(), name)
	if err != nil || l == nil || l.Attrs().Alias != string(alias) {
		return false, err
	}
	if err := h.LinkDel(l); err != nil && !Gone(err) {
		return false, err
	}
	return true, nil
}

// Names lists the links of a namespace.
func Names(ns *netns.NS) ([]string, error) {
	h, err := ns.Netlink()
	if err != nil {
		return nil, err
	}
	links, err := netns.Dump(h.LinkList)
	var out []string
	for _, l := range links {
		out = append(out, l.Attrs().Name)
	}
	return out, err
}

// SetIsolated isolates a bridge port from other isolated ones, or not. Without the
// port there is nothing to do.
func SetIsolated(port string, on bool) error {
	h, l, err := Find(netns.Host(), port)
	if err != nil || l == nil {
		return err
	}
	return h.LinkSetIsolated(l, on)
}
