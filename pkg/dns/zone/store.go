package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Store is the directory of all records and hosts files. It is true until the
// next boot, and can be made again from the containers that run.
//
//	lock
//	containers/c1/net@eth0       the record of net/c1/eth0: its path is its mark
//	containers/c1/hosts          a link to that of the container's networks
//	containers/c1/resolv.conf
//	hosts/net                    of containers on one network
//	hosts/net+other              of containers on these two
//	seals/net                    tells whether somebody else has written to hosts/net
//	remote/net@192.0.2.12        public records of containers on another host
//
// Whatever changes a record touches the directory of its container, so that it is
// enough to watch the directory above to know whose have changed.
type Store struct {
	Root  string
	NetNS string // where ip-netns(8) looks for the files of a namespace
}

// Default is the store of this host.
func Default() Store { return Store{Root: "/run/dockyard/dns", NetNS: "/etc/netns"} }

// Containers is the directory to watch.
func (s Store) Containers() string { return filepath.Join(s.Root, "containers") }

// Socket is where the daemon answers, if it runs (see pkg/daemon/control).
func (s Store) Socket() string { return filepath.Join(s.Root, "daemon.sock") }

func (s Store) container(name string) string { return filepath.Join(s.Containers(), name) }
func (s Store) hostsDir() string             { return filepath.Join(s.Root, "hosts") }
func (s Store) hosts(name string) string     { return filepath.Join(s.hostsDir(), name) }
func (s Store) seals() string                { return filepath.Join(s.Root, "seals") }
func (s Store) seal(name string) string      { return filepath.Join(s.seals(), name) }

func (s Store) path(m owner.Mark) string {
	return filepath.Join(s.container(m.Container()), m.Network()+"@"+m.IfName())
}

// markOf is the mark of a record's file; networks and containers have no '@'.
func markOf(container, file string) (owner.Mark, bool) {
	network, ifName, ok := strings.Cut(file, "@")
	m := owner.Mark(network + "/" + container + "/" + ifName)
	return m, ok && network != "" && ifName != "" && m.Valid()
}

// fresh is the name in each directory of what is about to be renamed: one, as
// whoever writes holds the lock.
const fresh = ".new"

// lock waits until nobody else writes. With the lock, what one who died was about
// to write is taken away.
func (s Store) lock(ctx context.Context) (unlock func(), err error) {
	for _, dir := range []string{s.Containers(), s.hostsDir()} {
		if err = os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(s.Root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR) && ctx.Err() == nil; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = remove(s.hosts(fresh))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// touch shows those who watch that the records of a container have changed.
func (s Store) touch(container string) error {
	return ignore(os.Chmod(s.container(container), 0o755))
}

// remove deletes a file; it is no error if there is none.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write makes a file appear whole or not at all, with its mode whatever the umask.
func write(path string, data []byte, mode fs.FileMode) error {
	temp := filepath.Join(filepath.Dir(path), fresh)
	err := os.WriteFile(temp, data, mode)
	if err == nil {
		err = os.Chmod(temp, mode)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, remove(temp))
	}
	return nil
}

// MarksOf lists the attachments of a container that have a record, in the order
// of their interfaces.
func (s Store) MarksOf(container string) (marks []owner.Mark, err error) {
	entries, err := os.ReadDir(s.container(container))
	if err = ignore(err); err != nil && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	for _, e := range entries {
		if m, ok := markOf(container, e.Name()); ok {
			marks = append(marks, m)
		}
	}
	slices.SortStableFunc(marks, func(a, b owner.Mark) int {
		return strings.Compare(a.IfName(), b.IfName())
	})
	return marks, nil
}

// Read returns the record of an attachment. The error of one that is not there
// wraps fs.ErrNotExist.
func (s Store) Read(m owner.Mark) (Record, error) {
	data, err := readRegular(s.path(m))
	if err != nil {
		return Record{}, err
	}
	r, err := ParseRecord(data)
	if err == nil && r.Mark != m {
		err = fmt.Errorf("record: the file of %s has the mark %s", m, r.Mark)
	}
	return r, err
}

// readRegular reads what may be a record: no link, nothing that blocks, nothing
// that does not end.
func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("record: a symbolic link")
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("record: no regular file"))
	}
	return io.ReadAll(io.LimitReader(f, maxRecord+1))
}

// Marks lists the attachments of all containers that have a record.
func (s Store) Marks() (marks []owner.Mark, err error) {
	containers, err := s.names()
	for _, c := range containers {
		of, ofErr := s.MarksOf(c)
		marks, err = append(marks, of...), errors.Join(err, ofErr)
	}
	return marks, err
}

// names lists the containers, and perhaps files that are none.
func (s Store) names() ([]string, error) {
	dir, err := os.Open(s.Containers())
	if err != nil {
		return nil, ignore(err)
	}
	defer func() { _ = dir.Close() }()
	return dir.Readdirnames(-1)
}

// records reads those of some networks. Which networks a container is on its link
// tells, so that it costs little to find that there are none.
func (s Store) records(networks []string) ([]Record, error) {
	containers, err := s.names()
	if err != nil {
		return nil, err
	}
	var on []owner.Mark
	for _, c := range containers {
		target, err := os.Readlink(filepath.Join(s.container(c), hostsFile))
		if name := filepath.Base(target); err == nil && name[0] != '+' && !meet(strings.Split(name, "+"), networks) {
			continue
		}
		marks, err := s.MarksOf(c)
		if err != nil {
			return nil, err
		}
		for _, m := range marks {
			if slices.Contains(networks, m.Network()) {
				on = append(on, m)
			}
		}
	}
	return s.known(on)
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// networksOn are the networks of some attachments, in the order in which a hosts
// file names them.
func networksOn(marks []owner.Mark) (out []string) {
	for _, m := range marks {
		out = append(out, m.Network())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
