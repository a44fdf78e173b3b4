package testnet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Inject is the body of a command that sends one packet with addresses that need
// not be the sender's, by a link to the machine of a hardware address:
//
//	inject LINK MAC tcp|udp SOURCE:PORT DESTINATION:PORT
//
// Of TCP it is a SYN.
func Inject() {
	mac, err := net.ParseMAC(os.Args[2])
	if err == nil {
		err = SendForged(os.Args[1], mac, os.Args[3], netip.MustParseAddrPort(os.Args[4]), netip.MustParseAddrPort(os.Args[5]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inject:", err)
		os.Exit(1)
	}
}

// SendForged does what Inject does, in the network namespace of the calling thread.
func SendForged(link string, mac net.HardwareAddr, network string, src, dst netip.AddrPort) error {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrLinklayer{Ifindex: l.Index, Halen: 6, Protocol: ethertype(unix.ETH_P_IP)}
	if src.Addr().Is6() {
		to.Protocol = ethertype(unix.ETH_P_IPV6)
	}
	copy(to.Addr[:], mac)
	return unix.Sendto(fd, forged(network, src, dst), 0, to)
}

func ethertype(t uint16) uint16 { return t>>8 | t<<8 }

// forged returns a packet from its IP header on.
func forged(network string, src, dst netip.AddrPort) []byte {
	transport, protocol, at := udpHeader(src, dst), byte(unix.IPPROTO_UDP), 6
	if network == "tcp" {
		transport, protocol, at = synHeader(src, dst), unix.IPPROTO_TCP, 16
	}
	pseudo := binary.BigEndian.AppendUint32(append(src.Addr().AsSlice(), dst.Addr().AsSlice()...), uint32(len(transport)))
	pseudo = append(pseudo, 0, 0, 0, protocol)
	binary.BigEndian.PutUint16(transport[at:], checksum(append(pseudo, transport...)))
	return append(ipHeader(src.Addr(), dst.Addr(), protocol, len(transport)), transport...)
}

const forgedText = "forged\n"

func udpHeader(src, dst netip.AddrPort) []byte {
	b := ports(src, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(forgedText)))
	return append(append(b, 0, 0), forgedText...)
}

func synHeader(src, dst netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(ports(src, dst), 1<<32) // sequence number, acknowledgement
	const words, syn = 5, 2
	return append(b, words<<4, syn, 0xff, 0xff, 0, 0, 0, 0)
}

func ports(src, dst netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src.Port()), dst.Port())
}

func ipHeader(src, dst netip.Addr, protocol byte, length int) []byte {
	const ttl = 64
	if src.Is6() {
		b := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(length))
		return append(append(append(b, protocol, ttl), src.AsSlice()...), dst.AsSlice()...)
	}
	b := binary.BigEndian.AppendUint16([]byte{4<<4 | 5, 0}, uint16(20+length))
	b = append(append(append(b, 0, 1, 0, 0, ttl, protocol, 0, 0), src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(b[:len(b):len(b)], 0)
	}
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
