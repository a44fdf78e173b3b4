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
type batch struct {
	in, out       [batchSize]header
	inVec, outVec [batchSize]unix.Iovec
	addrs         [batchSize]unix.RawSockaddrInet6 // or of IPv4, which is shorter
	queries       [batchSize][maxQuery]byte
	answers       [batchSize][maxSize]byte
}

const (
	batchSize = 32
	maxQuery  = 1500 // larger ones by UDP are cut, and refused
)

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
		b.out[i].Iov = &b.outVec[i]
		b.out[i].SetIovlen(1)
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

// stage puts the answer to query i in place j of those to send.
func (b *batch) stage(i, j int, answer []byte) {
	b.outVec[j].Base = &answer[0]
	b.outVec[j].SetLen(len(answer))
	b.out[j].Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
	b.out[j].Namelen = b.in[i].Namelen
}

// send sends the first n. What the kernel does not take is lost, as datagrams
// may be: the clients ask again.
func (b *batch) send(fd uintptr, n int) {
	for sent := 0; sent < n; {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[sent])), uintptr(n-sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			sent++ // that client cannot be answered; the others can
		default:
			sent += int(k)
		}
	}
}
