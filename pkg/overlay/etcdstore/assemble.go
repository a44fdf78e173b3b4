package etcdstore

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// assemble gives the hosts their blocks, and remembers since when those of no
// host have none. Of what contradicts itself the older holds. The list is locked.
func (s *Store) assemble() (all peer.Snapshot, leftOut []error) {
	leftOut = s.list.problems()
	leaveOut := func(key string, err error) { leftOut = append(leftOut, s.list.problem(key, err)) }
	claimed := s.claimed(leaveOut)
	all = s.believed(claimed, leaveOut)
	slices.SortFunc(all, func(a, b peer.Host) int { return a.Address.Compare(b.Address) })
	index := make(map[netip.Addr]*peer.Host, len(all))
	for i := range all {
		index[all[i].Address] = &all[i]
	}
	now, orphaned := time.Now(), map[netip.Prefix]time.Time{}
	for _, b := range claimed {
		by := s.blocks[b].by
		if holder := index[by]; holder != nil {
			holder.Blocks = append(holder.Blocks, b)
		} else if _, lives := s.list.kinds[hosts][by.String()]; lives || !by.IsValid() {
			continue
		} else if since, ok := s.orphaned[b]; ok {
			orphaned[b] = since
		} else {
			orphaned[b] = now
		}
	}
	s.orphaned = orphaned
	return all, leftOut
}

// claimed returns the blocks of all keys. Of two that overlap the one that was
// claimed later is left out.
func (s *Store) claimed(leaveOut func(string, error)) (sorted peer.Disjoint) {
	s.blocks = make(map[netip.Prefix]held, len(s.list.kinds[blocks]))
	var entries []entry
	for _, e := range s.list.kinds[blocks] {
		if c, ok := e.value.(claim); ok {
			sorted, entries = append(sorted, c.block), append(entries, e)
			s.blocks[c.block] = held{c.by, e.revision}
		}
	}
	slices.SortFunc(sorted, netip.Prefix.Compare)
	overlap := false
	for i := 1; i < len(sorted); i++ {
		overlap = overlap || sorted[i-1].Overlaps(sorted[i])
	}
	if !overlap {
		return sorted
	}
	sorted = nil
	slices.SortFunc(entries, older)
	for _, e := range entries {
		b := e.value.(claim).block
		if other, ok := sorted.Overlapping(b); ok {
			leaveOut(blockName(b), fmt.Errorf("block %s overlaps %s, which was claimed before", b, other))
			delete(s.blocks, b)
			continue
		}
		sorted.Add(b)
	}
	return sorted
}

// older orders keys by when they were made, which is the same for all hosts.
func older(a, b entry) int {
	return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.name, b.name))
}

// believed returns the registered hosts, with the blocks that their registrations
// name, which are of nobody else. Each host of whom that is not true is left out;
// of two with one hardware address the one that was registered later, unless the
// other is this host.
func (s *Store) believed(claimed peer.Disjoint, leaveOut func(string, error)) (all peer.Snapshot) {
	var entries []entry
	for name, e := range s.list.kinds[hosts] {
		if s.list.bad[hosts+"/"+name] != nil {
			continue
		}
		if name == s.Self.Address.String() {
			e.created = 0
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, older)
	for _, e := range entries {
		all = append(all, e.value.(registration).Host)
	}
	conflicts, believed, claimed := all.MACConflicts(), all[:0], slices.Clip(claimed)
	for i, h := range all {
		err := s.named(h, claimed)
		if want, ok := conflicts[i]; ok {
			err = fmt.Errorf("mac: found %s, want %s", h.VTEP(), want)
		}
		if err != nil {
			leaveOut(hosts+"/"+h.Address.String(), err)
			continue
		}
		h.Blocks = slices.Clone(h.Blocks)
		for _, b := range h.Blocks {
			claimed.Add(b)
			s.blocks[b] = held{by: h.Address}
		}
		believed = append(believed, h)
	}
	return believed
}

// named judges the blocks that a registration names.
func (s *Store) named(h peer.Host, claimed peer.Disjoint) error {
	for _, b := range h.Blocks {
		if other, ok := claimed.Overlapping(b); ok {
			return fmt.Errorf("block %s overlaps %s of host %s", b, other, s.blocks[other].by)
		}
	}
	return nil
}
