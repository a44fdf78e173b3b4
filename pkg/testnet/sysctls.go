package testnet

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls records those of each interface and those that plugins are known to
// touch.
func sysctls(s Snapshot) {
	for _, dir := range []string{"net/ipv4/conf", "net/ipv6/conf"} {
		ifaces, _ := os.ReadDir("/proc/sys/" + dir)
		for _, iface := range ifaces {
			s.sysctls(dir + "/" + iface.Name())
		}
	}
	s.sysctls("net/ipv4", "ip_forward", "ip_local_port_range", "ping_group_range")
	s.sysctls("net/bridge", "bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
}

// sysctls records some of a directory, or all but the MTU, which is a link's. There
// are hundreds, so they are opened from their directory, and read without the
// runtime's ado.
func (s Snapshot) sysctls(path string, names ...string) {
	dir, err := os.Open("/proc/sys/" + path)
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	if names == nil {
		names, _ = dir.Readdirnames(-1)
		slices.Sort(names)
	}
	var value [256]byte
	for _, name := range names {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, err := unix.Read(fd, value[:])
		_ = unix.Close(fd)
		if err == nil && name != "mtu" {
			s["sysctl "+path] = append(s["sysctl "+path], name+" "+strings.TrimSpace(string(value[:n])))
		}
	}
}
