package link

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

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// under is how a link is used that only carries another.
const under = "under"

func (u Use) join(ctx context.Context, l Shared, how string) error {
	dir := filepath.Join(linksDir, l.Name)
	if err := os.MkdirAll(filepath.Join(dir, how), 0o700); err != nil {
		return err
	}
	if err := conflict(u.Mark, l.Name, how); err != nil {
		return err
	}
	// It may be there from an attachment whose record somebody has taken away.
	if err := os.Symlink(u.file(), filepath.Join(dir, how, fileName(u.Mark))); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return l.ensure(ctx, filepath.Join(dir, madeName))
}

// conflict fails if who uses a link already leaves no room for this use.
func conflict(self owner.Mark, link, how string) error {
	if how == under {
		return nil
	}
	uses, err := usesOf(link)
	for _, its := range uses {
		if its == under || its == how && !exclusive(how) {
			continue
		}
		holder, failed := liveUser(link, its, self)
		if holder != "" {
			return held(link, holder, its, how)
		}
		err = errors.Join(err, failed)
	}
	return err
}

// liveUser returns one who shares a link in this way, other than self.
func liveUser(link, how string, self owner.Mark) (owner.Mark, error) {
	users, err := os.ReadDir(filepath.Join(linksDir, link, how))
	for _, e := range users {
		if m := markOf(e.Name()); m != self && lives(m) {
			return m, nil
		}
	}
	return "", ignoreMissing(err)
}

// usesOf returns the ways in which a link is shared: one, if nobody is dead, and
// perhaps under.
func usesOf(link string) (uses []string, err error) {
	entries, err := os.ReadDir(filepath.Join(linksDir, link))
	for _, e := range entries {
		if e.IsDir() {
			uses = append(uses, e.Name())
		}
	}
	return uses, ignoreMissing(err)
}

// lives reports whether the namespace of an attachment is still there. If its
// number is another's by now, it is thought to be.
func lives(m owner.Mark) bool {
	r, _, err := read(m)
	if err != nil {
		return true
	}
	_, err = lookup(r.netns(), "lo")
	return !errors.Is(err, unix.EINVAL)
}

// held says who keeps a link from being shared in another way.
func held(link string, holder owner.Mark, its, how string) error {
	if its != "" {
		its = " as " + its
	}
	return fmt.Errorf("%w%s, which does not go with %s; use another parent, or a VLAN of this one", &engine.HeldError{Object: "link " + link, Holder: string(holder)}, its, how)
}

func markOf(file string) owner.Mark { return owner.Mark(strings.ReplaceAll(file, ":", "/")) }

// leave takes a user from a link, and the link with the last, if it was made.
func leave(name string, m owner.Mark) error {
	uses, err := usesOf(name)
	if err != nil {
		return err
	}
	dir, last := filepath.Join(linksDir, name), true
	for _, how := range uses {
		only, err := alone(filepath.Join(dir, how), m)
		if err != nil {
			return err
		}
		last = last && only
	}
	if last {
		if err := unmake(name); err != nil {
			return err
		}
	}
	for _, how := range uses {
		if err := ignoreMissing(os.Remove(filepath.Join(dir, how, fileName(m)))); err != nil {
			return err
		}
		if err := removeEmpty(filepath.Join(dir, how)); err != nil {
			return err
		}
	}
	return removeEmpty(dir)
}

// unmake deletes a link, if it was made for its users.
func unmake(name string) error {
	made := filepath.Join(linksDir, name, madeName)
	if ours, err := there(made); err != nil || !ours {
		return err
	}
	if err := (Shared{Name: name}).remove(); err != nil {
		return err
	}
	return os.Remove(made)
}

// alone reports whether nobody but m is in a directory of users. It reads no more
// of it than it needs.
func alone(dir string, m owner.Mark) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return true, ignoreMissing(err)
	}
	defer f.Close() //nolint:errcheck // only read
	names, err := f.Readdirnames(2)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return !slices.ContainsFunc(names, func(n string) bool { return n != fileName(m) }), err
}

// removeEmpty removes a directory that nothing is in.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return ignoreMissing(err)
}

// lockUses keeps others from counting users while this process does.
func lockUses(ctx context.Context) (unlock func(), err error) {
	for _, dir := range []string{usersDir, linksDir} {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return filelock.Acquire(ctx, usesDir)
}

func there(path string) (bool, error) {
	_, err := os.Lstat(path)
	return err == nil, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
