// Package lease gives addresses from ranges to attachments, and remembers on
// disk whose each is: in the layout of the reference plugin host-local, so that
// either can take over from the other in place.
//
// It knows neither CNI nor configuration files; plugins/ipam/host-local does.
package lease

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
)

// A Store is the leases of one network. It is locked against every other Store
// of that network, in whatever process, from Open to Close, and must not be
// used by two goroutines at once.
type Store struct {
	dir     dir
	network string
	pools   []Pool
	boot    [16]byte
	unlock  func()
	index   *index
	changed bool // the index must be marked as finished
	census  func() *census
}

// Open locks and opens the leases of a network in <dataDir>/<network>. It waits
// for the lock as filelock.Acquire does. Without create, a network that has no leases
// yet is an error that wraps fs.ErrNotExist.
//
// Acquire takes one address of each of pools. The other methods work without;
// but if they find the index missing, it is made for these pools.
func Open(ctx context.Context, dataDir, network string, pools []Pool, create bool) (*Store, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir(filepath.Join(dataDir, network)), network: network, pools: pools, boot: boot, census: takeCensus}
	if create {
		err = os.MkdirAll(string(s.dir), 0o755)
	} else {
		_, err = os.Stat(string(s.dir))
	}
	if err != nil {
		return nil, fmt.Errorf("leases of network %q: %w", network, err)
	}
	// It is the file that the reference plugin locks.
	if s.unlock, err = filelock.Acquire(ctx, filepath.Join(string(s.dir), "lock")); err != nil {
		return nil, fmt.Errorf("leases of network %q: %w", network, err)
	}
	if err := s.load(); err != nil {
		s.unlock()
		return nil, fmt.Errorf("leases of network %q: %w", network, err)
	}
	return s, nil
}

// Close unlocks the leases. If that fails nothing is lost but time: the next
// Open reads the directory.
func (s *Store) Close() {
	if s.changed && s.index.err == nil {
		s.finish()
	}
	s.index.close()
	s.unlock()
}

// finish marks the index as in step with the directory. Until then every change
// of the directory shows in its time, so an index that a killed process left
// half written is never believed.
func (s *Store) finish() {
	at, err := s.dir.mark()
	if err != nil {
		return
	}
	s.index.Sec, s.index.Nsec, s.index.Boot = at.Sec, at.Nsec, s.boot
	s.index.putHeader()
}

// load opens the index, or makes it again if it is not to be trusted or not for
// these pools.
func (s *Store) load() error {
	at, err := s.dir.changed()
	if err != nil {
		return err
	}
	x, err := openIndex(s.dir.own("index"))
	if err == nil && x.Boot == s.boot && x.Sec == at.Sec && x.Nsec == at.Nsec && x.serves(s.pools) {
		s.index = x
		return nil
	}
	defer x.close()
	return s.rebuild(x)
}

// serves reports whether the lists of x are those of pools. No pools are always
// served: what releases does not need to know them.
func (x *index) serves(pools []Pool) bool {
	if pools == nil {
		return true
	}
	if int(x.Lists) != len(pools)+1 {
		return false
	}
	for i, p := range pools {
		if x.list(uint32(i+1)).Print != p.print {
			return false
		}
	}
	return x.err == nil
}
