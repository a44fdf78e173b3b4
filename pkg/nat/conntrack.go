package nat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// portsLock serialises looking for overlapping host ports and claiming one.
const portsLock = "/run/dockyard/ports.lock"

// LockPorts waits for the lock on the host's published ports and returns what
// releases it. The lock ends with the process, too.
func LockPorts() (unlock func(), err error) {
	if err = os.MkdirAll(filepath.Dir(portsLock), 0o755); err != nil {
		return nil, fmt.Errorf("lock ports: %w", err)
	}
	f, err := os.OpenFile(portsLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock ports: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock ports: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// FlushConntrack forgets the connections of connectionless protocols to the
// published ends of ms: their packets would go on to where the port led before
// it was published, or after it no longer is. Targets are only looked at for
// their family. It costs nothing where ms has only TCP.
func FlushConntrack(ms []Mapping) error {
	ms = slices.DeleteFunc(slices.Clone(ms), func(m Mapping) bool { return m.Protocol == TCP })
	if len(ms) == 0 {
		return nil
	}
	stale := stale{ends: map[end][]netip.Addr{}, local: map[netip.Addr]bool{}}
	families := map[netlink.InetFamily]bool{}
	for _, m := range ms {
		family := netlink.InetFamily(unix.AF_INET6)
		if m.Target.Addr().Is4() {
			family = unix.AF_INET
		}
		families[family] = true
		e := end{m.Protocol, m.HostPort}
		stale.ends[e] = append(stale.ends[e], m.HostIP)
	}
	if err := stale.readLocal(); err != nil {
		return err
	}
	var errs []error
	for family := range families {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, stale)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush conntrack: %w", err)
	}
	return nil
}

type end struct {
	protocol Protocol
	port     uint16
}

// stale matches connections to one of the ends at an address of this host.
type stale struct {
	ends  map[end][]netip.Addr
	local map[netip.Addr]bool
}

func (s *stale) readLocal() error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			s.local[p.Addr().Unmap()] = true
		}
	}
	return nil
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	ips, ok := s.ends[end{Protocol(flow.Forward.Protocol), flow.Forward.DstPort}]
	dst, valid := netip.AddrFromSlice(flow.Forward.DstIP)
	dst = dst.Unmap()
	if !ok || !valid {
		return false
	}
	return slices.ContainsFunc(ips, func(ip netip.Addr) bool {
		return ip == dst || !ip.IsValid() && (s.local[dst] || dst.IsLoopback())
	})
}
