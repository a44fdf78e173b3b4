package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
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

// Reserved says what an address that no host may have is in the subnet, "" for the
// others. A subnet of one or two addresses reserves none (RFC 3021, RFC 6164).
func (r Range) Reserved(a netip.Addr) string {
	switch {
	case a.BitLen()-r.Subnet.Bits() < 2:
	case a == r.Subnet.Masked().Addr():
		return "network"
	case a.Is4() && a == Last(r.Subnet):
		return "broadcast"
	}
	return ""
}

// A Pool is what one address of an attachment comes from: ranges of one
// address family, less their gateways and what is excluded.
type Pool struct {
	ranges []Range
	free   []span // what may be given to whoever asks for any address
	print  [16]byte
}

// NewPool returns the pool of ranges that do not overlap. Addresses of exclude,
// gateways, and network and broadcast addresses are in no pool; those of exclude may
// still be asked for by name.
func NewPool(ranges []Range, exclude []netip.Prefix) Pool {
	p := Pool{ranges: ranges}
	var holes []span
	for _, r := range ranges {
		for _, a := range []netip.Addr{r.Gateway, r.Subnet.Masked().Addr(), Last(r.Subnet)} {
			if a.IsValid() && (a == r.Gateway || r.Reserved(a) != "") {
				holes = append(holes, span{a, a})
			}
		}
	}
	for _, e := range exclude {
		holes = append(holes, span{e.Masked().Addr(), Last(e)})
	}
	holes = merged(holes)
	for _, r := range ranges {
		p.free = append(p.free, r.span().without(holes)...)
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
func (p Pool) Find(a netip.Addr) (Range, bool) { return p.find(a, Range.Contains) }

func (p Pool) find(a netip.Addr, in func(Range, netip.Addr) bool) (Range, bool) {
	for _, r := range p.ranges {
		if in(r, a) {
			return r, true
		}
	}
	return Range{}, false
}

// Place returns the pool that an address is from when it is asked for by name, and its
// range there: the pool with a range that it is in, or else, as a range may be a part
// of its subnet, the first with a range in whose subnet it is. There is none for an
// address that no host may have.
func Place(pools []Pool, a netip.Addr) (pool int, r Range, ok bool) {
	for _, in := range []func(Range, netip.Addr) bool{Range.Contains, func(r Range, a netip.Addr) bool { return r.Subnet.Contains(a) }} {
		for i, p := range pools {
			if r, ok := p.find(a, in); ok {
				return i, r, r.Reserved(a) == ""
			}
		}
	}
	return 0, Range{}, false
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

// merged returns the same addresses in order, in spans that do not overlap.
func merged(spans []span) (out []span) {
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].overlaps(s) {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// without returns what is left of s when holes are taken out, which are merged.
func (s span) without(holes []span) (left []span) {
	begin, _ := slices.BinarySearchFunc(holes, s.first, func(h span, a netip.Addr) int { return h.last.Compare(a) })
	for _, h := range holes[begin:] {
		if !s.overlaps(h) {
			break
		}
		if s.first.Less(h.first) {
			left = append(left, span{s.first, h.first.Prev()})
		}
		if !h.last.Less(s.last) {
			return left
		}
		s.first = h.last.Next()
	}
	return append(left, s)
}
