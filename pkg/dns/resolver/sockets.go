package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// sockets are where a server answers the queries of one family, at ports that
// were free.
type sockets struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

const (
	idle       = 10 * time.Second // of a connection between queries
	slow       = 3 * time.Second  // for one query or answer on a connection
	maxMessage = 4096             // bytes of a query by TCP
)

// listen opens sockets at an address of the loopback of this thread's namespace.
func listen(ctx context.Context, addr netip.Addr) (*sockets, error) {
	family := "4"
	if addr.Is6() {
		family = "6"
	}
	at := netip.AddrPortFrom(addr, 0).String()
	c := net.ListenConfig{Control: freebind}
	c.SetMultipathTCP(false)
	udp, err := c.ListenPacket(ctx, "udp"+family, at)
	if err != nil {
		return nil, err
	}
	tcp, err := c.Listen(ctx, "tcp"+family, at)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	return &sockets{udp.(*net.UDPConn), tcp.(*net.TCPListener)}, nil
}

// freebind lets a socket have an address that the loopback does not have, yet
// or at all.
func freebind(network, _ string, c syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if network[len(network)-1] == '6' {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	var err error
	ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, ctlErr)
}

// noFamily reports whether err is that of a kernel without IPv6.
func noFamily(err error) bool { return errors.Is(err, unix.EAFNOSUPPORT) }

// ports returns where queries by UDP and TCP are to be led.
func (k *sockets) ports() nft.Sockets {
	udp := k.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return nft.Sockets{Addr: udp.Addr().Unmap(), UDP: udp.Port(), TCP: uint16(k.tcp.Addr().(*net.TCPAddr).Port)}
}

func (k *sockets) close() {
	_ = k.udp.Close()
	_ = k.tcp.Close()
}

func (s *server) serveUDP(k *sockets) {
	raw, err := k.udp.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Read(func(fd uintptr) bool { // until the socket is closed
		b := batches.Get().(*batch)
		defer batches.Put(b)
		for s.ctx.Err() == nil {
			n := b.receive(fd)
			if n == 0 {
				return false
			}
			s.answerBatch(k, b, n)
			b.send(fd)
		}
		return true
	})
}

func (s *server) answerBatch(k *sockets, b *batch, n int) {
	sc := s.scope.Load()
	s.queries.Add(uint64(n))
	for i := range n {
		if b.in[i].Flags&unix.MSG_TRUNC != 0 {
			s.refused.Add(1)
			continue
		}
		query := b.query(i)
		answer, later := s.answer(sc, query, b.room(), 0)
		if later != nil {
			addr := b.addr(i)
			s.wait(later, func(a []byte) { _, _ = k.udp.WriteToUDPAddrPort(a, addr) })
		}
		if len(answer) > 0 {
			b.stage(i, answer)
		}
	}
}

func (s *server) serveTCP(k *sockets) {
	for {
		c, err := k.tcp.AcceptTCP()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors: others may close some
			case <-time.After(100 * time.Millisecond):
			case <-s.ctx.Done():
			}
			continue
		}
		select {
		case s.connectionSem <- struct{}{}:
			s.wg.Go(func() {
				defer func() { _ = c.Close(); <-s.connectionSem }()
				stop := context.AfterFunc(s.ctx, func() { _ = c.Close() })
				defer stop()
				s.converse(c)
			})
		default:
			s.refused.Add(1)
			_ = c.Close()
		}
	}
}

// converse answers the queries of one connection, one after the other (RFC 7766).
func (s *server) converse(c *net.TCPConn) {
	var length [2]byte
	var query, out []byte
	for {
		_ = c.SetDeadline(time.Now().Add(idle))
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n > maxMessage {
			s.refused.Add(1)
			return
		}
		query = append(query[:0], make([]byte, n)...)
		_ = c.SetDeadline(time.Now().Add(slow))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		s.queries.Add(1)
		answer, later := s.answer(s.scope.Load(), query, nil, dns.MaxMsgSize)
		if later != nil {
			done := make(chan []byte, 1)
			s.wait(later, func(a []byte) { done <- a })
			answer = <-done
		}
		if answer == nil {
			return
		}
		out = append(binary.BigEndian.AppendUint16(out[:0], uint16(len(answer))), answer...)
		_ = c.SetDeadline(time.Now().Add(slow))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
