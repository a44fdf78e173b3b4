package dad

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

var stranger = net.HardwareAddr{2, 0, 0, 0, 0, 9}

// Who claims an address: an answer, a question of its owner, another probe; not a
// question of somebody else.
func TestClaims(t *testing.T) {
	type said struct {
		packet []byte
		who    string // "", or the address that it claims
		probe  bool
	}
	arpPacket := func(operation byte, sender, target string) []byte {
		p := append([]byte{0, 1, 8, 0, 6, 4, 0, operation}, stranger...)
		p = append(p, netip.MustParseAddr(sender).AsSlice()...)
		p = append(p, 0, 0, 0, 0, 0, 0)
		return append(p, netip.MustParseAddr(target).AsSlice()...)
	}
	ndpPacket := func(kind byte, sender, target string, options ...byte) []byte {
		p := append(solicitation(nil, netip.MustParseAddr(target)).packet, options...)
		copy(p[ip6Source:], netip.MustParseAddr(sender).AsSlice())
		p[ip6Length], p[5] = kind, byte(len(p)-ip6Length)
		return summed(p)
	}
	changed := func(p []byte, at int, to byte) []byte {
		p[at] = to
		return summed(p)
	}
	answer := func() []byte { return ndpPacket(ndpAdvertisement, "fe80::9", "fd00::2", 2, 1, 2, 0, 0, 0, 0, 9) }
	for what, c := range map[string]struct {
		protocol
		said
	}{
		"reply":            {arp, said{arpPacket(2, "10.1.0.2", "0.0.0.0"), "10.1.0.2", false}},
		"its owner asks":   {arp, said{arpPacket(1, "10.1.0.2", "10.1.0.1"), "10.1.0.2", false}},
		"announcement":     {arp, said{arpPacket(1, "10.1.0.2", "10.1.0.2"), "10.1.0.2", false}},
		"another probe":    {arp, said{arpPacket(1, "0.0.0.0", "10.1.0.2"), "10.1.0.2", true}},
		"somebody asks":    {arp, said{arpPacket(1, "10.1.0.1", "10.1.0.2"), "10.1.0.1", false}},
		"IPv6 over what":   {arp, said{append([]byte{0, 1, 0x86, 0xdd, 6, 4, 0, 2}, make([]byte, 20)...), "", false}},
		"half of ARP":      {arp, said{arpPacket(2, "10.1.0.2", "0.0.0.0")[:27], "", false}},
		"advertisement":    {ndp, said{answer(), "fd00::2", false}},
		"one without MAC":  {ndp, said{ndpPacket(ndpAdvertisement, "fe80::9", "fd00::2"), "fd00::2", false}},
		"odd options":      {ndp, said{ndpPacket(ndpAdvertisement, "fe80::9", "fd00::2", 2, 0, 1, 1, 1, 1, 1, 1), "fd00::2", false}},
		"a long option":    {ndp, said{ndpPacket(ndpAdvertisement, "fe80::9", "fd00::2", 2, 9, 1, 1, 1, 1, 1, 1), "fd00::2", false}},
		"its owner asks 6": {ndp, said{ndpPacket(ndpSolicitation, "fd00::2", "fd00::1"), "fd00::2", false}},
		"another probe 6":  {ndp, said{ndpPacket(ndpSolicitation, "::", "fd00::2"), "fd00::2", true}},
		"from afar":        {ndp, said{changed(answer(), ip6HopLimit, 254), "", false}},
		"a code":           {ndp, said{changed(answer(), ip6Length+1, 1), "", false}},
		"a wrong sum":      {ndp, said{append(answer()[:icmpChecksum], append([]byte{7, 7}, answer()[icmpChecksum+2:]...)...), "", false}},
		"less than said":   {ndp, said{answer()[:ndpOptions+4], "", false}},
		"half of it":       {ndp, said{answer()[:ndpOptions-1], "", false}},
	} {
		got, ok := c.claims(c.packet, stranger)
		if ok != (c.who != "") || ok && (got.addr != netip.MustParseAddr(c.who) || got.probe != c.probe || got.mac.String() != stranger.String()) {
			t.Errorf("%s: %v %v, want %q, a probe %v", what, got, ok, c.who, c.probe)
		}
	}
}

func summed(p []byte) []byte {
	binary.BigEndian.PutUint16(p[icmpChecksum:], 0)
	binary.BigEndian.PutUint16(p[icmpChecksum:], checksum(p))
	return p
}

// The hardware address is the one that an advertisement names, even where a
// bridge has sent it on under its own.
func TestAdvertisedMAC(t *testing.T) {
	p := append(solicitation(nil, netip.MustParseAddr("fd00::2")).packet, 14, 1, 1, 1, 1, 1, 1, 1, 2, 1, 2, 0, 0, 0, 0, 9)
	p[ip6Length], p[5] = ndpAdvertisement, byte(len(p)-ip6Length)
	got, ok := ndp.claims(summed(p), net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if !ok || got.mac.String() != stranger.String() {
		t.Errorf("%v %v, want %s", got, ok, stranger)
	}
}

// What Linux 6.18 sends when it looks for duplicates of 2001:db8::100, without the
// nonce of RFC 7527 (enhanced_dad=0).
func TestSolicitation(t *testing.T) {
	const want = "6000000000183aff00000000000000000000000000000000ff0200000000000000000001ff000100" +
		"8700" + "4aef" + "00000000" + "20010db8000000000000000000000100"
	m := solicitation(nil, netip.MustParseAddr("2001:db8::100"))
	if got := hex.EncodeToString(m.packet); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if m.to.String() != "33:33:ff:00:01:00" {
		t.Errorf("to %s", m.to)
	}
}

// Anybody on the line may send anything.
func FuzzClaims(f *testing.F) {
	f.Add(arpRequestFor(stranger, netip.IPv4Unspecified(), netip.MustParseAddr("10.1.0.2")).packet)
	f.Add(summed(append(solicitation(nil, netip.MustParseAddr("fd00::2")).packet, 2, 1, 2, 0, 0, 0, 0, 9)))
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, p := range []protocol{arp, ndp} {
			if c, ok := p.claims(packet, stranger); ok && (c.addr.Is6() != p.is6 || len(c.mac) != len(stranger)) {
				t.Errorf("%v", c)
			}
		}
	})
}
