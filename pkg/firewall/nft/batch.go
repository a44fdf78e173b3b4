package nft

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// group calls f for each set with its elements of es, at most perMessage at a
// time, in the order of es: the kernel answers each message, a socket's buffer
// holds some 250 answers, and an attribute 64 KiB.
func group(es []element, f func(set, []element) error) error {
	const perMessage = 200
	for len(es) > 0 {
		n := 1
		for n < len(es) && n < perMessage && es[n].set.name == es[0].set.name {
			n++
		}
		if err := f(es[0].set, es[:n]); err != nil {
			return err
		}
		es = es[n:]
	}
	return nil
}

// add queues the elements, each with the comment that commentOf gives.
func add(nc *nftables.Conn, t *nftables.Table, es []element, commentOf func(element) string) error {
	return group(es, func(s set, es []element) error {
		var out []nftables.SetElement
		for _, e := range es {
			out = append(out, nftables.SetElement{Key: e.key, KeyEnd: e.end, Val: e.value, VerdictData: e.verdict, Comment: commentOf(e)})
		}
		return nc.SetAddElements(s.in(t), out)
	})
}

// remove queues the removal of the elements.
func remove(nc *nftables.Conn, t *nftables.Table, es []element) error {
	return group(es, func(s set, es []element) error {
		var out []nftables.SetElement
		for _, e := range es {
			out = append(out, nftables.SetElement{Key: e.key, KeyEnd: e.end})
		}
		return nc.SetDeleteElements(s.in(t), out)
	})
}

// sameValue compares an element's value with what the kernel holds.
func (e element) sameValue(f *found) bool {
	if e.verdict == nil {
		value, err := attribute(f.value, unix.NFTA_DATA_VALUE)
		return e.value == nil || err == nil && bytes.Equal(value, e.value)
	}
	v, err := attribute(f.value, unix.NFTA_DATA_VERDICT)
	if err != nil {
		return false
	}
	code, err := attribute(v, unix.NFTA_VERDICT_CODE)
	if err != nil || len(code) != 4 || int32(binary.BigEndian.Uint32(code)) != int32(e.verdict.Kind) {
		return false
	}
	if e.verdict.Chain == "" {
		return true
	}
	chain, err := attribute(v, unix.NFTA_VERDICT_CHAIN)
	return err == nil && bytes.Equal(chain, text(e.verdict.Chain))
}
