package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// forgeCommand sends a frame that the kernel would not send, and succeeds if it comes
// out at the other end. To see that it does not, a frame that nobody filters follows
// it by the same way: what has not come before that one does not come at all.
func forgeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 5 {
		ts.Fatalf("usage: forge FROM LINK TO LINK KIND [KEY=VALUE...]")
	}
	s := of(ts)
	f := frame{kind: args[4]}
	ts.Check(f.read(args[5:]))
	var err error
	var to *endOfLine
	s.in(args[2], func() { to, err = openLine(args[3]) })
	ts.Check(err)
	defer to.close()
	s.in(args[0], func() {
		var from *endOfLine
		if from, err = openLine(args[1]); err == nil {
			defer from.close()
			err = from.send(f.bytes(from.mac), frame{kind: "marker"}.bytes(from.mac))
		}
	})
	ts.Check(err)
	outcome(ts, neg, to.expect(f))
}

// An endOfLine is a packet socket for all frames of a link.
type endOfLine struct {
	fd    int
	index int
	mac   net.HardwareAddr
}

func openLine(name string) (*endOfLine, error) {
	l, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return nil, err
	}
	deadline := unix.NsecToTimeval(testnet.Patience.Nanoseconds())
	return &endOfLine{fd, l.Index, l.HardwareAddr}, errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &deadline))
}

func (e *endOfLine) close() { _ = unix.Close(e.fd) }

func (e *endOfLine) send(frames ...[]byte) error {
	for _, f := range frames {
		if err := unix.Sendto(e.fd, f, 0, &unix.SockaddrLinklayer{Ifindex: e.index, Halen: 6}); err != nil {
			return err
		}
	}
	return nil
}

// expect waits for the frame or the marker behind it.
func (e *endOfLine) expect(f frame) error {
	buffer := make([]byte, 2048)
	for end := time.Now().Add(testnet.Patience); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(e.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("neither the frame nor the one behind it came: %w", err)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		switch got := buffer[:n]; {
		case n > 14 && strings.Contains(string(got), secret(f.kind)):
			return nil
		case n > 14 && strings.Contains(string(got), secret("marker")):
			return errors.New("the frame did not come")
		}
	}
	return errors.New("neither the frame nor the one behind it came")
}

// secret is in the frames of a kind and in nobody else's.
func secret(kind string) string { return "forged by a test: " + kind }

// A frame is what is wrong about one.
type frame struct {
	kind     string
	mac      net.HardwareAddr // the sender's; by default the link's own
	ip       netip.Addr       // the sender's, or who is announced
	groupMAC net.HardwareAddr // whom to; by default everybody
}

func (f *frame) read(words []string) (err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "mac":
			f.mac, err = net.ParseMAC(value)
		case "to":
			f.groupMAC, err = net.ParseMAC(value)
		case "ip":
			f.ip, err = netip.ParseAddr(strings.SplitN(value, "/", 2)[0])
		default:
			err = fmt.Errorf("%s: no such key", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f frame) bytes(own net.HardwareAddr) []byte {
	source, to := f.mac, f.groupMAC
	if source == nil {
		source = own
	}
	if to == nil {
		to = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	etherType, payload := f.payload(source)
	return slices.Concat(to, source, binary.BigEndian.AppendUint16(nil, etherType), payload)
}

const local = 0x88b5 // IEEE 802, local experimental EtherType 1

func (f frame) payload(source net.HardwareAddr) (uint16, []byte) {
	allNodes, linkLocal := netip.MustParseAddr("ff02::1"), linkLocalOf(source)
	text := []byte(secret(f.kind))
	switch f.kind {
	case "arp": // an answer that says that ip is here
		b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
		return unix.ETH_P_ARP, slices.Concat(b, source, f.ip.AsSlice(), make([]byte, 6), f.ip.AsSlice(), text)
	case "na": // the same in IPv6, with the override flag
		icmp := slices.Concat([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, f.ip.AsSlice(), []byte{2, 1}, source, option(text))
		return unix.ETH_P_IPV6, ipv6(f.ip, allNodes, unix.IPPROTO_ICMPV6, icmp)
	case "ra":
		prefix := netip.MustParseAddr("2001:db8:bad::")
		icmp := slices.Concat([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0}, prefix.AsSlice(), option(text))
		return unix.ETH_P_IPV6, ipv6(linkLocal, allNodes, unix.IPPROTO_ICMPV6, icmp)
	case "redirect":
		icmp := slices.Concat([]byte{137, 0, 0, 0, 0, 0, 0, 0}, linkLocal.AsSlice(), allNodes.AsSlice(), option(text))
		return unix.ETH_P_IPV6, ipv6(linkLocal, allNodes, unix.IPPROTO_ICMPV6, icmp)
	case "dhcp": // an offer
		return unix.ETH_P_IP, ipv4(f.ip, udp(67, 68, text))
	case "dhcp6": // an advertisement
		return unix.ETH_P_IPV6, ipv6(linkLocal, allNodes, unix.IPPROTO_UDP, udp(547, 546, text))
	case "udp":
		if f.ip.Is6() {
			return unix.ETH_P_IPV6, ipv6(f.ip, allNodes, unix.IPPROTO_UDP, udp(9, 9, text))
		}
		return unix.ETH_P_IP, ipv4(f.ip, udp(9, 9, text))
	}
	return local, text
}

// linkLocalOf is the address that a link gives itself (RFC 4291, appendix A).
func linkLocalOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func udp(from, to uint16, text []byte) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	return append(append(binary.BigEndian.AppendUint16(b, uint16(8+len(text))), 0, 0), text...)
}

func ipv4(from netip.Addr, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	b = slices.Concat(b, from.AsSlice(), []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

// option is the text as an option of neighbour discovery that nobody knows (RFC 4727).
func option(text []byte) []byte {
	b := append([]byte{253, 4}, text...)
	return append(b, make([]byte, 32-len(b))...)
}

func ipv6(from, to netip.Addr, protocol byte, payload []byte) []byte {
	addrs := slices.Concat(from.AsSlice(), to.AsSlice())
	at := 6 // of UDP's checksum
	if protocol == unix.IPPROTO_ICMPV6 {
		at = 2
	}
	pseudo := slices.Concat(addrs, []byte{0, 0, 0, byte(len(payload)), 0, 0, 0, protocol}, payload)
	binary.BigEndian.PutUint16(payload[at:], checksum(pseudo))
	head := []byte{0x60, 0, 0, 0, 0, byte(len(payload)), protocol, 255}
	return slices.Concat(head, addrs, payload)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
