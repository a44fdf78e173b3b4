package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A listing that is interrupted is none, and is asked for again; any other error is
// the caller's.
func TestDump(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		answers []error // the last one again and again
		want    error
		asked   int
	}{
		"at once":          {[]error{nil}, nil, 1},
		"interrupted":      {[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		"broken":           {[]error{netlink.ErrDumpInterrupted, broken}, broken, 2},
		"always something": {[]error{netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, 100},
	} {
		asked := 0
		got, err := Dump(func() (int, error) {
			asked++
			return asked, c.answers[min(asked, len(c.answers))-1]
		})
		if !errors.Is(err, c.want) || asked != c.asked || got != asked {
			t.Errorf("%s: %d, %v after %d, want %v after %d", name, got, err, asked, c.want, c.asked)
		}
	}
}

// own is a namespace that is that of this process, by a path.
const own = "/proc/self/ns/net"

// D5: a namespace that was closed is not entered any more, neither by the descriptor,
// whose number may be another file's by now, nor by the path, which may be another
// namespace's.
func TestD5NotUsedAfterClose(t *testing.T) {
	n := At(own)
	if err := n.Do(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	n.Close()
	n.Close()
	_, inodeErr := n.Inode()
	_, fdErr := n.FD()
	_, netlinkErr := n.Netlink()
	for use, err := range map[string]error{
		"open": n.Open(), "inode": inodeErr, "descriptor": fdErr, "netlink": netlinkErr,
		"do": n.Do(func() error { t.Error("entered"); return nil }),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after Close: %v", use, err)
		}
	}
	if n.Gone() {
		t.Error("a namespace that was closed is taken for one that is gone")
	}
}

// D5: while others close it, a namespace is entered or it is not; the descriptor that
// is used is always its own.
func TestD5CloseMeanwhile(t *testing.T) {
	want, err := At(own).Inode()
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		n := At(own)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				inode, err := n.Inode()
				if err == nil {
					err = n.Do(func() error { return nil })
				}
				if err != nil && !errors.Is(err, os.ErrClosed) || err == nil && inode != want {
					t.Errorf("inode %d, %v, want %d", inode, err, want)
				}
			})
		}
		n.Close()
		wg.Wait()
	}
}

// D10: a thread that finds no way back ends, and with it nothing else: the caller has
// an error, and nobody runs in the wrong namespace.
func TestD10NoWayBack(t *testing.T) {
	h := testnet.New(t)
	h.Container("c1")
	home, err := Host().Inode()
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	setns = func(fd, kind int) error {
		if calls.Add(1) == 2 {
			return unix.ENOMEM
		}
		return unix.Setns(fd, kind)
	}
	t.Cleanup(func() { setns = unix.Setns })
	n := At(h.Path("c1"))
	there, err := n.Inode()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error { return nil }); !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("without a way back: %v", err)
	}
	if now, err := Host().Inode(); err != nil || now != home {
		t.Errorf("the caller is in namespace %d, %v, was in %d", now, err, home)
	}
	testnet.Eventually(t, func() error {
		tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
		for _, task := range tasks {
			var st unix.Stat_t
			if unix.Stat(task, &st) == nil && st.Ino == there {
				err = errors.Join(err, fmt.Errorf("%s is still there", task))
			}
		}
		return err
	})
	if err := n.Do(func() error { return nil }); err != nil {
		t.Errorf("the next time: %v", err)
	}
}
