package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	release, err := Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// whole checks an error of a lock that this process holds.
func whole(t *testing.T, err error, path string, cause error) {
	t.Helper()
	this := fmt.Sprintf("%s is locked by process %d (filelock.test)", path, os.Getpid())
	if !errors.Is(err, ErrBusy) || !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), this) {
		t.Errorf("%v, want %s: %v", err, this, cause)
	}
}

// SIGTERM cancels the context of a plugin; a wait for a lock ends with it.
func TestD4WaitEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	defer hold(t, path)()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := Acquire(ctx, path)
		ended <- err
	}()
	cancel()
	whole(t, <-ended, path, context.Canceled)
}

func TestD4WaitHasADeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release := hold(t, path)
	_, err := acquire(t.Context(), path, time.Millisecond)
	whole(t, err, path, ErrBusy)
	if !strings.HasSuffix(err.Error(), ": not free within 1ms") {
		t.Error(err)
	}
	release()
	hold(t, path)() // who gave up waiting does not keep the lock when it comes
}

func TestTry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "daemon.lock") // the directory is made, too
	release, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Try(path)
	whole(t, err, path, ErrBusy)
	release()
	if release, err = Try(path); err != nil {
		t.Fatal(err)
	}
	release()
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	release := hold(t, dir)
	if _, err := Try(dir); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	release()
	if _, err := Acquire(t.Context(), filepath.Join("/proc", "no", "such")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// At any time one of many has the lock, also where some of them give up.
func TestMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			release, err := Acquire(ctx, path)
			if err != nil {
				if i%3 != 0 {
					t.Error(err)
				}
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two have the lock")
			}
			inside.Add(-1)
			release()
		})
	}
	all.Wait()
	hold(t, path)()
}
