// Package netns opens network namespaces and gives a netlink handle and a Do
// for each. It makes and deletes no namespace.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A NS is a network namespace: that of a path, or with an empty path the one
// that this process runs in. It is opened when first used, so a plan that names
// one can be made and printed without privilege.
type NS struct {
	path string

	mu     sync.RWMutex // read-locked by whoever enters by the file
	file   *os.File
	handle *netlink.Handle
	closed bool
}

// KernelLimit is how long the kernel may take for what it tells when it is done.
const KernelLimit = 10 * time.Second

// Host is the namespace that this process runs in.
func Host() *NS { return At("") }

// At returns the namespace of a path such as /run/netns/c1.
func At(path string) *NS { return &NS{path: path} }

// Path returns the path, empty for the host's namespace.
func (n *NS) Path() string { return n.path }

// Open checks that the path is a network namespace (its file is kept open, so
// that a path that later names another one changes nothing). The error of a
// missing path wraps fs.ErrNotExist; that of a path that is something else
// wraps ErrNotNamespace.
func (n *NS) Open() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open()
}

// Close lets go of the namespace before the process ends. Whoever uses n later gets
// an error that wraps os.ErrClosed: the path may name another namespace by then, and
// the number of the descriptor another file.
func (n *NS) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.handle != nil && n.path != "" {
		n.handle.Close()
	}
	if n.file != nil {
		_ = n.file.Close()
	}
	n.file, n.handle = nil, nil
}

// ErrNotNamespace is wrapped by the error of a path that is no network namespace.
var ErrNotNamespace = errors.New("not a network namespace")

func (n *NS) open() error {
	if n.closed {
		return fmt.Errorf("netns %s: %w", n.path, os.ErrClosed)
	}
	if n.file != nil || n.path == "" {
		return nil
	}
	f, err := os.OpenFile(n.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open netns: %w", err)
	}
	// ioctl_nsfs(2): fails with ENOTTY on anything but a namespace file.
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return fmt.Errorf("open netns: %s: %w", n.path, ErrNotNamespace)
	}
	n.file = f
	return nil
}

// Gone reports whether the namespace cannot be entered any more: its path is
// empty, missing, or something else than a network namespace by now.
func (n *NS) Gone() bool {
	err := n.Open()
	return n.path == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotNamespace)
}

// Same reports whether n and other are one namespace.
func (n *NS) Same(other *NS) (bool, error) {
	a, err := n.stat()
	if err != nil {
		return false, err
	}
	b, err := other.stat()
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino, err
}

// Inode returns the inode number of the namespace, which no other namespace of
// this boot has while this one lives.
func (n *NS) Inode() (uint64, error) {
	st, err := n.stat()
	return st.Ino, err
}

func (n *NS) stat() (st unix.Stat_t, err error) {
	if n.path == "" {
		return st, unix.Stat("/proc/thread-self/ns/net", &st)
	}
	return st, n.use(func(fd int) error { return unix.Fstat(fd, &st) })
}

// Identity names a link of the namespace as no other link is named until the host
// boots, in whatever namespace: by the numbers of both, and by the cookie of the
// namespace, as its inode is given again. (Kernels before 5.14 have no cookies.)
// Where there is no such link, it names the namespace.
func (n *NS) Identity(link string) (string, error) {
	inode, err := n.Inode()
	if err != nil {
		return "", err
	}
	var index uint32
	var cookie uint64
	err = n.Do(func() (err error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // nothing was sent
		if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			return fmt.Errorf("cookie of netns %s: %w", n.path, err)
		}
		request, err := unix.NewIfreq(link)
		if err != nil {
			return fmt.Errorf("link %s: %w", link, err)
		}
		if err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("link %s: %w", link, err)
		} else if err == nil {
			index = request.Uint32()
		}
		return nil
	})
	return fmt.Sprintf("%d %d %d", inode, cookie, index), err
}

// use has f use the descriptor of the namespace, which stays open meanwhile.
func (n *NS) use(f func(fd int) error) error {
	if err := n.Open(); err != nil {
		return err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return fmt.Errorf("netns %s: %w", n.path, os.ErrClosed)
	}
	return f(int(n.file.Fd()))
}

