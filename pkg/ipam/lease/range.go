package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"strings"
)

// A Range is the addresses First to Last of one subnet. Gateway may be the zero
// Addr.
type Range struct {
	Subnet               netip.Prefix
	First, Last, Gateway netip.Addr
}

// Contains reports whether a is one of the addresses First to Last.
func (r Range) Contains(a netip.Addr) bool { return r.span().contains(a) }

// Overlaps reports whether r and o have an address in common.
func (r Range) Overlaps(o Range) bool { return r.span().overlaps(o.span()) }

func (r Range) span() span { return span{r.First, r.Last} }

// A Pool is what one address of an attachment comes from: ranges of one
// address family, less their gateways and what is excluded.
type Pool struct {
	ranges []Range
	free   []span // what may be given to whoever asks for any address
	print  [16]byte
}

// NewPool returns the pool of ranges that do not overlap. Addresses of exclude
// and gateways are in no pool; those of exclude may still be asked for by name.
func NewPool(ranges []Range, exclude []netip.Prefix) Pool {
	p := Pool{ranges: ranges}
	for _, r := range ranges {
		p.free = append(p.free, r.span())
	}
	for _, r := range ranges {
		if r.Gateway.IsValid() {
			p.free = without(p.free, span{r.Gateway, r.Gateway})
		}
	}
	for _, e := range exclude {
		p.free = without(p.free, span{e.Masked().Addr(), Last(e)})
	}
	p.print = fingerprint(p.free)
	return p
}

// fingerprint tells pools apart: the index of one is of no use for another.
func fingerprint(free []span) [16]byte {
	var text []byte
	for _, s := range free {
		text = s.first.AppendTo(text)
		text = s.last.AppendTo(append(text, '-'))
		text = append(text, ',')
	}
	sum := sha256.Sum256(text)
	return [16]byte(sum[:])
}

// Find returns the range that a is in.
func (p Pool) Find(a netip.Addr) (Range, bool) {
	for _, r := range p.ranges {
		if r.Contains(a) {
			return r, true
		}
	}
	return Range{}, false
}

// Total returns the number of addresses that can be had without naming one,
// math.MaxUint64 if there are more than that.
func (p Pool) Total() uint64 {
	var n uint64
	for _, s := range p.free {
		sum, carry := bits.Add64(n, s.size(), 0)
		if n = sum; carry != 0 {
			return math.MaxUint64
		}
	}
	return n
}

// String returns the ranges, such as "10.1.0.1-10.1.0.254".
func (p Pool) String() string {
	var s []string
	for _, r := range p.ranges {
		s = append(s, r.First.String()+"-"+r.Last.String())
	}
	return strings.Join(s, ",")
}

func (p Pool) has(a netip.Addr) bool {
	for _, s := range p.free {
		if s.contains(a) {
			return true
		}
	}
	return false
}

// after returns the address that follows a; the first follows the last, and
// whatever is not in the pool. There must be one.
func (p Pool) after(a netip.Addr) netip.Addr {
	for i, s := range p.free {
		if s.contains(a) && a != s.last {
			return a.Next()
		}
		if a == s.last {
			return p.free[(i+1)%len(p.free)].first
		}
	}
	return p.free[0].first
}

// Last returns the highest address of a subnet: in IPv4, the broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// A span is the addresses from first to last.
type span struct{ first, last netip.Addr }

func (s span) contains(a netip.Addr) bool {
	return a.BitLen() == s.first.BitLen() && s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0
}

func (s span) overlaps(o span) bool { return s.contains(o.first) || o.contains(s.first) }

func (s span) size() uint64 {
	low, high := s.first.As16(), s.last.As16()
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(high[8:]), binary.BigEndian.Uint64(low[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(high[:8]), binary.BigEndian.Uint64(low[:8]), borrow)
	if hi != 0 || lo == math.MaxUint64 {
		return math.MaxUint64
	}
	return lo + 1
}

// without returns what is left of spans when hole is taken out.
func without(spans []span, hole span) []span {
	var left []span
	for _, s := range spans {
		if !s.overlaps(hole) {
			left = append(left, s)
			continue
		}
		if s.first.Less(hole.first) {
			left = append(left, span{s.first, hole.first.Prev()})
		}
		if hole.last.Less(s.last) {
			left = append(left, span{hole.last.Next(), s.last})
		}
	}
	return left
}
