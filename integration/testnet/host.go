// Package testnet gives each test a host of its own: a fresh network and mount
// namespace with private /run, /var/lib/cni, /etc/netns and /sys, so that tests run in
// parallel, see nothing of one another and leave nothing behind. It takes
// snapshots of such a host, compares them, runs real plugin binaries on it by
// libcni, and kills them or makes their system calls fail at a chosen point.
//
// There are no mocks here: what is tested is the kernel's own answer.
package testnet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Host is a private network and mount namespace.
type Host struct {
	t        testing.TB
	net, mnt *os.File
	dir      string // outside the namespaces: configurations, caches, reports
	procs    []*exec.Cmd
}

// A thread that entered a host ends with its goroutine, and so lets go of the
// host's namespaces, but for the thread a program began with, which Go parks until
// the program's end. It is kept for the main goroutine, which enters nothing.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // in main it may be too late

// New moves the calling goroutine into a new host; commands that it starts are
// born there. The goroutine keeps its thread, which ends with it, so New is for
// the goroutine of a test, once. Other goroutines enter with Do.
func New(t testing.TB) *Host {
	t.Helper()
	h := &Host{t: t, dir: t.TempDir()}
	if err := h.enterNew(); err != nil {
		t.Fatalf("new host: %v; kernel tests need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)", err)
	}
	t.Cleanup(h.close)
	h.Run("ip", "link", "set", "lo", "up")
	return h
}

func (h *Host) enterNew() error {
	runtime.LockOSThread() // never unlocked: no other goroutine may get this thread
	// CLONE_FS, as a thread that shares its root and working directory with
	// others can't change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := privateMounts(); err != nil {
		return err
	}
	var err error
	if h.net, err = os.Open("/proc/thread-self/ns/net"); err == nil {
		h.mnt, err = os.Open("/proc/thread-self/ns/mnt")
	}
	return err
}

func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/var/lib/cni", "/etc/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// /sys/class/net shows the network namespace that sysfs was mounted from.
	for _, m := range [][2]string{{"tmpfs", "/run"}, {"tmpfs", "/var/lib/cni"}, {"tmpfs", "/etc/netns"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	return os.MkdirAll("/run/netns", 0o755)
}

// close lets go of the namespaces; they end with the last thread in them.
func (h *Host) close() {
	h.Stop()
	_ = h.net.Close()
	_ = h.mnt.Close()
}

// Stop ends what Start has started.
func (h *Host) Stop() {
	for _, cmd := range h.procs {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	h.procs = nil
}

// Do runs f on a thread inside the host, for goroutines other than the one that
// made it.
func (h *Host) Do(f func()) { h.do("", f) }

// In runs f on a thread inside the named container's network namespace; its
// mounts are the host's.
func (h *Host) In(container string, f func()) { h.do(h.Path(container), f) }

func (h *Host) do(netns string, f func()) {
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, as in New
		if err := h.join(netns); err != nil {
			done <- err
			return
		}
		f()
	}()
	if err, failed := <-done; failed {
		h.t.Errorf("enter host: %v", err)
	}
}

// join moves the calling thread into the host, and on into a namespace whose
// path only the host knows.
func (h *Host) join(netns string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(int(h.mnt.Fd()), unix.CLONE_NEWNS); err != nil {
		return err
	}
	if netns == "" {
		return unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET)
	}
	ns, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

// Dir is a directory outside the host's snapshot.
func (h *Host) Dir() string { return h.dir }

// Path returns the path of a container's network namespace.
func (h *Host) Path(container string) string { return "/run/netns/" + container }

// Container makes a network namespace and returns its path.
func (h *Host) Container(name string) string {
	h.t.Helper()
	h.Run("ip", "netns", "add", name)
	return h.Path(name)
}

// DeleteContainer deletes a network namespace.
func (h *Host) DeleteContainer(name string) {
	h.t.Helper()
	h.Run("ip", "netns", "del", name)
}

// LAN makes another machine: a namespace whose eth0 is at the other end of a link
// of the host, which has its default route there. The host is 192.0.2.1 and
// 2001:db8::1, the other machine ends in 2.
func (h *Host) LAN(name, link string) {
	h.t.Helper()
	h.Container(name)
	for _, command := range []string{
		"ip -n " + name + " link set lo up",
		"ip link add " + link + " type veth peer name eth0 netns " + name,
		"ip addr add 192.0.2.1/24 dev " + link,
		"ip addr add 2001:db8::1/64 dev " + link + " nodad",
		"ip link set " + link + " up",
		"ip -n " + name + " addr add 192.0.2.2/24 dev eth0",
		"ip -n " + name + " addr add 2001:db8::2/64 dev eth0 nodad",
		"ip -n " + name + " link set eth0 up",
		"ip route add default via 192.0.2.2",
		"ip route add default via 2001:db8::2",
	} {
		h.Run(strings.Fields(command)...)
	}
}

// Run runs a command, fails the test if it fails, and returns its stdout.
func (h *Host) Run(args ...string) string {
	h.t.Helper()
	out, err := h.Try(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// Try runs a command on the calling thread's host and returns its stdout.
func (h *Host) Try(args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, stderr.String(), stdout.String())
	}
	return stdout.String(), nil
}

// Start starts a command that runs until Stop or the end of the test.
func (h *Host) Start(cmd *exec.Cmd) error {
	err := cmd.Start()
	if err == nil {
		h.procs = append(h.procs, cmd)
	}
	return err
}

// Patience is how long tests wait for what is not promised by any time: long, as
// busy and emulated machines take theirs, and only who fails waits for all of it.
const Patience = time.Minute

// Eventually waits until f gives no error: for what the kernel does behind our
// back, such as the end of a network namespace.
func Eventually(t testing.TB, f func() error) {
	t.Helper()
	if err := Until(f); err != nil {
		t.Fatalf("after %v: %v", Patience, err)
	}
}

// Until calls f until it gives no error, or its last one after Patience, and no less
// than fewestTries: a machine that is busy gets longer.
func Until(f func() error) (err error) {
	const fewestTries = 500
	start := time.Now()
	for tries := 0; tries < fewestTries || time.Since(start) < Patience; tries++ {
		time.Sleep(min(5*time.Millisecond, time.Duration(tries)*time.Millisecond))
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// strays lists the processes that run in the mount namespace of the calling
// thread, but for this one and the helpers that are copies of it.
func strays() ([]string, error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/mnt", &own); err != nil {
		return nil, err
	}
	self, _ := os.Readlink("/proc/self/exe")
	dirs, err := filepath.Glob("/proc/[0-9]*")
	var found []string
	for _, dir := range dirs {
		var st unix.Stat_t
		exe, _ := os.Readlink(dir + "/exe")
		if unix.Stat(dir+"/ns/mnt", &st) != nil || st.Ino != own.Ino || sameProgram(exe, self) {
			continue // gone, somebody else's, or ours
		}
		if cmdline, _ := os.ReadFile(dir + "/cmdline"); len(cmdline) > 0 {
			found = append(found, strings.ReplaceAll(strings.TrimRight(string(cmdline), "\x00"), "\x00", " "))
		}
	}
	return found, err
}

// sameProgram: testscript copies or links the test binary to give it a name.
func sameProgram(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && (os.SameFile(x, y) || x.Size() == y.Size())
}
