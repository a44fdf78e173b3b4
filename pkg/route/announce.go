package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/j-keck/arping"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// An Announce tells the neighbours of a link who has an address now, so that
// they forget who had it before: gratuitous ARP (RFC 5227, 3) or an unsolicited
// neighbour advertisement (RFC 4861, 7.2.6). It leaves nothing to observe.
type Announce struct {
	NS   *netns.NS
	Link string
	Addr netip.Addr
}

// Key implements state.Resource.
func (a Announce) Key() string { return fmt.Sprintf("announce %s%s %s", a.NS, a.Link, a.Addr) }

func (a Announce) String() string {
	if a.Addr.Is4() {
		return fmt.Sprintf("ip netns exec %s arping -U -c 1 -I %s %s", a.NS.Path(), a.Link, a.Addr)
	}
	return fmt.Sprintf("ip netns exec %s ndsend %s %s", a.NS.Path(), a.Addr, a.Link)
}

// Observe implements state.Resource.
func (a Announce) Observe(context.Context) (state.Diff, error) { return state.Same, nil }

// Apply implements state.Resource. A link that cannot send just yet (down, or
// without a carrier) is no reason to fail: neighbours then ask.
func (a Announce) Apply(context.Context) error {
	err := a.NS.Do(func() error {
		i, err := net.InterfaceByName(a.Link)
		if err != nil {
			return err
		}
		if a.Addr.Is4() {
			return arping.GratuitousArpOverIface(a.Addr.AsSlice(), *i)
		}
		return advertise(i, a.Addr)
	})
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

// Remove implements state.Resource.
func (a Announce) Remove(context.Context) error { return nil }

// advertise sends a neighbour advertisement with the override flag to all
// nodes. The kernel adds the checksum (RFC 3542, 3.1).
func advertise(i *net.Interface, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("icmpv6 socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	const hops = 255 // or receivers drop it (RFC 4861, 7.1.2)
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops),
		unix.Bind(fd, &unix.SockaddrInet6{Addr: addr.As16()}),
	); err != nil {
		return err
	}
	const advertisement, override, targetLinkLayer = 136, 0x20, 2
	msg := []byte{advertisement, 0, 0, 0, override, 0, 0, 0}
	msg = append(msg, addr.AsSlice()...)
	msg = append(msg, targetLinkLayer, 1)
	msg = append(msg, i.HardwareAddr...)
	allNodes := netip.IPv6LinkLocalAllNodes().As16()
	return unix.Sendto(fd, msg, 0, &unix.SockaddrInet6{Addr: allNodes, ZoneId: uint32(i.Index)})
}