// FD returns an open descriptor of the namespace, valid until n is closed. It must
// not be closed. The host's namespace has none: it is -1.
func (n *NS) FD() (fd int, err error) {
	if n.path == "" {
		return -1, nil
	}
	err = n.use(func(number int) error {
		fd = number
		return nil
	})
	return fd, err
}

// ID returns the number by which the host's namespace knows this one, and gives
// it one first if it has none (RTM_NEWNSID in rtnetlink(7)). The number is this
// namespace's alone until it ends; then the kernel may give it to another.
func (n *NS) ID() (int, error) {
	fd, err := n.FD()
	if err != nil {
		return 0, err
	}
	h, err := Host().Netlink()
	if err != nil {
		return 0, err
	}
	id, err := h.GetNetNsIdByFd(fd)
	if err != nil || id >= 0 {
		return id, err
	}
	const anyFree = -1
	if err := h.SetNetNsIdByFd(fd, anyFree); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("number netns %s: %w", n.path, err)
	}
	return h.GetNetNsIdByFd(fd)
}

// Netlink returns a route netlink handle whose socket lives in the namespace,
// one for the life of n.
func (n *NS) Netlink() (*netlink.Handle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handle != nil {
		return n.handle, nil
	}
	if err := n.open(); err != nil {
		return nil, err
	}
	var err error
	if n.path == "" {
		n.handle, err = hostNetlink()
	} else {
		n.handle, err = netlink.NewHandleAt(vns.NsHandle(n.file.Fd()), unix.NETLINK_ROUTE)
	}
	return n.handle, err
}

// hostHandle is the handle of the first namespace in which one was asked for, that
// of the host but in tests: plans ask for it again and again.
var hostHandle struct {
	sync.Mutex
	inode uint64
	*netlink.Handle
}

// hostNetlink returns a handle for the namespace of this thread.
func hostNetlink() (*netlink.Handle, error) {
	inode, err := Host().Inode()
	if err != nil {
		return nil, err
	}
	hostHandle.Lock()
	defer hostHandle.Unlock()
	if hostHandle.Handle != nil && hostHandle.inode == inode {
		return hostHandle.Handle, nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err == nil && hostHandle.Handle == nil {
		hostHandle.inode, hostHandle.Handle = inode, h
	}
	return h, err
}

// Dump repeats a listing that a change interrupted: its answer may miss some objects
// (NLM_F_DUMP_INTR in netlink(7)), so it is none. Whatever lists by a handle does it
// with Dump.
func Dump[T any](list func() (T, error)) (out T, err error) {
	const tries = 100
	for range tries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, fmt.Errorf("interrupted by changes %d times: %w", tries, err)
}

// Do runs f on a thread that is in the namespace, apart from the caller's: for
// /proc/sys/net and for sockets. f must not start goroutines that rely on it. A
// thread that the kernel does not let back ends with its goroutine; nothing else runs
// on it, so nothing is done to the wrong namespace.
func (n *NS) Do(f func() error) error {
	if n.path == "" {
		return f()
	}
	if err := n.Open(); err != nil { // by the caller's mounts
		return err
	}
	done := make(chan error)
	go func() {
		done <- n.visit(f)
	}()
	return <-done
}

// visit runs f in the namespace, on this thread. Where there is no way back it leaves
// the thread locked.
func (n *NS) visit(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own netns: %w", err)
	}
	defer unix.Close(home) //nolint:errcheck // only read
	if err = n.use(func(fd int) error { return setns(fd, unix.CLONE_NEWNET) }); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter netns %s: %w", n.path, err)
	}
	defer func() {
		if backErr := setns(home, unix.CLONE_NEWNET); backErr != nil {
			err = errors.Join(err, fmt.Errorf("no way back from netns %s: %w", n.path, backErr))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// setns is unix.Setns but where a test has it fail.
var setns = unix.Setns

// String names the namespace as the -n option of ip(8) would take it, with a
// trailing space; it is empty for the host's.
func (n *NS) String() string {
	if n.path == "" {
		return ""
	}
	return "-n " + n.path + " "
}
