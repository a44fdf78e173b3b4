package resolver

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A batch is the queries that one system call receives, and the answers that
// one sends. Under load that is what most of the time would go into otherwise.
// The clients' addresses go from the one to the other as the kernel wrote them.
//
// Answers of one size to one client go through the kernel as one packet, which is
// taken apart where the client receives (UDP_SEGMENT in udp(7), since Linux 4.18).
type batch struct {
	in, out       [batchSize]header
	inVec, outVec [batchSize]unix.Iovec
	segments      [batchSize]segment
	staged        []reply
	addrs         [batchSize]unix.RawSockaddrInet6 // or of IPv4, which is shorter
	queries       [batchSize][maxQuery]byte
	answers       [batchSize][maxSize]byte
}

const (
	batchSize = 32
	maxQuery  = 1500 // larger ones by UDP are cut, and refused
)

// A reply is an answer, and to which query.
type reply struct {
	to     int
	answer []byte
	sent   bool
}

// A segment is the control message that tells the size of each datagram.
type segment struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// A header is the kernel's struct mmsghdr (recvmmsg(2)).
type header struct {
	unix.Msghdr
	n uint32
}

var batches = sync.Pool{New: func() any { return newBatch() }}

func newBatch() *batch {
	b := &batch{}
	for i := range b.in {
		b.inVec[i].Base = &b.queries[i][0]
		b.inVec[i].SetLen(maxQuery)
		b.in[i].Iov = &b.inVec[i]
		b.in[i].SetIovlen(1)
		b.in[i].Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
		b.segments[i].Level, b.segments[i].Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		b.segments[i].SetLen(unix.CmsgLen(2))
	}
	return b
}

// receive returns how many queries were there, none if the socket is empty or
// closed.
func (b *batch) receive(fd uintptr) int {
	for i := range b.in {
		b.in[i].Namelen = uint32(unsafe.Sizeof(b.addrs[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR:
		default:
			return 0
		}
	}
}

// addr is the client of query i.
func (b *batch) addr(i int) netip.AddrPort {
	a := &b.addrs[i] // the port stands at the same place in both families
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:])
	if a.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(a)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), port)
}

func (b *batch) query(i int) []byte { return b.queries[i][:min(b.in[i].n, maxQuery)] }

// stage adds the answer to query i to those to send.
func (b *batch) stage(i int, answer []byte) {
	b.staged = append(b.staged, reply{to: i, answer: answer})
}

// room is where the next answer may be written.
func (b *batch) room() []byte { return b.answers[len(b.staged)][:0] }

// send sends what is staged. What the kernel does not take is lost, as datagrams
// may be: the clients ask again.
func (b *batch) send(fd uintptr) {
	n := b.pack()
	for sent := 0; sent < n; {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[sent])), uintptr(n-sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			n = 0
		case errno != 0:
			b.apart(fd, &b.out[sent])
			sent++ // that client cannot be answered; the others can
		default:
			sent += int(k)
		}
	}
	b.staged = b.staged[:0]
}

// pack puts the answers into messages, and returns how many.
func (b *batch) pack() (messages int) {
	vec := 0
	for i := range b.staged {
		if b.staged[i].sent {
			continue
		}
		first := b.staged[i]
		start := vec
		for j := i; j < len(b.staged); j++ {
			r := &b.staged[j]
			if r.sent || len(r.answer) != len(first.answer) || b.addrs[r.to] != b.addrs[first.to] {
				continue
			}
			r.sent = true
			b.outVec[vec].Base = &r.answer[0]
			b.outVec[vec].SetLen(len(r.answer))
			vec++
		}
		m := &b.out[messages]
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&b.addrs[first.to])), b.in[first.to].Namelen
		m.Iov, m.Control = &b.outVec[start], nil
		m.SetIovlen(vec - start)
		m.SetControllen(0)
		if vec-start > 1 {
			b.segments[messages].size = uint16(len(first.answer))
			m.Control = (*byte)(unsafe.Pointer(&b.segments[messages]))
			m.SetControllen(unix.CmsgSpace(2))
		}
		messages++
	}
	return messages
}

// apart sends the answers of a message one by one, where the loopback's MTU has
// been made too small for them to go together.
func (b *batch) apart(fd uintptr, m *header) {
	if m.Control == nil {
		return
	}
	vecs := unsafe.Slice(m.Iov, m.Iovlen)
	m.Control = nil
	m.SetControllen(0)
	m.SetIovlen(1)
	for i := range vecs {
		m.Iov = &vecs[i]
		_, _, _ = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m.Msghdr)), unix.MSG_DONTWAIT)
	}
}
