package dad

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// arp is how IPv4 finds neighbors (RFC 826).
var arp = protocol{
	etherType: unix.ETH_P_ARP,
	question: func(mac net.HardwareAddr, target netip.Addr) message {
		return arpRequestFor(mac, netip.IPv4Unspecified(), target)
	},
	claims: claimsARP,
}

// The header of ARP for IPv4 on Ethernet, up to the operation.
var arpHeader = []byte{0, 1, 8, 0, 6, 4, 0}

const (
	arpRequest = 1
	arpLength  = 28
)

// arpRequestFor asks everybody for an address; the sender has the address from,
// or none yet.
func arpRequestFor(mac net.HardwareAddr, from, target netip.Addr) message {
	packet := append(bytes.Clone(arpHeader), arpRequest)
	packet = append(append(packet, mac...), from.AsSlice()...)
	packet = append(append(packet, make([]byte, 6)...), target.AsSlice()...)
	return message{packet, net.HardwareAddr{255, 255, 255, 255, 255, 255}}
}

// claimsARP: every packet says who sends it; a probe has no address yet (RFC 5227,
// 2.1.1).
func claimsARP(packet []byte, _ net.HardwareAddr) (claim, bool) {
	if len(packet) < arpLength || !bytes.HasPrefix(packet, arpHeader) {
		return claim{}, false
	}
	c := claim{addr: netip.AddrFrom4([4]byte(packet[14:18])), mac: bytes.Clone(packet[8:14])}
	if c.addr.IsUnspecified() && binary.BigEndian.Uint16(packet[6:]) == arpRequest {
		c.addr, c.probe = netip.AddrFrom4([4]byte(packet[24:28])), true
	}
	return c, true
}
