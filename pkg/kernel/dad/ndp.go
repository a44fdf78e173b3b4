package dad

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ndp is how IPv6 finds neighbors (RFC 4861). A probe is a neighbor solicitation
// from no address (RFC 4862, 5.4.2), and its answer goes to all nodes.
var ndp = protocol{
	is6:       true,
	etherType: unix.ETH_P_IPV6,
	answers:   groupMAC(netip.IPv6LinkLocalAllNodes()),
	question:  solicitation,
	claims:    claimsNDP,
	// A busy link must not fill the socket with what is not meant for it.
	filter: []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ip6NextHeader},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_ICMPV6, Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: ip6Length},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: ndpSolicitation, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: ndpAdvertisement, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: longest},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	},
}

// Both messages are a header of IPv6 (RFC 8200, 3), then type, code and checksum
// (RFC 4443, 2.1), four bytes of flags, the target, and options (RFC 4861, 4.3).
const (
	ip6NextHeader = 6
	ip6HopLimit   = 7
	ip6Source     = 8
	ip6Target     = 24 // of the packet
	ip6Length     = 40
	icmpChecksum  = ip6Length + 2
	ndpTarget     = ip6Length + 8
	ndpOptions    = ndpTarget + 16

	ndpSolicitation  = 135
	ndpAdvertisement = 136
	ndpHopLimit      = 255 // nobody off the link can send it
	ndpTargetMAC     = 2   // option "target link-layer address"
)

// groupMAC is the hardware address of a multicast group (RFC 2464, 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	a := group.As16()
	return net.HardwareAddr{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// solicitedNode is the group that whoever has an address listens to (RFC 4291,
// 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	group, b := netip.MustParseAddr("ff02::1:ff00:0").As16(), a.As16()
	copy(group[13:], b[13:])
	return netip.AddrFrom16(group)
}

func solicitation(_ net.HardwareAddr, target netip.Addr) message {
	group := solicitedNode(target)
	packet := make([]byte, ndpOptions)
	packet[0] = 6 << 4 // the version
	packet[5] = ndpOptions - ip6Length
	packet[ip6NextHeader], packet[ip6HopLimit] = unix.IPPROTO_ICMPV6, ndpHopLimit
	copy(packet[ip6Target:], group.AsSlice())
	packet[ip6Length] = ndpSolicitation
	copy(packet[ndpTarget:], target.AsSlice())
	binary.BigEndian.PutUint16(packet[icmpChecksum:], checksum(packet))
	return message{packet, groupMAC(group)}
}

// checksum is that of the ICMPv6 message in a packet (RFC 4443, 2.3; RFC 8200,
// 8.1). Of a packet that has the right one it is zero.
func checksum(packet []byte) uint16 {
	sum := uint32(len(packet)-ip6Length) + unix.IPPROTO_ICMPV6
	for i, b := range packet[ip6Source:] {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// claimsNDP: an advertisement is about its target, as is a probe; any other
// solicitation says who sends it.
func claimsNDP(packet []byte, from net.HardwareAddr) (claim, bool) {
	if len(packet) < ndpOptions {
		return claim{}, false
	}
	end := ip6Length + int(binary.BigEndian.Uint16(packet[4:]))
	if end < ndpOptions || end > len(packet) || packet[ip6HopLimit] != ndpHopLimit || packet[ip6Length+1] != 0 || checksum(packet[:end]) != 0 {
		return claim{}, false // RFC 4861, 7.1
	}
	sender := netip.AddrFrom16([16]byte(packet[ip6Source:]))
	c := claim{addr: netip.AddrFrom16([16]byte(packet[ndpTarget:])), mac: bytes.Clone(from)}
	switch {
	case packet[ip6Length] == ndpAdvertisement:
		if mac := option(packet[ndpOptions:end], ndpTargetMAC); len(mac) == len(from) {
			c.mac = mac
		}
	case sender.IsUnspecified():
		c.probe = true
	default:
		c.addr = sender
	}
	return c, true
}

// option returns what the first option of a kind holds (RFC 4861, 4.6).
func option(options []byte, kind byte) []byte {
	for len(options) >= 2 {
		n := 8 * int(options[1])
		if n == 0 || n > len(options) {
			return nil
		}
		if options[0] == kind {
			return bytes.Clone(options[2:n])
		}
		options = options[n:]
	}
	return nil
}
