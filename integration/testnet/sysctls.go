package testnet

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// sysctls records those of each interface and those that plugins are known to
// touch.
func sysctls(s Snapshot) {
	for _, dir := range []string{"net/ipv4/conf", "net/ipv6/conf"} {
		ifaces, _ := os.ReadDir("/proc/sys/" + dir)
		for _, iface := range ifaces {
			s.sysctls(dir+"/"+iface.Name(), ofInterface(dir)...)
		}
	}
	s.sysctls("net/ipv4", "ip_forward", "ip_local_port_range", "ping_group_range")
	s.sysctls("net/bridge", "bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
}

// ofInterface lists the sysctls that every interface has in a directory, but for
// the MTU, which is a link's.
func ofInterface(dir string) []string {
	if names, ok := interfaceNames.Load(dir); ok {
		return names.([]string)
	}
	var names []string
	files, _ := os.ReadDir("/proc/sys/" + dir + "/default")
	for _, f := range files {
		if f.Name() != "mtu" {
			names = append(names, f.Name())
		}
	}
	interfaceNames.Store(dir, names)
	return names
}

var interfaceNames sync.Map // of strings, by directory

// sysctls records some of a directory. There are hundreds in all, so they are opened
// from their directory, and read without the runtime's ado.
func (s Snapshot) sysctls(path string, names ...string) {
	dir, err := unix.Open("/proc/sys/"+path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(dir) }()
	var value [256]byte
	for _, name := range names {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, err := unix.Read(fd, value[:])
		_ = unix.Close(fd)
		if err == nil {
			s["sysctl "+path] = append(s["sysctl "+path], name+" "+strings.TrimSpace(string(value[:n])))
		}
	}
}
