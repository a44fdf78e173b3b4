package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Lease is one address of an attachment, and the range that it is from.
type Lease struct {
	Addr  netip.Addr
	Range Range
}

// An ExhaustedError says that every address of a pool is leased, none of them
// to a container that is provably gone.
type ExhaustedError struct {
	Pool        Pool
	Used, Total uint64
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("no address is free in %s: %d of %d are leased, none by a container that is provably gone; "+
		"delete attachments, run GC, or configure a larger range", e.Pool, e.Used, e.Total)
}

// Acquire leases one address of each pool to k: the one that want names, else
// the one that k has already, else the one that has been free the longest.
// Each address of want must have a Place in a pool, and no two in the same. Either all
// pools give an address or nothing changes. The leases come in the order of the
// pools; other addresses that k had are released.
//
// netns is the inode of the container's namespace, 0 if unknown. Leases of
// containers that are provably gone are taken back if there is no other way.
// An address of want that another holds is a *engine.HeldError; a pool without
// a free address is an *ExhaustedError.
func (s *Store) Acquire(k owner.Key, netns uint64, want []netip.Addr) ([]Lease, error) {
	var reread, reclaimed bool
	for {
		leases, err := s.acquire(k, Life{s.boot, netns}, want)
		var held *engine.HeldError
		var exhausted *ExhaustedError
		switch {
		case errors.Is(err, errStale) && !reread:
			reread = true
			if err = s.rebuild(s.index); err != nil {
				return nil, err
			}
		case (errors.As(err, &held) || errors.As(err, &exhausted)) && !reclaimed:
			reclaimed = true
			if n, reclaimErr := s.reclaim(); n == 0 || reclaimErr != nil {
				return nil, errors.Join(err, reclaimErr)
			}
		default:
			return leases, err
		}
	}
}

func (s *Store) acquire(k owner.Key, life Life, want []netip.Addr) ([]Lease, error) {
	if int(s.index.Spares) < len(s.pools) {
		s.install(s.index.grown())
	}
	had, err := s.held(k)
	if err != nil {
		return nil, err
	}
	chosen := make([]choice, len(s.pools))
	for i, p := range s.pools {
		if chosen[i], err = s.choose(uint32(i+1), p, had, want); err != nil {
			return nil, err
		}
	}
	if s.index.err != nil {
		return nil, errStale
	}
	if err := s.create(chosen, k); err != nil {
		return nil, err
	}
	leases := s.record(chosen, ownerHash(k), life)
	rest := slices.DeleteFunc(had, func(a netip.Addr) bool {
		return slices.ContainsFunc(leases, func(l Lease) bool { return l.Addr == a })
	})
	return leases, s.drop(rest)
}

// create makes the files of all addresses that are not kept, or none.
func (s *Store) create(chosen []choice, k owner.Key) error {
	for i, c := range chosen {
		var err error
		if c.why == kept {
			err = s.repair(c.addr, k)
		} else {
			err = s.dir.create(c.addr, k)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, errTaken) {
			err = errStale
		}
		for _, made := range chosen[:i] {
			if made.why != kept {
				err = errors.Join(err, s.dir.remove(made.addr))
			}
		}
		s.changed = true // the directory has changed; the index still is right, or read again
		return err
	}
	return nil
}

// repair writes a file anew that was cut short.
func (s *Store) repair(a netip.Addr, k owner.Key) error {
	text, err := s.dir.read(a)
	if err != nil || text == content(k) {
		return err
	}
	s.changed = true
	return errors.Join(s.dir.remove(a), s.dir.create(a, k))
}

// record brings the index in step with the files that were made.
func (s *Store) record(chosen []choice, owner [16]byte, life Life) []Lease {
	leases := make([]Lease, len(chosen))
	for i, c := range chosen {
		leases[i].Addr = c.addr
		_, leases[i].Range, _ = Place(s.pools, c.addr)
		if c.why == kept {
			s.index.renew(c.addr, life)
			continue
		}
		if c.why == unvisited {
			l := s.index.list(uint32(i + 1))
			l.Cursor, l.Fresh = c.addr.As16(), c.left
			s.index.putList(uint32(i+1), l)
		}
		if c.why != named {
			s.dir.setLast(i, c.addr)
		}
		s.index.use(c.addr, owner, life, s.list(c.addr))
		s.changed = true
	}
	return leases
}

// Release frees every address of k. None is no error.
func (s *Store) Release(k owner.Key) error {
	addrs, err := s.Of(k)
	if err != nil {
		return err
	}
	// What an ADD had begun that was killed; if it stays it does no harm.
	_ = os.Remove(s.dir.own("index") + unfinished)
	return s.drop(addrs)
}

// Of returns the addresses that k has.
func (s *Store) Of(k owner.Key) ([]netip.Addr, error) {
	addrs, err := s.ofAny(k)
	if errors.Is(err, errStale) {
		if err = s.rebuild(s.index); err != nil {
			return nil, err
		}
		addrs, err = s.ofAny(k)
	}
	if err != nil {
		return nil, fmt.Errorf("leases of %s: %w", k.Mark(), err)
	}
	return addrs, nil
}

// ofAny also finds what the reference plugin wrote before 2018: no interface
// name. As there, it counts for any interface that has nothing else.
func (s *Store) ofAny(k owner.Key) ([]netip.Addr, error) {
	addrs, err := s.held(k)
	if len(addrs) == 0 && err == nil {
		k.IfName = ""
		addrs, err = s.held(k)
	}
	return addrs, err
}

// held returns the addresses of k that index and directory agree on. A file
// that was cut short still is k's, as nobody else can have written it.
func (s *Store) held(k owner.Key) ([]netip.Addr, error) {
	addrs := s.index.of(ownerHash(k))
	if s.index.err != nil {
		return nil, errStale
	}
	for _, a := range addrs {
		text, err := s.dir.read(a)
		if errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(content(k), text) {
			return nil, errStale
		}
		if err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

func (s *Store) drop(addrs []netip.Addr) error {
	for _, a := range addrs {
		if err := s.dir.remove(a); err != nil {
			return fmt.Errorf("release %s: %w", a, err)
		}
		s.changed = true
		s.index.release(a)
	}
	return nil
}

// From reports whether every one of these leases was made in this boot for the
// namespace of that inode.
func (s *Store) From(addrs []netip.Addr, netns uint64) bool {
	for _, a := range addrs {
		if _, sl := s.index.find(a); sl.Life != (Life{s.boot, netns}) {
			return false
		}
	}
	return true
}
