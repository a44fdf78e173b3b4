package lease

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Prune frees every address whose attachment keep refuses. It goes on past
// failures.
func (s *Store) Prune(keep func(owner.Key) bool) error {
	_, err := s.prune(func(r record) bool { return !keep(r.key) })
	return err
}

// reclaim frees the addresses of containers that are provably gone, and returns
// how many became free.
func (s *Store) reclaim() (int, error) {
	c := s.census()
	return s.prune(func(r record) bool { return c.gone(r.key, r.life, s.boot) })
}

// prune also frees addresses whose file is empty, as every scan does. A file
// that cannot be read is left alone.
func (s *Store) prune(gone func(record) bool) (int, error) {
	records, free, err := s.scan(s.index)
	if err != nil {
		return 0, err
	}
	var errs []error
	before := len(records)
	records = slices.DeleteFunc(records, func(r record) bool {
		if r.key.ContainerID == "" || !gone(r) {
			return false
		}
		if err := s.dir.remove(r.addr); err != nil {
			errs = append(errs, fmt.Errorf("release %s: %w", r.addr, err))
			return false
		}
		free = append(free, r.addr)
		return true
	})
	s.build(records, free)
	return before - len(records), errors.Join(errs...)
}

// Exhausted returns nil if Acquire would find an address in every pool, else
// an *ExhaustedError for each that has none. Only then does it cost more with
// more leases.
func (s *Store) Exhausted() error {
	var errs []error
	for i, p := range s.pools {
		l := s.index.list(uint32(i + 1))
		if uint64(l.Used) < p.Total() {
			continue
		}
		ok, err := s.reclaimable(p)
		if err == nil && !ok {
			err = &ExhaustedError{p, uint64(l.Used), p.Total()}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *Store) reclaimable(p Pool) (bool, error) {
	records, _, err := s.scan(s.index)
	if err != nil {
		return false, err
	}
	c := s.census()
	return slices.ContainsFunc(records, func(r record) bool {
		return p.has(r.addr) && c.gone(r.key, r.life, s.boot)
	}), nil
}
