// Package filelock is an exclusive lock between processes, by flock(2) on a file.
// The lock ends with the process that holds it, however that ends.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Deadline is how long Acquire waits at most. Three hundred ADDs may queue for one
// lock; a process that was stopped while it held one must not hold up the host.
const Deadline = time.Minute

// ErrBusy is wrapped by the error of a lock that another process holds.
var ErrBusy = errors.New("is locked")

// Acquire waits for the lock on a file until ctx is done, for Deadline at most, and
// returns what releases it. The error then names the process that holds the lock.
// The path is a directory that exists, or a file, which is made where it is missing.
func Acquire(ctx context.Context, path string) (release func(), err error) {
	f, err := acquire(ctx, path, Deadline)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// File is Acquire for who lets a program that it starts inherit the lock: that ends
// when every copy of the file is closed.
func File(ctx context.Context, path string) (*os.File, error) {
	return acquire(ctx, path, Deadline)
}

// Try is Acquire that does not wait. A daemon that holds such a lock for as long as
// it runs is the only one of its kind.
func Try(path string) (release func(), err error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(f, unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("%s %w by %s", path, ErrBusy, holder(f))
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func acquire(ctx context.Context, path string, deadline time.Duration) (*os.File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err = flock(f, unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return wait(ctx, f, deadline)
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// wait has the kernel wait in a goroutine of its own, as nothing ends flock(2) but
// the lock: Go's signal handlers restart it. What is still waited for when ctx is
// done is released as soon as it comes.
func wait(ctx context.Context, f *os.File, deadline time.Duration) (*os.File, error) {
	limited, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	locked := make(chan error)
	go func() {
		err := flock(f, 0)
		select {
		case locked <- err:
		case <-limited.Done():
			_ = f.Close()
		}
	}()
	var err error
	select {
	case err = <-locked:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		return f, nil
	case <-limited.Done():
	}
	if err = ctx.Err(); err == nil {
		err = fmt.Errorf("not free within %s", deadline)
	}
	return nil, fmt.Errorf("%s %w by %s: %w", f.Name(), ErrBusy, holder(f), err)
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func open(path string) (*os.File, error) {
	const flags, mode = os.O_RDONLY | os.O_CREATE, 0o600
	f, err := os.OpenFile(path, flags, mode)
	if errors.Is(err, unix.EISDIR) {
		return os.Open(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			f, err = os.OpenFile(path, flags, mode)
		}
	}
	return f, err
}

// holder names the process that holds the lock on f, as far as /proc shows it.
func holder(f *os.File) string {
	const unknown = "another process"
	info, err := f.Stat()
	if err != nil {
		return unknown
	}
	locks, _ := os.ReadFile("/proc/locks")
	inode := fmt.Sprintf(":%d", info.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(locks)) {
		// "1: FLOCK  ADVISORY  WRITE 4711 00:1b:815 0 EOF"; of one that waits, "->" is second
		w := strings.Fields(line)
		if len(w) < 6 || w[1] != "FLOCK" || !strings.HasSuffix(w[5], inode) || !opened(w[4], info) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join("/proc", w[4], "comm"))
		return fmt.Sprintf("process %s (%s)", w[4], strings.TrimSpace(string(command)))
	}
	return unknown
}

// opened reports whether a process has a file open: an inode's number alone says
// little, and not all file systems have one device number.
func opened(pid string, file fs.FileInfo) bool {
	if _, err := strconv.Atoi(pid); err != nil {
		return false
	}
	dir := filepath.Join("/proc", pid, "fd")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}
