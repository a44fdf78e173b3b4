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

	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// under is how a link is used that only carries another.
const under = "under"

func (u Use) join(ctx context.Context, l Shared, how string) error {
	dir := filepath.Join(linksDir, l.Name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := conflict(u.Mark, l.Name, how); err != nil {
		return err
	}
	entry := filepath.Join(dir, fileName(u.Mark))
	if err := ignoreMissing(os.Remove(entry)); err != nil { // of an attachment whose record somebody has taken away
		return err
	}
	if err := os.Symlink(how, entry); err != nil {
		return err
	}
	return l.ensure(ctx, filepath.Join(dir, madeName))
}

// conflict fails if who uses a link already leaves no room for this use.
func conflict(self owner.Mark, link, how string) error {
	if how == under {
		return nil
	}
	return eachUser(link, func(m owner.Mark, its string) error {
		if its == how && !exclusive(how) || its == under || m == self || !lives(m) {
			return nil
		}
		return held(link, m, its, how)
	})
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
	return fmt.Errorf("%w%s, which does not go with %s; use another parent, or a VLAN of this one", &state.HeldError{Object: "link " + link, Holder: holder}, its, how)
}

// eachUser calls f for each who uses a link, until it fails.
func eachUser(link string, f func(m owner.Mark, how string) error) error {
	entries, err := os.ReadDir(filepath.Join(linksDir, link))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() == madeName || err != nil {
			continue
		}
		var how string
		if how, err = os.Readlink(filepath.Join(linksDir, link, e.Name())); err == nil {
			err = f(markOf(e.Name()), how)
		}
	}
	return err
}

func markOf(file string) owner.Mark { return owner.Mark(strings.ReplaceAll(file, ":", "/")) }

// leave takes a user from a link, and the link with the last, if it was made.
func leave(name string, m owner.Mark) error {
	dir := filepath.Join(linksDir, name)
	last, err := alone(dir, m)
	if err != nil {
		return err
	}
	made := filepath.Join(dir, madeName)
	if ours, err := there(made); err != nil {
		return err
	} else if last && ours {
		if err := (Shared{Name: name}).remove(); err != nil {
			return err
		}
		if err := os.Remove(made); err != nil {
			return err
		}
	}
	if err := ignoreMissing(os.Remove(filepath.Join(dir, fileName(m)))); err != nil || !last {
		return err
	}
	return ignoreMissing(os.Remove(dir))
}

// alone reports whether nobody but m uses the link of this directory. It reads
// no more of it than it needs.
func alone(dir string, m owner.Mark) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read
	names, err := f.Readdirnames(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return !slices.ContainsFunc(names, func(n string) bool { return n != madeName && n != fileName(m) }), nil
}

// lockUses keeps others from counting users while this process does.
func lockUses() (unlock func(), err error) {
	for _, dir := range []string{usersDir, linksDir} {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(usesDir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", usesDir, err)
	}
	return func() { _ = f.Close() }, nil
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
