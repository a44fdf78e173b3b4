// Package tuning changes settings of a container's interface and namespace, and
// remembers in a file what they were, so that they can be restored.
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
// mark, holds the old values; it is what the attachment owns. A plugin that stands
// more than once in a list has a file each time, with what it has found.
type Tuning struct {
	Dir  string
	Mark owner.Mark
	NS   *netns.NS // the container's; removal does without
	Link string
	link.Settings
	Sysctls []sysctl.Value // in the order in which they are set

	after int // how many files of the mark were there before this one
}

var (
	_ engine.Joiner = Tuning{}
	_ engine.Scope  = Scope{}
)

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

func (t Tuning) file() string {
	name := t.Mark.Hash()
	if t.after > 0 {
		name += fmt.Sprintf("-%d", t.after+1)
	}
	return filepath.Join(t.Dir, name+".json")
}

// Key implements engine.Resource.
func (t Tuning) Key() string { return "tuning " + t.file() }

func (t Tuning) String() string {
	var commands []string
	if !t.Any() && t.Sysctls == nil {
		return "the old values in " + t.file()
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
	t, err := t.lasting()
	if err != nil {
		return engine.Same, err
	}
	now, err := t.now()
	if err != nil {
		return engine.Same, err
	}
	diff := t.Differs(now.Settings)
	for _, v := range t.Sysctls {
		i := slices.IndexFunc(now.Sysctls, func(n sysctl.Value) bool { return n.Name == v.Name })
		if i >= 0 && !v.Equal(now.Sysctls[i].Value) { // what cannot be read is not compared
			diff = engine.First(diff, engine.Differ(v.Name, now.Sysctls[i].Value, v.Normal()))
		}
	}
	return diff, nil
}

// lasting is t without what a later one of the list has found as t had set it, and has
// changed.
func (t Tuning) lasting() (Tuning, error) {
	for later, found, err := t.next(); found || err != nil; later, found, err = later.next() {
		if err != nil {
			return t, err
		}
		data, err := os.ReadFile(later.file())
		if err != nil {
			return t, err
		}
		var old saved
		if json.Unmarshal(data, &old) == nil {
			t = t.except(old)
		}
	}
	return t, nil
}

// next is the Tuning whose file comes after, and whether there is one.
func (t Tuning) next() (Tuning, bool, error) {
	t.after++
	_, err := os.Stat(t.file())
	return t, err == nil, missing(err)
}

// except is t without the values of s.
func (t Tuning) except(s saved) Tuning {
	t.Settings = t.Except(s.Settings)
	t.Sysctls = slices.DeleteFunc(slices.Clone(t.Sysctls), func(v sysctl.Value) bool {
		return slices.ContainsFunc(s.Sysctls, func(o sysctl.Value) bool { return o.Name == v.Name && v.Equal(o.Value) })
	})
	return t
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
	return t.set()
}

func (t Tuning) set() error {
	if err := sysctl.Write(t.NS, t.Sysctls); err != nil {
		return err
	}
	return t.Set(t.NS, t.Link)
}

// Join implements engine.Joiner: it changes what is not as wanted yet.
func (t Tuning) Join(ctx context.Context) error {
	now, err := t.now()
	if err != nil {
		return err
	}
	if t = t.except(now); !t.Any() && len(t.Sysctls) == 0 {
		return nil
	}
	if now, err = t.now(); err != nil {
		return err
	}
	for err = engine.ErrExists; errors.Is(err, engine.ErrExists); {
		t.after++
		err = t.save(now)
	}
	if err != nil {
		return err
	}
	if err = t.set(); err != nil {
		err = errors.Join(err, t.Remove(ctx))
	}
	return err
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

// Remove restores the old values, if the link is still there, and removes the file,
// also where the values cannot be restored.
func (t Tuning) Remove(context.Context) error {
	data, err := os.ReadFile(t.file())
	if err != nil {
		return missing(err)
	}
	var old saved
	lost := json.Unmarshal(data, &old)
	if lost == nil {
		lost = old.restore(netns.At(old.Path))
	}
	if err = missing(os.Remove(t.file())); err == nil && lost != nil {
		err = &engine.RestoreError{Err: lost}
	}
	return err
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
	found, index, err := s.Found(ns, s.Link)
	if changed := s.Except(found); err == nil && index == s.Index && changed.Any() {
		err = changed.Set(ns, s.Link)
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
func (s Scope) Of(_ context.Context, m owner.Mark) (all []engine.Found, err error) {
	t, found, err := Tuning{Dir: s.Dir, Mark: m, after: -1}.next()
	for err == nil && (found || t.after == 0) { // the first may be missing alone
		if found {
			all = append(all, engine.Found{Mark: m, Resource: t})
		}
		t, found, err = t.next()
	}
	return all, err
}

// All implements engine.Scope.
func (s Scope) All(ctx context.Context) (out []engine.Found, err error) {
	paths, err := filepath.Glob(filepath.Join(s.Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		data, _ := os.ReadFile(path) // gone meanwhile: no JSON
		var of saved
		if json.Unmarshal(data, &of) == nil && of.Mark.Valid() && of.Mark.Hash()+".json" == filepath.Base(path) {
			found, err := s.Of(ctx, of.Mark)
			errs = append(errs, err)
			out = append(out, found...)
		}
	}
	return out, errors.Join(errs...)
}
