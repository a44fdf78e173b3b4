package zone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Remote is the directory of what other hosts' containers are called: a file for
// each network and host, in JSON. It is there to be watched, and need not exist.
func (s Store) Remote() string { return filepath.Join(s.Root, "remote") }

// Public is the part of a record that is for other hosts: names, and where they
// lead.
func (r *Record) Public() Record {
	return Record{
		Mark: r.Mark, Network: r.Network, ContainerID: r.ContainerID,
		Addrs: r.Addrs, Names: r.Names, Domain: r.Domain, TTL: r.TTL, Services: r.Services,
	}
}

// remotePrefix is what the files of a network begin with: no network's name has
// an '@'.
func remotePrefix(network string) string {
	return owner.Key{Network: network}.Mark().Network() + "@"
}

// SetRemote leaves for a network the records of these hosts and no others. Each
// file appears whole or not at all. For one network there is one caller.
func (s Store) SetRemote(network string, of map[netip.Addr][]Record) error {
	prefix := remotePrefix(network)
	wanted := map[string]bool{}
	var errs []error
	for host, records := range of {
		wanted[prefix+host.String()] = true
		errs = append(errs, s.writeRemote(prefix, host, records))
	}
	entries, err := os.ReadDir(s.Remote())
	errs = append(errs, ignore(err))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !wanted[e.Name()] {
			errs = append(errs, remove(filepath.Join(s.Remote(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (s Store) writeRemote(prefix string, host netip.Addr, records []Record) error {
	data, err := json.Marshal(records)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Remote(), prefix+host.String())
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(s.Remote(), 0o755); err != nil {
		return err
	}
	temp := filepath.Join(s.Remote(), fresh+"-"+prefix)
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return errors.Join(err, remove(temp))
	}
	return os.Rename(temp, path)
}

// A remoteFile is what one file of the directory said when it was read.
type remoteFile struct {
	stat    os.FileInfo
	records []*Record
	err     error
}

// Remote returns the records of other hosts' containers, and why files or parts
// of them are left out. A record of a file that did not change is the same
// pointer as before.
func (r *Reader) Remote() ([]*Record, error) {
	entries, err := os.ReadDir(r.store.Remote())
	errs := []error{ignore(err)}
	files := make(map[string]*remoteFile, len(entries))
	for _, e := range entries {
		network, _, ok := strings.Cut(e.Name(), "@")
		if !ok || strings.HasPrefix(e.Name(), fresh) {
			continue
		}
		f := r.remote[e.Name()]
		st, err := os.Lstat(filepath.Join(r.store.Remote(), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // meanwhile
		}
		if f == nil || err != nil || !os.SameFile(st, f.stat) || !st.ModTime().Equal(f.stat.ModTime()) || st.Size() != f.stat.Size() {
			f = &remoteFile{stat: st}
			f.records, f.err = r.store.readRemote(e.Name(), network)
		}
		files[e.Name()] = f
	}
	r.remote = files
	var all []*Record
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all = append(all, files[name].records...)
		errs = append(errs, files[name].err)
	}
	return all, errors.Join(errs...)
}

// readRemote reads one file. What can be served of it is.
func (s Store) readRemote(name, network string) (records []*Record, err error) {
	data, err := os.ReadFile(filepath.Join(s.Remote(), name))
	if err != nil {
		return nil, ignore(err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	for _, one := range list {
		r, err := ParseRecord(one)
		if err == nil && r.Mark.Network() != network {
			err = fmt.Errorf("record: mark %q is none of network %q", r.Mark, network)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		records = append(records, &r)
	}
	return records, errors.Join(errs...)
}
