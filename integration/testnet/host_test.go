package testnet

import (
	"os"
	"strings"
	"testing"
)

// What the rest stands on: a locked goroutine and its children are in the new
// namespaces, and so is a goroutine that enters by Do.
func TestHostIsPrivate(t *testing.T) {
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	h := New(t)
	if got := strings.TrimSpace(h.Run("readlink", "/proc/self/ns/net")); got == outside {
		t.Error("a child is in the namespace of the test process")
	}
	if got := h.Run("ls", "/sys/class/net", "/run"); got != "/run:\nnetns\n\n/sys/class/net:\nlo\n" {
		t.Errorf("/run and /sys/class/net of a new host: %q", got)
	}
	h.Container("c1")
	h.Do(func() {
		if got := h.Run("ls", "/run/netns"); got != "c1\n" {
			t.Errorf("another goroutine sees %q in /run/netns", got)
		}
	})
	h.In("c1", func() {
		if got := h.Run("ip", "-br", "link"); !strings.Contains(got, "DOWN") {
			t.Errorf("lo of a new container: %q", got)
		}
	})
	if _, err := os.Stat("/run/netns/c1"); err != nil {
		t.Error("the test's own goroutine is not in the host's mount namespace:", err)
	}
}

// The thread that a program begins with does not end before the program, so a
// namespace that it was in would not either.
func TestFirstThreadStaysOutside(t *testing.T) {
	outside, err := os.Readlink("/proc/self/ns/net") // the first thread's, whichever reads it
	if err != nil {
		t.Fatal(err)
	}
	h := New(t)
	for range 1000 {
		h.Do(func() {})
	}
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != outside {
		t.Errorf("the first thread is in %s now, want %s (%v)", now, outside, err)
	}
}
