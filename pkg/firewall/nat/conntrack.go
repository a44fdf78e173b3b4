package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FlushConntrack forgets the connections of connectionless protocols to the
// published ends of ms: their packets would go on to where the port led before
// it was published, or after it no longer is. Targets are only looked at for
// their family. It costs nothing where ms has only TCP or nothing is tracked.
//
// Linux 6.8 and later delete by a filter. Before, and for so many ends that it
// would take longer, the table is listed: it has a lock for each of its buckets,
// of which there are 262,144 on a machine of 4 GB.
func FlushConntrack(ms []Mapping) error {
	ms = slices.DeleteFunc(slices.Clone(ms), func(m Mapping) bool { return m.Protocol == TCP })
	if len(ms) == 0 || tracked() == "0" {
		return nil
	}
	local, err := localAddrs()
	if err != nil {
		return err
	}
	err = deleteEnds(stale(ms, local))
	if errors.Is(err, errNoFilter) {
		err = deleteListed(ms, local)
	}
	if err != nil {
		return fmt.Errorf("flush conntrack: %w", err)
	}
	return nil
}

// tracked is the number of connections of this network namespace, empty where
// the kernel does not say
// (https://docs.kernel.org/networking/nf_conntrack-sysctl.html).
func tracked() string {
	b, _ := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	return strings.TrimSpace(string(b))
}

func localAddrs() (local []netip.Addr, err error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			local = append(local, p.Addr().Unmap())
		}
	}
	return local, nil
}

// An end is where packets to a published port are sent.
type end struct {
	protocol Protocol
	addr     netip.AddrPort
}

// stale lists the ends of ms: those without an address are at each of the host's.
func stale(ms []Mapping, local []netip.Addr) (ends []end) {
	for _, m := range ms {
		if m.HostIP.IsValid() {
			ends = append(ends, end{m.Protocol, netip.AddrPortFrom(m.HostIP, m.HostPort)})
			continue
		}
		for _, a := range local {
			if a.Is4() == m.Target.Addr().Is4() {
				ends = append(ends, end{m.Protocol, netip.AddrPortFrom(a, m.HostPort)})
			}
		}
	}
	return ends
}

// errNoFilter: the kernel cannot delete by a filter, or not as fast.
var errNoFilter = errors.New("no filter")

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h, and the bits of the
// attributes that a filter compares, from net/netfilter/nf_internals.h.
const (
	ctaFilter          = 25
	ctaFilterOrigFlags = 1

	compareDst     = 1 << 1
	compareProto   = 1 << 3
	compareDstPort = 1 << 5
)

// deleteEnds has the kernel delete what is sent to the ends. A kernel that does
// not know the filter takes the tuple for a whole one, and refuses it.
func deleteEnds(ends []end) error {
	const limit = 32 // each walks the table, but takes locks only where something is
	if len(ends) > limit {
		return errNoFilter
	}
	for _, e := range ends {
		err := e.delete()
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return errNoFilter
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (e end) delete() error {
	family, dst := unix.AF_INET, nl.CTA_IP_V4_DST
	if !e.addr.Addr().Is4() {
		family, dst = unix.AF_INET6, nl.CTA_IP_V6_DST
	}
	tuple := nested(nl.CTA_TUPLE_ORIG)
	ip := nested(nl.CTA_TUPLE_IP)
	ip.AddRtAttr(dst, e.addr.Addr().AsSlice())
	proto := nested(nl.CTA_TUPLE_PROTO)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(e.protocol)})
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, e.addr.Port()))
	tuple.AddChild(ip)
	tuple.AddChild(proto)
	filter := nested(ctaFilter)
	filter.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(compareDst|compareProto|compareDstPort))

	req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: nl.NFNETLINK_V0})
	req.AddData(tuple)
	req.AddData(filter)
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

func nested(attribute int) *nl.RtAttr { return nl.NewRtAttr(attribute|unix.NLA_F_NESTED, nil) }

// deleteListed lists the table and deletes what is sent to the ends of ms.
func deleteListed(ms []Mapping, local []netip.Addr) error {
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		of := slices.DeleteFunc(slices.Clone(ms), func(m Mapping) bool {
			return m.Target.Addr().Is4() != (family == unix.AF_INET)
		})
		if len(of) > 0 {
			_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, newSentTo(of, local))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sentTo matches connections to the published ends at addresses of this host.
type sentTo struct {
	ends  map[end]bool // of those at all addresses, without one
	local map[netip.Addr]bool
}

func newSentTo(ms []Mapping, local []netip.Addr) sentTo {
	s := sentTo{map[end]bool{}, map[netip.Addr]bool{}}
	for _, m := range ms {
		s.ends[end{m.Protocol, netip.AddrPortFrom(m.HostIP, m.HostPort)}] = true
	}
	for _, a := range local {
		s.local[a] = true
	}
	return s
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s sentTo) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	dst = dst.Unmap()
	at := func(a netip.Addr) bool {
		return s.ends[end{Protocol(flow.Forward.Protocol), netip.AddrPortFrom(a, flow.Forward.DstPort)}]
	}
	return at(dst) || (s.local[dst] || dst.IsLoopback()) && at(netip.Addr{})
}
