package zone

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/owner"
)

// A Reader reads all records again and again, at the cost of what has changed.
type Reader struct {
	store  Store
	root   os.FileInfo
	dirs   map[string]*readDir
	remote map[string]*remoteFile
	// Bad has, after Read, why files that should be records are none.
	Bad map[owner.Mark]error
}

// A readDir is what is known of the directory of one container.
type readDir struct {
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
func (s Store) Reader() *Reader { return &Reader{store: s} }

// Read returns the records of all attachments. A record that did not change is
// the same pointer as before. Wiped reports whether the directory is another one
// than it was: then what is missing was not taken away by anybody's DEL.
func (r *Reader) Read() (records []*Record, wiped bool, err error) {
	root, err := os.Stat(r.store.Containers())
	if err != nil {
		return nil, false, err
	}
	wiped = r.root != nil && !os.SameFile(root, r.root)
	names, err := r.store.names()
	if err != nil {
		return nil, false, err
	}
	dirs, bad := make(map[string]*readDir, len(names)), map[owner.Mark]error{}
	for _, name := range names {
		d, err := r.readDir(name, r.dirs[name])
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		dirs[name] = d
		for m, f := range d.files {
			if f.record != nil {
				records = append(records, f.record)
			} else {
				bad[m] = f.err
			}
		}
	}
	r.root, r.dirs, r.Bad = root, dirs, bad
	return records, wiped, nil
}

func (r *Reader) readDir(name string, known *readDir) (*readDir, error) {
	st, err := os.Lstat(r.store.container(name))
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return &readDir{}, nil
	}
	if known != nil && known.sure && known.changed.Equal(st.ModTime()) {
		return known, nil
	}
	marks, err := r.store.MarksOf(name)
	if err != nil {
		return nil, err
	}
	d := &readDir{changed: st.ModTime(), sure: time.Since(st.ModTime()) > settled, files: map[owner.Mark]*readFile{}}
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
