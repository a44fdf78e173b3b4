package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTruncated cuts each file of a network at each length (the index at each
// record). Whatever is cut, no address is given twice, and DEL frees what was
// leased.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"10.1.0.2", "last_reserved_ip.0", "lock", ".dockyard/index"} {
		for size := 0; ; {
			n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
			n.alive.complete = false
			n.gives("abcd", "10.1.0.2")
			n.gives("other", "10.1.0.3")
			st, err := os.Stat(n.path(name))
			if err != nil {
				t.Fatal(err)
			}
			if int64(size) >= st.Size() {
				break
			}
			if err := os.Truncate(n.path(name), int64(size)); err != nil {
				t.Fatal(err)
			}
			n.stillSound(fmt.Sprintf("%s cut to %d bytes", name, size))
			if size++; strings.HasPrefix(name, ".") {
				size += 63
			}
		}
	}
}

// stillSound expects abcd at 10.1.0.2 and other at 10.1.0.3, and three more free.
func (n *network) stillSound(what string) {
	n.t.Helper()
	got, err := n.add("third", 1)
	if err != nil || got[0] == addr("10.1.0.2") || got[0] == addr("10.1.0.3") {
		n.t.Fatalf("%s: a new attachment got %v, %v", what, got, err)
	}
	for _, id := range []string{"abcd", "other", "third"} {
		n.del(id)
	}
	if left := n.files(); len(left) > 0 {
		n.t.Fatalf("%s: after DEL of all there is %v", what, left)
	}
	for c := range 5 {
		if _, err := n.add(fmt.Sprint("n", c), 1); err != nil {
			n.t.Fatalf("%s: an address is lost: %v", what, err)
		}
	}
}

// TestTruncatedThenSeen cuts an address file and then lets everything be read
// anew. The lease is not given to another; GC frees it.
func TestTruncatedThenSeen(t *testing.T) {
	for size := range len("abcd\r\neth0") {
		n := newNetwork(t, pool("10.1.0.0/30", "10.1.0.1", "10.1.0.2"))
		n.alive.complete = false
		n.gives("abcd", "10.1.0.2")
		if err := os.Truncate(n.path("10.1.0.2"), int64(size)); err != nil {
			t.Fatal(err)
		}
		n.write("from-outside", "")
		if _, err := n.add("new", 1); (err == nil) != (size == 0) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

func TestEmptyFileIsNobodys(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/30", "10.1.0.1", "10.1.0.2"))
	n.write("10.1.0.2", "")
	n.gives("c1", "10.1.0.2")
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
	if err := os.MkdirAll(n.path("10.1.0.3"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.write("notes", "c1\r\neth0")
	n.write("10.1.0.04", "c1\r\neth0")
	n.gives("c1", "10.1.0.2")
	n.gives("c2", "10.1.0.4")
	n.del("c1")
	for _, name := range []string{"10.1.0.3", "notes", "10.1.0.04"} {
		if _, err := os.Stat(n.path(name)); err != nil {
			t.Error(err)
		}
	}
}

// TestUnfinished has an ADD killed just before it had made another index, with one
// there that is good enough for DEL.
func TestUnfinished(t *testing.T) {
	n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
	n.gives("c1", "10.1.0.2")
	n.write(".dockyard/index.new", "half of an ind")
	n.del("c1")
	if _, err := os.Stat(n.path(".dockyard/index.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after DEL, what an ADD had not finished: %v", err)
	}
}

// TestNoise writes noise over the index. Whatever it says then, the directory
// decides, and nothing hangs.
func TestNoise(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
		n.alive.complete = false
		n.gives("abcd", "10.1.0.2")
		n.gives("other", "10.1.0.3")
		text, err := os.ReadFile(n.path(".dockyard/index"))
		if err != nil {
			t.Fatal(err)
		}
		at := rnd.IntN(headerSize + 2*listSize + 8*minSlots + 4*slotSize)
		if seed%2 == 0 {
			at = headerSize + rnd.IntN(2*listSize)
		}
		for i := range min(1+rnd.IntN(64), len(text)-at) {
			text[at+i] = byte(rnd.Uint32())
		}
		n.write(".dockyard/index", string(text))
		given := map[string]string{"10.1.0.2": "abcd", "10.1.0.3": "other"}
		for c := range 6 {
			addrs, err := n.add(fmt.Sprint("n", c), 1)
			if err != nil {
				continue // at worst an address waits for GC
			}
			if holder, twice := given[addrs[0].String()]; twice {
				t.Fatalf("seed %d: %s given to n%d, and to %s", seed, addrs[0], c, holder)
			}
			given[addrs[0].String()] = fmt.Sprint("n", c)
		}
	}
}

// TestDiskFull fills the disk at every size that lets the first ADDs through.
// An ADD that fails takes nothing; a DEL works; with room again all addresses
// can be had.
func TestDiskFull(t *testing.T) {
	for pages := 1; pages < 16; pages++ {
		base := t.TempDir()
		if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatalf("mount tmpfs, as root: %v", err)
		}
		func() {
			defer func() {
				if err := unix.Unmount(base, 0); err != nil {
					t.Error(err)
				}
			}()
			fullDisk(t, base, pages)
		}()
	}
}

func fullDisk(t *testing.T, base string, pages int) {
	t.Helper()
	n := newNetwork(t, pool("10.1.0.0/29", "10.1.0.1", "10.1.0.6"))
	n.dir = base
	n.alive.complete = false
	if err := os.WriteFile(filepath.Join(base, "filler"), make([]byte, pages<<12), 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for c := range 5 {
		addrs, err := n.add(fmt.Sprint("c", c), 1)
		if err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("%d pages: ADD: %v", pages, err)
			}
			continue
		}
		if given[addrs[0].String()] {
			t.Fatalf("%d pages: %s given twice", pages, addrs[0])
		}
		given[addrs[0].String()] = true
	}
	if got := n.files(); len(got) != len(given) {
		t.Fatalf("%d pages: leased %v, given %v", pages, got, given)
	}
	for c := range 5 {
		n.del(fmt.Sprint("c", c))
	}
	if got := n.files(); len(got) > 0 {
		t.Fatalf("%d pages: DEL left %v", pages, got)
	}
	if err := os.Remove(filepath.Join(base, "filler")); err != nil {
		t.Fatal(err)
	}
	for c := range 5 {
		if _, err := n.add(fmt.Sprint("d", c), 1); err != nil {
			t.Fatalf("%d pages: an address is lost: %v", pages, err)
		}
	}
}
