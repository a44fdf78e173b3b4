package lease

import (
	"hash/crc32"
	"net/netip"
)

const (
	byAddr = iota
	byOwner
)

// chain is one hash table: where a slot belongs in it, and its link.
type chain struct {
	table int
	hash  func(slot) uint32
	next  func(*slot) *uint32
}

func chains() [2]chain {
	return [2]chain{
		byAddr:  {byAddr, func(s slot) uint32 { return addrHash(s.Addr) }, func(s *slot) *uint32 { return &s.NextAddr }},
		byOwner: {byOwner, func(s slot) uint32 { return order.Uint32(s.Owner[:]) }, func(s *slot) *uint32 { return &s.NextOwner }},
	}
}

func addrHash(a [16]byte) uint32 { return crc32.ChecksumIEEE(a[:]) }

func (x *index) bucket(table int, hash uint32) (n uint32) {
	var buf [4]byte
	if _, err := x.ReadAt(buf[:], x.bucketAt(table, hash)); err != nil {
		x.fail(err)
	}
	return order.Uint32(buf[:])
}

func (x *index) putBucket(table int, hash, n uint32) {
	if x.err != nil {
		return
	}
	if _, err := x.WriteAt(order.AppendUint32(nil, n), x.bucketAt(table, hash)); err != nil {
		x.fail(err)
	}
}

// link puts slot n, which holds s, at the head of its chain. The caller stores s.
func (x *index) link(n uint32, s *slot, c chain) {
	*c.next(s) = x.bucket(c.table, c.hash(*s))
	x.putBucket(c.table, c.hash(*s), n)
}

// unlink takes slot n, which holds s, out of its chain. The caller stores s.
func (x *index) unlink(n uint32, s *slot, c chain) {
	var prev uint32
	at := x.bucket(c.table, c.hash(*s))
	for range x.Size {
		if at == n || x.err != nil {
			break
		}
		before := x.slot(at)
		prev, at = at, *c.next(&before)
	}
	if at != n {
		x.fail(errStale)
		return
	}
	next := *c.next(s)
	*c.next(s) = 0
	if prev == 0 {
		x.putBucket(c.table, c.hash(*s), next)
		return
	}
	before := x.slot(prev)
	*c.next(&before) = next
	x.putSlot(prev, before)
}

// find returns the slot of an address, 0 if it has none.
func (x *index) find(a netip.Addr) (uint32, slot) {
	key := a.As16()
	n := x.bucket(byAddr, addrHash(key))
	for range x.Size {
		if n == 0 || x.err != nil {
			return 0, slot{}
		}
		s := x.slot(n)
		if s.Addr == key {
			return n, s
		}
		n = s.NextAddr
	}
	x.fail(errStale) // a circle
	return 0, slot{}
}

// of returns the addresses that are leased to an owner.
func (x *index) of(owner [16]byte) []netip.Addr {
	var addrs []netip.Addr
	n := x.bucket(byOwner, order.Uint32(owner[:]))
	for range x.Size {
		if n == 0 || x.err != nil {
			return addrs
		}
		s := x.slot(n)
		if s.Owner == owner && s.State == used {
			addrs = append(addrs, s.addr())
		}
		n = s.NextOwner
	}
	if n != 0 {
		x.fail(errStale)
	}
	return addrs
}

func (x *index) putSpare(n uint32) {
	x.putSlot(n, slot{Next: x.Spare})
	x.Spare = n
	x.Spares++
}

func (x *index) takeSpare() uint32 {
	n := x.Spare
	s := x.slot(n)
	if s.State != spare {
		x.fail(errStale)
	}
	x.Spare = s.Next
	x.Spares--
	return n
}

// use records that a is leased to owner. It must not be in use.
func (x *index) use(a netip.Addr, owner [16]byte, life Life, in uint32) {
	c := chains()
	n, s := x.find(a)
	switch {
	case n == 0:
		n = x.takeSpare()
		s = slot{Addr: a.As16()}
		x.link(n, &s, c[byAddr])
	case s.State == released:
		x.dequeue(&s)
	default:
		x.fail(errStale)
		return
	}
	s.Owner, s.Life, s.State, s.List, s.Seq = owner, life, used, in, 0
	x.link(n, &s, c[byOwner])
	x.putSlot(n, s)
	l := x.list(in)
	l.Used++
	x.putList(in, l)
}

// release records that a is no longer leased.
func (x *index) release(a netip.Addr) {
	n, s := x.find(a)
	if n == 0 || s.State != used {
		x.fail(errStale)
		return
	}
	x.unlink(n, &s, chains()[byOwner])
	x.Seq++
	s.Owner, s.Life, s.State, s.Seq = [16]byte{}, Life{}, released, x.Seq
	x.enqueue(n, &s)
	l := x.list(s.List)
	l.Used--
	x.putList(s.List, l)
}

// enqueue puts s at the end of its list, and stores it.
func (x *index) enqueue(n uint32, s *slot) {
	l := x.list(s.List)
	s.Prev, s.Next = l.Tail, 0
	x.putSlot(n, *s)
	if l.Tail == 0 {
		l.Head = n
	} else {
		last := x.slot(l.Tail)
		last.Next = n
		x.putSlot(l.Tail, last)
	}
	l.Tail = n
	l.Length++
	x.putList(s.List, l)
}

// dequeue takes s out of its list. The caller stores s.
func (x *index) dequeue(s *slot) {
	l := x.list(s.List)
	if s.Prev == 0 {
		l.Head = s.Next
	} else {
		prev := x.slot(s.Prev)
		prev.Next = s.Next
		x.putSlot(s.Prev, prev)
	}
	if s.Next == 0 {
		l.Tail = s.Prev
	} else {
		next := x.slot(s.Next)
		next.Prev = s.Prev
		x.putSlot(s.Next, next)
	}
	l.Length--
	x.putList(s.List, l)
	s.Prev, s.Next = 0, 0
}

// renew notes that the lease of an address has a new life.
func (x *index) renew(a netip.Addr, life Life) {
	n, s := x.find(a)
	if n == 0 || s.State != used {
		x.fail(errStale)
		return
	}
	s.Life = life
	x.putSlot(n, s)
}
