package zone

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// Scope finds the entries of attachments: by their records, and where those are
// lost by their lines in hosts files. netns is the name under which ip-netns(8)
// knows the namespace of the attachment in question, "" if that is not known.
func (s Store) Scope(netns string) engine.Scope { return scope{s, netns} }

type scope struct {
	Store
	netns string
}

// Of implements engine.Scope.
func (s scope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	// What ADD left that was killed early counts too.
	for _, path := range []string{s.path(m), s.container(m.Container()), s.hosts(fresh)} {
		if _, err := os.Lstat(path); err == nil {
			return []engine.Found{s.found(m)}, nil
		}
	}
	if s.netns != "" && s.linkedForNetNS(m.Container(), filepath.Join(s.NetNS, s.netns), hostsFile) {
		return []engine.Found{s.found(m)}, nil
	}
	files, err := s.hostsOf(m.Network())
	for name := range files {
		if s.marksIn(name, func(h *hosts) iter.Seq[line] { return h.of(m) }) != nil {
			return []engine.Found{s.found(m)}, nil
		}
	}
	return nil, err
}

func (s scope) found(m owner.Mark) engine.Found {
	return engine.Found{Mark: m, Resource: Entry{Store: s.Store, Record: Record{Mark: m}, netns: s.netns}}
}

// marksIn are the marks of the lines of a hosts file; of one that has gone, none.
func (s scope) marksIn(name string, find func(*hosts) iter.Seq[line]) (marks []owner.Mark) {
	h, err := readHosts(s.hosts(name), os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer func() { _ = h.file.Close() }()
	for l := range find(h) {
		marks = append(marks, l.mark)
	}
	return marks
}

// All implements engine.Scope.
func (s scope) All(context.Context) ([]engine.Found, error) {
	marks, err := s.Marks()
	dir, openErr := os.Open(s.hostsDir())
	if openErr != nil {
		return s.all(marks), errors.Join(err, ignore(openErr))
	}
	defer func() { _ = dir.Close() }()
	names, readErr := dir.Readdirnames(-1)
	for _, name := range names {
		marks = append(marks, s.marksIn(name, (*hosts).lines)...)
	}
	slices.Sort(marks)
	return s.all(slices.Compact(marks)), errors.Join(err, readErr)
}

func (s scope) all(marks []owner.Mark) (out []engine.Found) {
	for _, m := range marks {
		out = append(out, s.found(m))
	}
	return out
}
