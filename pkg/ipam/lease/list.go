package lease

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Held is an address, and the attachment that it was given to.
type Held struct {
	Addr netip.Addr
	owner.Key
	Since time.Time
}

// List reads the leases of a network. It takes no lock, as nobody who starts a
// container shall wait for a listing: a lease that comes or goes meanwhile is in
// it or not.
func List(dataDir, network string) ([]Held, error) {
	d := dir(filepath.Join(dataDir, network))
	names, err := readNames(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Held
	for _, name := range names {
		a, parseErr := netip.ParseAddr(name)
		if parseErr != nil || a.String() != name {
			continue
		}
		text, readErr := d.read(a)
		if readErr != nil || text == "" {
			continue // released meanwhile, or nobody's yet
		}
		l := Held{Addr: a, Key: parse(network, text)}
		if st, statErr := os.Lstat(d.file(a)); statErr == nil {
			l.Since = st.ModTime()
		}
		out = append(out, l)
	}
	return out, err
}

// Networks lists the networks that have leases in a directory.
func Networks(dataDir string) ([]string, error) {
	entries, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// ErrInUse is the error of RemoveNetwork where an address is leased.
var ErrInUse = errors.New("addresses are leased")

// RemoveNetwork removes what a network without leases has left in a directory. An
// ADD that is about to take an address fails, as the directory goes with the lock.
func RemoveNetwork(ctx context.Context, dataDir, network string) error {
	s, err := Open(ctx, dataDir, network, nil, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // what it would write is removed
	held, err := List(dataDir, network)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		return fmt.Errorf("%s: %w, the first to %s", s.dir, ErrInUse, held[0].ContainerID)
	}
	return os.RemoveAll(string(s.dir))
}
