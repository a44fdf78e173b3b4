package nat

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// RefuseListeners fails with a HeldError if a process of the host listens on a
// published port, as it would no longer be reached. It asks the kernel by
// binding; whose the socket is, it looks up only to name it.
func RefuseListeners(ms []Mapping) error {
	for _, m := range ms {
		if m.OpenOnly {
			continue
		}
		err := bind(m)
		if errors.Is(err, unix.EADDRINUSE) {
			return &engine.HeldError{Object: "host port " + m.Host(), Holder: listenerName(m)}
		}
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // an address that comes later
			return fmt.Errorf("host port %s: %w", m.Host(), err)
		}
	}
	return nil
}

func bind(m Mapping) error {
	kind := unix.SOCK_STREAM
	if m.Protocol == UDP {
		kind = unix.SOCK_DGRAM
	}
	domain, addr := sockaddr(m)
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, int(m.Protocol))
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // so nobody listens either
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if m.Protocol != UDP {
		// Connections that are closing do not count; listeners do.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, addr)
}

func sockaddr(m Mapping) (domain int, addr unix.Sockaddr) {
	if m.Target.Addr().Is4() {
		a := &unix.SockaddrInet4{Port: int(m.HostPort)}
		if m.HostIP.IsValid() {
			a.Addr = m.HostIP.As4()
		}
		return unix.AF_INET, a
	}
	a := &unix.SockaddrInet6{Port: int(m.HostPort)}
	if m.HostIP.IsValid() {
		a.Addr = m.HostIP.As16()
	}
	return unix.AF_INET6, a
}

// listenerName finds the process that holds the port, by the inode of its
// socket.
func listenerName(m Mapping) string {
	const unknown = "a process of this host"
	inodes := socketInodes(m)
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unknown
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		comm, err := os.ReadFile("/proc/" + pid + "/comm")
		if err == nil {
			return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(comm)))
		}
	}
	return unknown
}

// socketInodes reads /proc/net/{tcp,udp}{,6} (proc(5)) for local sockets on the
// port, as the links in /proc/PID/fd name them.
func socketInodes(m Mapping) map[string]bool {
	out := map[string]bool{}
	for _, suffix := range []string{"", "6"} {
		b, err := os.ReadFile("/proc/net/" + m.Protocol.String() + suffix)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", m.HostPort)) && f[2][len(f[2])-4:] == "0000" {
				out["socket:["+f[9]+"]"] = true
			}
		}
	}
	return out
}
