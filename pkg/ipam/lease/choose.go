package lease

import (
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A choice is an address to lease, and why this one.
type choice struct {
	addr netip.Addr
	why  why
	left uint64 // of an unvisited one: what the cursor has still to visit then
}

type why uint8

const (
	kept why = iota // the attachment has it already
	named
	longestFree
	unvisited
)

func (s *Store) choose(in uint32, p Pool, had, want []netip.Addr) (choice, error) {
	for _, a := range want {
		if i, _, ok := Place(s.pools, a); !ok || i != int(in-1) {
			continue
		}
		if slices.Contains(had, a) {
			return choice{addr: a, why: kept}, nil
		}
		if n, sl := s.index.find(a); n != 0 && sl.State == used {
			return choice{}, s.heldError(a)
		}
		return choice{addr: a, why: named}, nil
	}
	for _, a := range had {
		if _, ok := p.Find(a); ok {
			return choice{addr: a, why: kept}, nil
		}
	}
	return s.any(in, p)
}

func (s *Store) heldError(a netip.Addr) error {
	holder := "an attachment that its file does not name"
	if text, err := s.dir.read(a); err == nil {
		holder = string(parse(s.network, text).Mark())
	}
	return &engine.HeldError{Object: "address " + a.String(), Holder: holder}
}

// any prefers addresses that were never leased, unless so many are free that
// remembering them all would cost more than it is worth.
func (s *Store) any(in uint32, p Pool) (choice, error) {
	l := s.index.list(in)
	if l.Length < maxIdle {
		if a, left, ok := s.index.unvisited(l, p); ok {
			return choice{a, unvisited, left}, nil
		}
	}
	if l.Head != 0 {
		sl := s.index.slot(l.Head)
		if sl.State != released || sl.List != in {
			s.index.fail(errStale)
		}
		return choice{addr: sl.addr(), why: longestFree}, nil
	}
	if s.index.err != nil {
		return choice{}, errStale
	}
	return choice{}, &ExhaustedError{p, uint64(l.Used), p.Total()}
}
