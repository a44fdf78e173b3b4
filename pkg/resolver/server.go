package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/zone"
)

// A server answers the queries of one container, at sockets inside its
// namespace.
type server struct {
	ns     *netns.NS
	inode  uint64
	scope  atomic.Pointer[scope]
	out    *forwarder
	udp    *net.UDPConn
	tcp    *net.TCPListener
	upSeat chan struct{} // queries that wait for other servers
	tcpSit chan struct{} // connections

	queries, refused atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// What one container can take of the resolver.
const (
	maxWaiting     = 256 // queries that other servers are asked about
	maxConnections = 32
	idle           = 10 * time.Second // of a connection between queries
	slow           = 3 * time.Second  // for one query or answer on a connection
	maxMessage     = 4096             // bytes of a query by TCP
)

// listen opens the sockets of a container. Queries wait there until start.
func listen(ns *netns.NS, out *forwarder) (*server, error) {
	s := &server{ns: ns, out: out, upSeat: make(chan struct{}, maxWaiting), tcpSit: make(chan struct{}, maxConnections)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	err := ns.Do(func() (err error) {
		c := net.ListenConfig{Control: freebind}
		c.SetMultipathTCP(false)
		udp, err := c.ListenPacket(s.ctx, "udp4", zone.Resolver+":0")
		if err != nil {
			return err
		}
		s.udp = udp.(*net.UDPConn)
		tcp, err := c.Listen(s.ctx, "tcp4", zone.Resolver+":0")
		if err != nil {
			return errors.Join(err, udp.Close())
		}
		s.tcp = tcp.(*net.TCPListener)
		return nil
	})
	if err == nil {
		s.inode, err = ns.Inode()
	}
	if err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// start begins to answer.
func (s *server) start() {
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
}

// freebind lets a socket have the address while lo is still down.
func freebind(_, _ string, c syscall.RawConn) error {
	var err error
	ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(err, ctlErr)
}

// ports returns where queries by UDP and TCP are to be led.
func (s *server) ports() (udp, tcp uint16) {
	return uint16(s.udp.LocalAddr().(*net.UDPAddr).Port), uint16(s.tcp.Addr().(*net.TCPAddr).Port)
}

// close ends the server, and returns when nothing of it runs any more.
func (s *server) close() {
	s.cancel()
	_ = s.udp.Close()
	_ = s.tcp.Close()
	s.wg.Wait()
	s.ns.Close()
}

func (s *server) serveUDP() {
	raw, err := s.udp.SyscallConn()
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
			b.send(fd, s.answerBatch(b, n))
		}
		return true
	})
}

func (s *server) answerBatch(b *batch, n int) (answers int) {
	sc := s.scope.Load()
	s.queries.Add(uint64(n))
	for i := range n {
		if b.in[i].Flags&unix.MSG_TRUNC != 0 {
			s.refused.Add(1)
			continue
		}
		query := b.query(i)
		answer, later := s.answer(sc, query, b.answers[answers][:0], 0)
		if later != nil {
			addr := addrOf(&b.addrs[i])
			s.wait(later, func(a []byte) { _, _ = s.udp.WriteToUDPAddrPort(a, addr) })
		}
		if len(answer) > 0 {
			b.stage(i, answers, answer)
			answers++
		}
	}
	return answers
}

func addrOf(a *unix.RawSockaddrInet4) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&a.Port))
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), binary.BigEndian.Uint16(port[:]))
}

// A pending is a query that other servers are to be asked about.
type pending struct {
	question
	scope *scope
	limit int
}

// answer appends the answer to a query to b, if it is known; otherwise it returns
// what to ask. limit is the size of an answer that the client takes, 0 for what
// the query says.
func (s *server) answer(sc *scope, query, b []byte, limit int) (answer []byte, later *pending) {
	var q question
	rcode, ok := q.read(query)
	switch {
	case !ok:
		s.refused.Add(1)
		return nil, nil
	case rcode != dns.RcodeSuccess:
		s.refused.Add(1)
		return q.refuse(b, rcode), nil
	case q.qclass != dns.ClassINET || q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		return q.refuse(b, dns.RcodeRefused), nil
	}
	if limit == 0 {
		limit = q.size
	}
	if a := sc.Answer(q.text(), q.qtype); a.Known {
		return q.local(b, a, limit), nil
	}
	if !sc.forwards {
		return q.refuse(b, dns.RcodeNameError), nil
	}
	if a := s.out.cached(sc, &q, b, limit); a != nil {
		return a, nil
	}
	q.name = append([]byte(nil), q.name...) // the buffer is used again
	return nil, &pending{q, sc, limit}
}

// wait asks other servers, and gives the answer to reply, on a goroutine of its
// own. A container that waits for too many is told so at once.
func (s *server) wait(p *pending, reply func([]byte)) {
	select {
	case s.upSeat <- struct{}{}:
	default:
		s.refused.Add(1)
		reply(p.refuse(nil, dns.RcodeServerFailure))
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.upSeat }()
		reply(s.out.ask(s.ctx, s.ns, p))
	})
}

func (s *server) serveTCP() {
	for {
		c, err := s.tcp.AcceptTCP()
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
		case s.tcpSit <- struct{}{}:
			s.wg.Go(func() {
				defer func() { _ = c.Close(); <-s.tcpSit }()
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
