package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Neighbors tells a link that addresses are behind a peer, for good, so that
// neither asks for the other. On a line that the host and its containers share
// with others, asking would do harm: the host would say that its address is
// that of the link by which it talks to containers, and everybody would believe
// it (RFC 826, "Packet Reception").
type Neighbors struct {
	NS     *netns.NS
	Link   string
	PeerNS *netns.NS
	Peer   string // the link whose hardware address it is
	Addrs  []netip.Addr
	// HostOf is an attachment instead: the addresses are those of the host that
	// its Use has found on the parent.
	HostOf owner.Mark
}

// Key implements engine.Resource.
func (n Neighbors) Key() string { return fmt.Sprintf("neighbors %s%s", n.NS, n.Link) }

func (n Neighbors) String() string {
	var commands []string
	for _, a := range n.Addrs {
		commands = append(commands, n.command(a.String()))
	}
	if n.HostOf != "" {
		commands = append(commands, n.command("$HOST"))
	}
	return strings.Join(commands, " ; ")
}

func (n Neighbors) command(addr string) string {
	return fmt.Sprintf("ip %sneigh replace %s lladdr $(ip %slink show %s) dev %s nud permanent", n.NS, addr, n.PeerNS, n.Peer, n.Link)
}

// Observe implements engine.Resource.
func (n Neighbors) Observe(context.Context) (engine.Diff, error) {
	h, l, err := Find(n.NS, n.Link)
	if err != nil || l == nil {
		return engine.Absent, err
	}
	mac, addrs, err := n.read()
	if err != nil {
		return engine.Same, err
	}
	list, err := netns.Dump(func() ([]netlink.Neigh, error) { return h.NeighList(l.Attrs().Index, 0) })
	if err != nil {
		return engine.Same, err
	}
	found := map[netip.Addr]net.HardwareAddr{}
	for _, entry := range list {
		if addr, ok := netip.AddrFromSlice(entry.IP); ok && entry.State == netlink.NUD_PERMANENT {
			found[addr.Unmap()] = entry.HardwareAddr
		}
	}
	for _, a := range addrs {
		if !bytes.Equal(found[a], mac) {
			return engine.Differ("neighbor "+a.String(), found[a].String(), mac.String()), nil
		}
	}
	return engine.Same, nil
}

// Apply implements engine.Resource.
func (n Neighbors) Apply(context.Context) error {
	h, l, err := MustFind(n.NS, n.Link)
	if err != nil {
		return err
	}
	mac, addrs, err := n.read()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		entry := &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
		if err := h.NeighSet(entry); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return nil
}

// read looks up the peer's hardware address, and the addresses.
func (n Neighbors) read() (net.HardwareAddr, []netip.Addr, error) {
	_, peer, err := MustFind(n.PeerNS, n.Peer)
	if err != nil || n.HostOf == "" {
		return peerAddress(peer), n.Addrs, err
	}
	r, _, err := read(n.HostOf)
	var addrs []netip.Addr
	for _, text := range r.host {
		if addr, failed := netip.ParseAddr(text); failed == nil {
			addrs = append(addrs, addr)
		}
	}
	return peerAddress(peer), addrs, err
}

// hostAddrs are the addresses by which a link of the host is reached. Temporary
// ones (RFC 8981) are for going out.
func hostAddrs(name string) (addrs []string, err error) {
	h, l, err := Find(netns.Host(), name)
	if err != nil || l == nil {
		return nil, err
	}
	list, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_ALL) })
	for _, found := range list {
		addr, ok := netip.AddrFromSlice(found.IP)
		addr = addr.Unmap()
		if ok && found.Scope == int(netlink.SCOPE_UNIVERSE) && (addr.Is4() || found.Flags&unix.IFA_F_TEMPORARY == 0) {
			addrs = append(addrs, addr.String())
		}
	}
	const most = 64 // the record has 4095 bytes
	return addrs[:min(len(addrs), most)], err
}

func peerAddress(l netlink.Link) net.HardwareAddr {
	if l == nil {
		return nil
	}
	return l.Attrs().HardwareAddr
}

// Remove implements engine.Resource. What Addrs does not name goes with the link.
func (n Neighbors) Remove(context.Context) error {
	h, l, err := Find(n.NS, n.Link)
	if err != nil || l == nil {
		return err
	}
	var errs []error
	for _, a := range n.Addrs {
		if err := h.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice()}); err != nil && !Gone(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
