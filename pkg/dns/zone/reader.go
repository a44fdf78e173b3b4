package zone

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Reader reads all records again and again, at the cost of what has changed.
type Reader struct {
	store  Store
	root   os.FileInfo
	dirs   map[string]*readDir
	remote map[string]*remoteFile
	// Bad has, after Read, why files of those containers that should be records are none.
	Bad map[owner.Mark]error
}

// A readDir is what is known of the directory of one container.
type readDir struct {
	there   bool
	changed time.Time // of the directory, when it was read
	sure    bool      // that it has not changed since without showing it
	files   map[owner.Mark]*readFile
}

type readFile struct {
	stat   os.FileInfo
	record *Record // nil: none
	err    error
}

// settled is how old a change of a directory must be for another one to show in
// its time: the kernel's clock for files goes in steps of up to 10 ms.
const settled = 50 * time.Millisecond

// Reader returns a reader that knows nothing yet.
func (s Store) Reader() *Reader { return &Reader{store: s, dirs: map[string]*readDir{}} }

// Read returns the records that these containers have now; of those that are no
// more there are none. Without a name they are all that there are or were. A
// record that did not change is the same pointer as before. Wiped reports whether
// the directory is another one than it was: then what is missing was not taken
// away by anybody's DEL, and all containers are read.
func (r *Reader) Read(containers ...string) (found map[string][]*Record, wiped bool, err error) {
	root, err := os.Stat(r.store.Containers())
	if err != nil {
		return nil, false, err
	}
	wiped = r.root != nil && !os.SameFile(root, r.root)
	if len(containers) == 0 || wiped {
		if containers, err = r.store.names(); err != nil {
			return nil, false, err
		}
		containers = slices.AppendSeq(containers, maps.Keys(r.dirs))
	}
	dirs := make(map[string]*readDir, len(containers))
	for _, name := range containers {
		if dirs[name] != nil {
			continue
		}
		if dirs[name], err = r.readDir(name, r.dirs[name]); err != nil {
			return nil, false, err
		}
	}
	r.root, r.Bad = root, map[owner.Mark]error{}
	return r.take(dirs), wiped, nil
}

// take notes what has been read.
func (r *Reader) take(dirs map[string]*readDir) map[string][]*Record {
	found := make(map[string][]*Record, len(dirs))
	for name, d := range dirs {
		found[name] = nil
		for m, f := range d.files {
			if f.record != nil {
				found[name] = append(found[name], f.record)
			} else {
				r.Bad[m] = f.err
			}
		}
		if d.there {
			r.dirs[name] = d
		} else {
			delete(r.dirs, name)
		}
	}
	return found
}

// In returns the containers that have a record with the path of that namespace.
func (r *Reader) In(netns string) (containers []string) {
	for name, d := range r.dirs {
		for _, f := range d.files {
			if f.record != nil && f.record.NetNS == netns {
				containers = append(containers, name)
			}
		}
	}
	return containers
}

func (r *Reader) readDir(name string, known *readDir) (*readDir, error) {
	st, err := os.Lstat(r.store.container(name))
	if errors.Is(err, fs.ErrNotExist) {
		return &readDir{}, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return &readDir{there: true}, nil
	}
	if known != nil && known.sure && known.changed.Equal(st.ModTime()) {
		return known, nil
	}
	marks, err := r.store.MarksOf(name)
	if err != nil {
		return nil, err
	}
	d := &readDir{there: true, changed: st.ModTime(), sure: time.Since(st.ModTime()) > settled, files: map[owner.Mark]*readFile{}}
	for _, m := range marks {
		var before *readFile
		if known != nil {
			before = known.files[m]
		}
		if f := r.readFile(m, before); f != nil {
			d.files[m] = f
		}
	}
	return d, nil
}

// readFile returns nil for a file that has gone meanwhile.
func (r *Reader) readFile(m owner.Mark, known *readFile) *readFile {
	st, err := os.Lstat(r.store.path(m))
	if err != nil {
		return nil
	}
	if known != nil && os.SameFile(st, known.stat) && st.ModTime().Equal(known.stat.ModTime()) && st.Size() == known.stat.Size() {
		return known
	}
	f := &readFile{stat: st}
	if !st.Mode().IsRegular() || st.Size() > maxRecord {
		f.err = fmt.Errorf("%s of %d bytes is no record", st.Mode().Type(), st.Size())
		return f
	}
	record, err := r.store.Read(m)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.err = err
		return f
	}
	f.record = &record
	return f
}
