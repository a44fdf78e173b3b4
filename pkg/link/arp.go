package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// A Probe asks, before a container gets its IPv4 addresses, whether another
// machine of its network has one of them (RFC 5227, 2.1), or this host. The RFC
// asks three times in up to nine seconds; this asks once, and waits for as long as
// the user chose. It leaves nothing to observe. The error of an address that is
// taken wraps state.ErrDuplicate.
type Probe struct {
	NS    *netns.NS
	Link  string // through which to ask
	Addrs []netip.Addr
	Wait  time.Duration
}

// Key implements state.Resource.
func (p Probe) Key() string { return fmt.Sprintf("probe %s%s", p.NS, p.Link) }

func (p Probe) String() string {
	var commands []string
	for _, a := range p.Addrs {
		commands = append(commands, fmt.Sprintf("arping -D -c 1 -w %g -I %s %s", p.Wait.Seconds(), p.Link, a))
	}
	if path := p.NS.Path(); path != "" {
		return "nsenter --net=" + path + " " + strings.Join(commands, " ; ")
	}
	return strings.Join(commands, " ; ")
}

// Observe implements state.Resource.
func (p Probe) Observe(context.Context) (state.Diff, error) { return state.Same, nil }

// Apply implements state.Resource.
func (p Probe) Apply(ctx context.Context) error {
	if err := p.askHost(); err != nil {
		return err
	}
	line, err := openARP(p.NS, p.Link)
	if err != nil {
		return err
	}
	for _, a := range p.Addrs {
		if err = line.send(netip.IPv4Unspecified(), a); err != nil {
			return fmt.Errorf("probe %s: %w", a, err)
		}
	}
	addr, mac, err := line.claim(ctx, p.Addrs, p.Wait)
	if err == nil && mac != nil {
		err = fmt.Errorf("address %s %w by a machine whose hardware address is %s", addr, state.ErrDuplicate, mac)
	}
	return err
}

// askHost: the host does not hear what is said on links that stand on its own.
func (p Probe) askHost() error {
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	for _, a := range p.Addrs {
		routes, err := h.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return fmt.Errorf("address %s %w by this host", a, state.ErrDuplicate)
		}
	}
	return nil
}

// Remove has nothing to do.
func (p Probe) Remove(context.Context) error { return nil }

// An arpLine is a socket for the ARP packets of one link. It stays open until
// the process ends: closing a packet socket waits for a grace period of RCU.
type arpLine struct {
	fd  int
	to  *unix.SockaddrLinklayer
	mac net.HardwareAddr
}

func openARP(ns *netns.NS, link string) (*arpLine, error) {
	_, l, err := mustFind(ns, link)
	if err != nil {
		return nil, err
	}
	line := &arpLine{mac: l.Attrs().HardwareAddr, to: &unix.SockaddrLinklayer{
		Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: l.Attrs().Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255},
	}}
	err = ns.Do(func() (err error) {
		line.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = unix.Bind(line.fd, line.to)
	}
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", link, err)
	}
	return line, nil
}

func bigEndian(n uint16) uint16 { return n<<8 | n>>8 }

// The header of ARP for IPv4 on Ethernet (RFC 826), up to the operation.
var arpHeader = []byte{0, 1, 8, 0, 6, 4, 0}

const (
	arpRequest = 1
	arpLength  = 28
	breath     = 100 * time.Millisecond // after which a cancelled ADD is noticed
)

// send asks everybody for an address; the sender has the address from, or none
// yet.
func (a *arpLine) send(from, target netip.Addr) error {
	packet := append(bytes.Clone(arpHeader), arpRequest)
	packet = append(append(packet, a.mac...), from.AsSlice()...)
	packet = append(append(packet, make([]byte, 6)...), target.AsSlice()...)
	return unix.Sendto(a.fd, packet, 0, a.to)
}

// claim waits for somebody who has one of the addresses, or wants it too; the
// hardware address is nil if nobody came.
func (a *arpLine) claim(ctx context.Context, addrs []netip.Addr, within time.Duration) (netip.Addr, net.HardwareAddr, error) {
	var packet [arpLength]byte
	for end := time.Now().Add(within); ; {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return netip.Addr{}, nil, ctx.Err()
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}}, int(min(left, breath)/time.Millisecond)+1)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		var from unix.Sockaddr
		if err == nil {
			n, from, err = unix.Recvfrom(a.fd, packet[:], 0)
		}
		if err != nil {
			return netip.Addr{}, nil, fmt.Errorf("waiting for ARP: %w", err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING || n < arpLength {
			continue
		}
		if addr, mac := claimed(packet[:], addrs); mac != nil {
			return addr, mac, nil
		}
	}
}

// claimed reads who has, or also probes for, one of the addresses (RFC 5227,
// 2.1.1).
func claimed(packet []byte, addrs []netip.Addr) (netip.Addr, net.HardwareAddr) {
	if !bytes.HasPrefix(packet, arpHeader) {
		return netip.Addr{}, nil
	}
	mac, sender := net.HardwareAddr(bytes.Clone(packet[8:14])), netip.AddrFrom4([4]byte(packet[14:18]))
	target := netip.AddrFrom4([4]byte(packet[24:28]))
	probes := binary.BigEndian.Uint16(packet[6:]) == arpRequest && sender.IsUnspecified()
	for _, a := range addrs {
		if sender == a || probes && target == a {
			return a, mac
		}
	}
	return netip.Addr{}, nil
}
