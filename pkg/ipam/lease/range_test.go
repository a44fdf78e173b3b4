package lease

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
)

func TestSizesOnDisk(t *testing.T) {
	for _, test := range []struct{ got, want int }{
		{binary.Size(header{}), headerSize}, {binary.Size(list{}), listSize}, {binary.Size(slot{}), slotSize},
	} {
		if test.got != test.want {
			t.Errorf("got %d, want %d", test.got, test.want)
		}
	}
}

func TestPoolTotal(t *testing.T) {
	tests := []struct {
		pool Pool
		want uint64
	}{
		{pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254"), 253},
		{pool("10.1.0.0/24", "10.1.0.10", "10.1.0.19"), 10},
		{pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254", "10.1.0.128/25", "10.1.0.2/32"), 125},
		{pool("10.1.0.0/24", "10.1.0.1", "10.1.0.254", "10.0.0.0/8"), 0},
		{pool("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"), math.MaxUint64 - 1},
		{pool("fd00::/48", "fd00::1", "fd00::ffff:ffff:ffff:ffff:ffff"), math.MaxUint64},
		{pool("0.0.0.0/0", "0.0.0.0", "255.255.255.255"), 1<<32 - 3},
	}
	for _, test := range tests {
		if got := test.pool.Total(); got != test.want {
			t.Errorf("%s: got %d, want %d", test.pool, got, test.want)
		}
	}
}

// FuzzPool holds what a pool says about a /24 against a walk over all of it.
func FuzzPool(f *testing.F) {
	f.Add(byte(1), byte(254), byte(1), byte(7), byte(30))
	f.Add(byte(0), byte(255), byte(0), byte(255), byte(32))
	f.Fuzz(func(t *testing.T, first, last, gateway, exclude, bits byte) {
		if first > last {
			first, last = last, first
		}
		at := func(b byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, b}) }
		hole := netip.PrefixFrom(at(exclude), 24+int(bits%9))
		p := NewPool([]Range{{netip.MustParsePrefix("10.0.0.0/24"), at(first), at(last), at(gateway)}}, []netip.Prefix{hole})
		var want []netip.Addr
		for b := int(first); b <= int(last); b++ {
			if a := at(byte(b)); byte(b) != gateway && b != 0 && b != 255 && !hole.Contains(a) {
				want = append(want, a)
			}
		}
		if p.Total() != uint64(len(want)) {
			t.Fatalf("total %d, want %d", p.Total(), len(want))
		}
		a := netip.Addr{}
		for _, w := range want {
			if a = p.after(a); a != w || !p.has(a) {
				t.Fatal(fmt.Sprint(a, " want ", w))
			}
		}
		if len(want) > 0 && p.after(a) != want[0] {
			t.Fatal("does not go round")
		}
	})
}
