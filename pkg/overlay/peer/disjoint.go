package peer

import (
	"net/netip"
	"slices"
)

// Disjoint is a set of blocks in which no address is in two of them, in the order
// of netip.Prefix.Compare.
type Disjoint []netip.Prefix

// Overlapping returns a block of d that overlaps b, if there is one. Prefixes are
// disjoint, or one is a part of the other, so it stands beside the place of b.
func (d Disjoint) Overlapping(b netip.Prefix) (other netip.Prefix, ok bool) {
	at, _ := slices.BinarySearchFunc(d, b, netip.Prefix.Compare)
	for _, i := range []int{at - 1, at} {
		if i >= 0 && i < len(d) && d[i].Overlaps(b) {
			return d[i], true
		}
	}
	return netip.Prefix{}, false
}

// Add adds a block that overlaps none of d.
func (d *Disjoint) Add(b netip.Prefix) {
	at, _ := slices.BinarySearchFunc(*d, b, netip.Prefix.Compare)
	*d = slices.Insert(*d, at, b)
}
