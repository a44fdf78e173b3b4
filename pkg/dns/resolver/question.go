package resolver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// A question is what a query asks, and how its answer has to look. It is read
// without allocating, as most queries are answered from memory; what is unusual
// about a query is left to the dns package.
type question struct {
	id     uint16
	flags  uint16
	name   []byte // as asked, in wire form; answers repeat it
	qtype  uint16
	qclass uint16
	edns   bool
	do     bool
	size   int // of the largest answer that the client takes by UDP
}

const (
	headerLen  = 12
	minSize    = 512  // RFC 1035, section 4.2.1
	maxSize    = 1232 // what passes without fragments (DNS flag day 2020)
	maxNameLen = 255  // on the wire

	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4
	opcode = 0xf << 11
)

// read parses a query. It returns the Rcode to refuse it with, and false for
// what must not be answered at all: what is no query, and could be another
// server's answer.
func (q *question) read(b []byte) (rcode int, ok bool) {
	if len(b) < headerLen {
		return 0, false
	}
	*q = question{id: binary.BigEndian.Uint16(b), flags: binary.BigEndian.Uint16(b[2:]), size: minSize}
	if q.flags&flagQR != 0 {
		return 0, false
	}
	if q.flags&opcode != 0 {
		return dns.RcodeNotImplemented, true
	}
	var counts [4]uint16
	for i := range counts {
		counts[i] = binary.BigEndian.Uint16(b[4+2*i:])
	}
	if counts[0] != 1 || counts[1] != 0 || counts[2] != 0 || counts[3] > 1 {
		return dns.RcodeFormatError, true
	}
	end := nameEnd(b[headerLen:])
	if end < 0 || len(b) < headerLen+end+4 {
		return dns.RcodeFormatError, true
	}
	q.name = b[headerLen : headerLen+end]
	rest := b[headerLen+end:]
	q.qtype, q.qclass = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	return q.readEDNS(rest[4:], counts[3] == 1)
}

// readEDNS parses the OPT record (RFC 6891, section 6.1.2), or takes another one,
// such as a signature, for what we do not implement.
func (q *question) readEDNS(b []byte, present bool) (rcode int, ok bool) {
	const fixed = 11 // root, type, size, flags, length
	if !present {
		return dns.RcodeSuccess, true
	}
	if len(b) < fixed || b[0] != 0 || len(b) < fixed+int(binary.BigEndian.Uint16(b[9:])) {
		return dns.RcodeFormatError, true
	}
	if binary.BigEndian.Uint16(b[1:]) != dns.TypeOPT {
		return dns.RcodeNotImplemented, true
	}
	q.edns = true
	q.size = min(max(int(binary.BigEndian.Uint16(b[3:])), minSize), maxSize)
	q.do = b[7]&0x80 != 0
	if b[6] != 0 {
		return dns.RcodeBadVers, true
	}
	return dns.RcodeSuccess, true
}

// nameEnd returns the length of the name that b begins with, -1 if there is none
// that is whole and not compressed: a question has nothing before it to point to.
func nameEnd(b []byte) int {
	for at := 0; at < len(b) && at < maxNameLen; {
		n := int(b[at])
		if n == 0 {
			return at + 1
		}
		if n > 63 {
			return -1
		}
		at += n + 1
	}
	return -1
}

// text returns the name in lower case, with dots between labels and none at the
// end. A dot or zero inside of a label becomes a byte that no name of ours has.
func (q *question) text() string {
	var buf [maxNameLen]byte
	out := buf[:0]
	for at := 0; q.name[at] != 0; at += int(q.name[at]) + 1 {
		if at > 0 {
			out = append(out, '.')
		}
		for _, c := range q.name[at+1 : at+1+int(q.name[at])] {
			switch {
			case c >= 'A' && c <= 'Z':
				c += 'a' - 'A'
			case c == '.':
				c = 0xff
			}
			out = append(out, c)
		}
	}
	return string(out)
}
