package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A dir is the directory of one network as the reference plugin lays it out: a
// file per leased address, named by it, holding "<containerID>\r\n<ifname>";
// last_reserved_ip.<n>; lock. It is the truth about what is leased.
//
// Nothing in it is synced to disk. What a power failure takes away, leases,
// belonged to containers that it ended too; what it may leave behind, an empty
// file, is known for what it is.
type dir string

// own is what this package adds. The reference plugin reads every file below
// the directory, looking for one that holds "<containerID>\r\n<ifname>"; the
// index cannot be taken for that, as its first bytes are in no container ID.
func (d dir) own(name string) string { return filepath.Join(string(d), ".dockyard", name) }

func (d dir) file(a netip.Addr) string { return filepath.Join(string(d), a.String()) }

func content(k owner.Key) string {
	return strings.TrimSpace(k.ContainerID) + "\r\n" + k.IfName
}

// errTaken is returned for an address whose file is there already.
var errTaken = errors.New("address file exists")

// create leases a to k. The kernel decides who is first (O_EXCL), whatever the
// index says. An empty file is nobody's: every writer holds the lock, so the
// one that made it has died, or found the disk full.
func (d dir) create(a netip.Addr, k owner.Key) error {
	f, err := d.exclusive(a)
	if errors.Is(err, fs.ErrExist) {
		if st, statErr := os.Lstat(d.file(a)); statErr != nil || st.Size() > 0 || !st.Mode().IsRegular() {
			return errTaken
		}
		if err = d.remove(a); err == nil {
			f, err = d.exclusive(a)
		}
	}
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	_, err = f.WriteString(content(k))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("lease: %w", errors.Join(err, d.remove(a)))
	}
	return nil
}

func (d dir) exclusive(a netip.Addr) (*os.File, error) {
	return os.OpenFile(d.file(a), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// read returns what the file of a holds.
func (d dir) read(a netip.Addr) (string, error) {
	data, err := os.ReadFile(d.file(a))
	return strings.TrimSpace(string(data)), err
}

func (d dir) remove(a netip.Addr) error {
	if err := os.Remove(d.file(a)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Writable fails if a lease of the network could not be written. It leaves nothing: the
// file has no name, and where the directory is missing, it is in that above which there
// is.
func Writable(dataDir, network string) error {
	path := filepath.Join(dataDir, network)
	f, err := os.OpenFile(path, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	for errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		f, err = os.OpenFile(path, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return unix.Access(path, unix.W_OK) // not every file system has files without a name
	}
	if err == nil {
		_, err = f.WriteString(network)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("leases of network %q cannot be written: %w", network, err)
	}
	return nil
}

// list returns what every address file holds, nothing for one that cannot be
// read. It removes empty ones. Other files are left alone, whoever made them.
func (d dir) list() (map[netip.Addr]string, error) {
	names, err := readNames(string(d))
	if err != nil {
		return nil, err
	}
	leased := make(map[netip.Addr]string, len(names))
	for _, name := range names {
		a, err := netip.ParseAddr(name)
		if err != nil || a.String() != name {
			continue
		}
		text, err := d.read(a)
		if err != nil || text != "" {
			leased[a] = text
		} else if err := d.remove(a); err != nil {
			return nil, err
		}
	}
	return leased, nil
}

func readNames(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// parse returns the attachment that an address file names. Files of versions
// before 2018 hold the container ID alone.
func parse(network, text string) owner.Key {
	id, ifName, _ := strings.Cut(text, "\r\n")
	return owner.Key{Network: network, ContainerID: id, IfName: ifName}
}

func (d dir) lastFile(i int) string {
	return filepath.Join(string(d), "last_reserved_ip."+strconv.Itoa(i))
}

// last returns the address that was given last from the i-th pool, by either
// implementation; the zero Addr if that is unknown.
func (d dir) last(i int) netip.Addr {
	data, _ := os.ReadFile(d.lastFile(i))
	a, _ := netip.ParseAddr(strings.TrimSpace(string(data)))
	return a.Unmap()
}

// setLast tells the reference plugin where to go on. It is a hint, so a full
// disk must not fail an ADD over it. The file is not truncated first: ext4 takes
// that for a replacement, and starts to write it to disk on close.
func (d dir) setLast(i int, a netip.Addr) {
	f, err := os.OpenFile(d.lastFile(i), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	text := a.String()
	_, _ = f.WriteString(text)
	_ = f.Truncate(int64(len(text)))
	_ = f.Close()
}

// changed returns when an entry of the directory was last made or removed, or
// what mark put there since.
func (d dir) changed() (unix.Timespec, error) {
	var st unix.Stat_t
	err := unix.Stat(string(d), &st)
	return st.Mtim, err
}

// mark sets that time to one that no change of the directory gives it, an hour
// ago, and returns it as the file system keeps it. If changed returns the same
// later on, nobody, not even the reference plugin, has touched the directory,
// however coarse the clock of the file system is.
func (d dir) mark() (unix.Timespec, error) {
	t, err := unix.TimeToTimespec(time.Now().Add(-time.Hour))
	if err != nil {
		return t, err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, string(d), times, 0); err != nil {
		return t, err
	}
	return d.changed()
}
