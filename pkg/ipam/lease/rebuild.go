package lease

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A record is a lease as a full reading of the directory finds it.
type record struct {
	addr netip.Addr
	key  owner.Key
	life Life
}

// maxIdle limits the addresses that are remembered only for the order of their
// release: beyond it the oldest is given again before one that never was.
const maxIdle = 1 << 16

// rebuild makes the index from the directory, and from what can be learnt from
// an old one, which may be nil.
func (s *Store) rebuild(old *index) error {
	records, free, err := s.scan(old)
	if err != nil {
		return err
	}
	s.build(records, free)
	return nil
}

// scan reads the directory, and from an old index, which may be nil or damaged,
// what is known of each lease's life and of the order of releases.
func (s *Store) scan(old *index) ([]record, []netip.Addr, error) {
	leased, err := s.dir.list()
	if err != nil {
		return nil, nil, err
	}
	known, free := old.remembered(leased)
	records := make([]record, 0, len(leased))
	for a, text := range leased {
		r := record{addr: a, key: parse(s.network, text)}
		// Without an interface name the file was cut short; it still is the
		// lease that the index knows.
		if o := known[a]; o.Owner == ownerHash(r.key) || r.key.IfName == "" {
			r.life = o.Life
		}
		records = append(records, r)
	}
	return records, free, nil
}

// remembered returns the used slots of x by address, and the addresses that are
// free now, least recently released first.
func (x *index) remembered(leased map[netip.Addr]string) (map[netip.Addr]slot, []netip.Addr) {
	known := map[netip.Addr]slot{}
	free := map[netip.Addr]uint64{}
	for _, sl := range x.slots() {
		a := sl.addr()
		_, taken := leased[a]
		switch {
		case taken && sl.State == used:
			known[a] = sl
		case taken:
		case sl.State == used:
			free[a] = math.MaxUint64 // somebody has just released it
		case sl.State == released:
			free[a] = sl.Seq
		}
	}
	addrs := make([]netip.Addr, 0, len(free))
	for a := range free {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(free[a], free[b]), a.Compare(b)) })
	return known, addrs
}

// slots returns the slots that are used or released, as far as x can be read.
// Links are not followed: they may be what is damaged.
func (x *index) slots() []slot {
	if x == nil {
		return nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(x, x.slotAt(1), slotSize*int64(x.Size)), 1<<20)
	var all []slot
	var buf [slotSize]byte
	for {
		var s slot
		if _, err := io.ReadFull(r, buf[:]); err != nil {
			return all
		}
		if unmarshal(buf[:], &s) == nil && (s.State == used || s.State == released) {
			all = append(all, s)
		}
	}
}

// build makes the index anew from leases and free addresses, least recently
// released first.
func (s *Store) build(records []record, free []netip.Addr) {
	free = free[max(0, len(free)-maxIdle):]
	lists := []list{{}}
	for i, p := range s.pools {
		lists = append(lists, list{Print: p.print, Cursor: s.dir.last(i).As16(), Fresh: p.Total()})
	}
	x := newIndex(len(records)+len(free)+len(lists), lists)
	for _, a := range free {
		x.addFree(a, s.list(a))
	}
	for _, r := range records {
		x.use(r.addr, ownerHash(r.key), r.life, s.list(r.addr))
	}
	for i, p := range s.pools {
		x.skipVisited(uint32(i+1), p)
	}
	s.install(x)
}

// addFree puts an address that has no slot at the end of a list of free ones.
func (x *index) addFree(a netip.Addr, in uint32) {
	x.Seq++
	n := x.takeSpare()
	sl := slot{Addr: a.As16(), State: released, Seq: x.Seq, List: in}
	x.link(n, &sl, chains()[byAddr])
	x.enqueue(n, &sl)
}

// unvisited returns the next address of a pool that has no slot: it was not
// leased since the index was made. It passes each address once in the life of
// an index, so what it costs is spread over as many calls.
func (x *index) unvisited(l list, p Pool) (a netip.Addr, left uint64, ok bool) {
	a = netip.AddrFrom16(l.Cursor).Unmap()
	for left = l.Fresh; left > 0 && x.err == nil; {
		a = p.after(a)
		left--
		if n, _ := x.find(a); n == 0 {
			return a, left, x.err == nil
		}
	}
	return a, 0, false
}

// skipVisited moves the cursor to just before the next unvisited address.
func (x *index) skipVisited(in uint32, p Pool) {
	l := x.list(in)
	for l.Fresh > 0 {
		a := p.after(netip.AddrFrom16(l.Cursor).Unmap())
		if n, _ := x.find(a); n == 0 {
			break
		}
		l.Cursor = a.As16()
		l.Fresh--
	}
	x.putList(in, l)
}

// grown returns a copy of x, in memory, with room for twice as many addresses.
func (x *index) grown() *index {
	lists := make([]list, x.Lists)
	for i := range lists {
		l := x.list(uint32(i))
		lists[i] = list{Print: l.Print, Cursor: l.Cursor, Fresh: l.Fresh}
	}
	y := newIndex(2*int(x.Size), lists)
	all := x.slots()
	slices.SortStableFunc(all, func(a, b slot) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, s := range all {
		if s.State == used {
			y.use(s.addr(), s.Owner, s.Life, s.List)
		} else {
			y.addFree(s.addr(), s.List)
		}
	}
	y.fail(x.err)
	return y
}

// list returns the number of the list that an address belongs to.
func (s *Store) list(a netip.Addr) uint32 {
	for i, p := range s.pools {
		if p.has(a) {
			return uint32(i + 1)
		}
	}
	return 0
}

// install puts an index in place of the one that was. If the disk is full it
// stays in memory, and the next Open reads the directory again.
func (s *Store) install(x *index) {
	err := x.save(s.dir.own("index"))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.dir.own(""), 0o755); err == nil {
			err = x.save(s.dir.own("index"))
		}
	}
	s.index.close()
	s.index, s.changed = x, err == nil
}
