package dad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A protocol is how the machines on a link find one another by the addresses of
// one family. Its packets begin with the header of the network layer.
type protocol struct {
	is6       bool
	etherType uint16
	filter    []unix.SockFilter // of the packets that claims can read; nil for all
	answers   net.HardwareAddr  // the group that is told who has an address; nil for whoever asked
	// question asks who has an address, without having one yet.
	question func(mac net.HardwareAddr, target netip.Addr) message
	// claims reads which address the sender of a packet has, or probes for.
	claims func(packet []byte, from net.HardwareAddr) (claim, bool)
}

// A message is a packet, and the hardware address that it goes to.
type message struct {
	packet []byte
	to     net.HardwareAddr
}

// A claim is an address that a machine has; or wants, if it is a probe.
type claim struct {
	addr  netip.Addr
	mac   net.HardwareAddr
	probe bool
}

// A line is a socket for the packets of one protocol on one link. It stays open
// until the process ends: closing a packet socket waits for a grace period of
// RCU.
type line struct {
	protocol
	fd    int
	index int
	mac   net.HardwareAddr // the link's
}

func openLines(ns *netns.NS, name string, protocols ...protocol) (lines []*line, err error) {
	_, l, err := link.MustFind(ns, name)
	if err != nil {
		return nil, err
	}
	for _, p := range protocols {
		lines = append(lines, &line{protocol: p, index: l.Attrs().Index, mac: l.Attrs().HardwareAddr})
	}
	err = ns.Do(func() (err error) {
		for _, l := range lines {
			err = errors.Join(err, l.open())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return lines, nil
}

// open: nothing comes in before the socket is bound to its link.
func (l *line) open() (err error) {
	l.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil && l.filter != nil {
		program := unix.SockFprog{Len: uint16(len(l.filter)), Filter: &l.filter[0]}
		err = unix.SetsockoptSockFprog(l.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}
	if err == nil && l.answers != nil {
		err = l.join(l.answers)
	}
	if err == nil {
		err = unix.Bind(l.fd, l.address(nil))
	}
	return err
}

// join lets frames to a group in, whatever the link's own addresses.
func (l *line) join(group net.HardwareAddr) error {
	m := unix.PacketMreq{Ifindex: int32(l.index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(group))}
	copy(m.Address[:], group)
	return unix.SetsockoptPacketMreq(l.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m)
}

func (l *line) address(to net.HardwareAddr) *unix.SockaddrLinklayer {
	sa := &unix.SockaddrLinklayer{Protocol: l.etherType<<8 | l.etherType>>8, Ifindex: l.index, Halen: uint8(len(to))}
	copy(sa.Addr[:], to)
	return sa
}

// send sends a message. If it goes to a group, what others say to that group is
// heard from now on: who probes for the same address.
func (l *line) send(m message) error {
	if l.answers != nil {
		if err := l.join(m.to); err != nil {
			return err
		}
	}
	return unix.Sendto(l.fd, m.packet, 0, l.address(m.to))
}

// breath is the time after which it is noticed that an ADD was cancelled.
const breath = 100 * time.Millisecond

// listen waits for a claim to an address of ours; it is nil if none came.
func listen(ctx context.Context, lines []*line, within time.Duration, ours func(claim) bool) (*claim, error) {
	fds := make([]unix.PollFd, len(lines))
	for i, l := range lines {
		fds[i] = unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN}
	}
	for end := time.Now().Add(within); ; {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, err := unix.Poll(fds, int(min(left, breath)/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("waiting for answers: %w", err)
		}
		for i, l := range lines {
			if fds[i].Revents == 0 {
				continue
			}
			if c, ok, err := l.hear(); err != nil || ok && ours(c) {
				return &c, err
			}
		}
	}
}

const longest = 1500 // of the packets that are read whole; none of them comes near

// hear reads a packet, and whether it is a claim. One of our own, which a switch
// may send back, is not.
func (l *line) hear() (c claim, ok bool, err error) {
	var packet [longest]byte
	n, from, err := unix.Recvfrom(l.fd, packet[:], unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("waiting for answers: %w", err)
	}
	ll, isLink := from.(*unix.SockaddrLinklayer)
	if !isLink || ll.Pkttype == unix.PACKET_OUTGOING {
		return c, false, nil
	}
	c, ok = l.claims(packet[:n], net.HardwareAddr(ll.Addr[:ll.Halen]))
	if c.probe && bytes.Equal(c.mac, l.mac) {
		ok = false
	}
	return c, ok, nil
}
