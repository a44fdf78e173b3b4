// Package tuning changes settings of a container's interface and namespace, and
// remembers in a file what they were, so that they can be given back.
package tuning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// A Tuning is the settings of one attachment. Its file in Dir, named after the
// mark, holds the old values; it is what the attachment owns.
type Tuning struct {
	Dir  string
	Mark owner.Mark
	NS   *netns.NS // the container's; removal does without
	Link string
	link.Settings
	Sysctls []sysctl.Value // in the order in which they are set
}

// saved is the content of a file: the reference plugin's keys, and which link
// and namespace they are of. The path may lead to another one later, so the
// inode counts.
type saved struct {
	Mark  owner.Mark `json:"mark"`
	Path  string     `json:"path"`
	NetNS uint64     `json:"netns"` // inode
	Link  string     `json:"link"`
	Index int        `json:"index"`
	link.Settings
	Sysctls []sysctl.Value `json:"sysctl,omitempty"`
}

func (t Tuning) file() string { return filepath.Join(t.Dir, t.Mark.Hash()+".json") }

// Key implements engine.Resource.
func (t Tuning) Key() string { return "tuning " + t.file() }

func (t Tuning) String() string {
	var commands []string
	if !t.Any() && t.Sysctls == nil {
		return "give back old values in " + t.file()
	}
	if t.Any() {
		commands = append(commands, fmt.Sprintf("ip %slink set %s%s", t.NS, t.Link, t.Settings))
	}
	for _, v := range t.Sysctls {
		commands = append(commands, sysctl.Set(t.NS, v.Name, v.Value).String())
	}
	return strings.Join(commands, " ; ") + " # old values in " + t.file()
}

// Observe implements engine.Resource.
func (t Tuning) Observe(context.Context) (engine.Diff, error) {
	if _, err := os.Stat(t.file()); err != nil {
		return engine.Absent, missing(err)
	}
	now, err := t.now()
	if err != nil {
		return engine.Same, err
	}
	diff := t.Differs(now.Settings)
	for _, v := range t.Sysctls {
		i := slices.IndexFunc(now.Sysctls, func(n sysctl.Value) bool { return n.Name == v.Name })
		if i >= 0 { // what cannot be read is not compared
			diff = engine.First(diff, engine.Differ(v.Name, now.Sysctls[i].Value, v.Normal()))
		}
	}
	return diff, nil
}

// now looks at all that t sets.
func (t Tuning) now() (s saved, err error) {
	s = saved{Mark: t.Mark, Link: t.Link, Path: t.NS.Path()}
	if s.NetNS, err = t.NS.Inode(); err != nil {
		return s, err
	}
	if s.Settings, s.Index, err = t.Found(t.NS, t.Link); err != nil {
		return s, err
	}
	if s.Index == 0 {
		return s, fmt.Errorf("link %s: no such link", t.Link)
	}
	s.Sysctls, err = sysctl.Read(t.NS, t.Sysctls)
	return s, err
}

// Apply saves, then sets. The file appears whole or not at all.
func (t Tuning) Apply(context.Context) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	if err := t.save(now); err != nil {
		return err
	}
	if err := sysctl.Write(t.NS, t.Sysctls); err != nil {
		return err
	}
	return t.Set(t.NS, t.Link)
}

func (t Tuning) save(s saved) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(t.Dir, 0o700); err != nil {
		return err
	}
	// A file without a name until it is complete; nothing is left of it if we
	// are killed (open(2), O_TMPFILE).
	f, err := os.OpenFile(t.Dir, unix.O_TMPFILE|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("save old values: %w", err)
	}
	if _, err = f.Write(data); err == nil {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, t.file(), unix.AT_SYMLINK_FOLLOW)
	}
	if errors.Is(err, unix.EEXIST) {
		err = engine.ErrExists
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save old values in %s: %w", t.file(), err)
	}
	return nil
}

// Remove gives the old values back, if the link is still there, and removes the
// file.
func (t Tuning) Remove(context.Context) error {
	data, err := os.ReadFile(t.file())
	if err != nil {
		return missing(err)
	}
	var old saved
	// A file that is damaged gives nothing back, and must not keep the
	// container from going.
	if json.Unmarshal(data, &old) == nil {
		if err := old.restore(netns.At(old.Path)); err != nil {
			return fmt.Errorf("give back old values: %w", err)
		}
	}
	return missing(os.Remove(t.file()))
}

// restore does nothing in another namespace, or to another link, than the values
// are of.
func (s saved) restore(ns *netns.NS) error {
	if s.Path != "" && ns.Gone() {
		return nil
	}
	if inode, err := ns.Inode(); err != nil || inode != s.NetNS {
		return err
	}
	_, index, err := s.Found(ns, s.Link)
	if err != nil {
		return err
	}
	if index == s.Index {
		err = s.Set(ns, s.Link)
	}
	slices.Reverse(s.Sysctls)
	return errors.Join(err, sysctl.Restore(ns, s.Sysctls))
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A Scope finds the files in a directory.
type Scope struct{ Dir string }

// Of implements engine.Scope.
func (s Scope) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	t := Tuning{Dir: s.Dir, Mark: m}
	if _, err := os.Stat(t.file()); err != nil {
		return nil, missing(err)
	}
	return []engine.Found{{Mark: m, Resource: t}}, nil
}

// All implements engine.Scope.
func (s Scope) All(context.Context) ([]engine.Found, error) {
	paths, err := filepath.Glob(filepath.Join(s.Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []engine.Found
	for _, path := range paths {
		data, _ := os.ReadFile(path) // gone meanwhile: no JSON
		var found saved
		if json.Unmarshal(data, &found) == nil && found.Mark.Valid() && found.Mark.Hash()+".json" == filepath.Base(path) {
			out = append(out, engine.Found{Mark: found.Mark, Resource: Tuning{Dir: s.Dir, Mark: found.Mark}})
		}
	}
	return out, nil
}
