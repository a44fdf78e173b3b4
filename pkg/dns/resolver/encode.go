package resolver

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

// pointer leads to the name in the question (RFC 1035, section 4.1.4).
const pointer = 0xc000 | headerLen

// begin appends the header of an answer, and the question.
func (q *question) begin(b []byte, rcode int, flags uint16) []byte {
	flags |= flagQR | flagRA | q.flags&(flagRD|flagCD|opcode) | uint16(rcode&0xf)
	b = binary.BigEndian.AppendUint16(b, q.id)
	b = binary.BigEndian.AppendUint16(b, flags)
	questions := uint16(0)
	if q.name != nil {
		questions = 1
	}
	b = binary.BigEndian.AppendUint16(b, questions)
	b = append(b, 0, 0, 0, 0, 0, 0)
	if q.name != nil {
		b = append(b, q.name...)
		b = binary.BigEndian.AppendUint16(b, q.qtype)
		b = binary.BigEndian.AppendUint16(b, q.qclass)
	}
	return b
}

// finish appends what the client is told of EDNS, if it speaks that.
func (q *question) finish(b []byte, rcode int) []byte {
	if !q.edns {
		return b
	}
	binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])+1)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, dns.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, maxSize)
	b = append(b, byte(rcode>>4), 0, 0, 0, 0, 0)
	if q.do {
		b[len(b)-4] = 0x80
	}
	return b
}

// refuse appends an answer that is nothing but an Rcode.
func (q *question) refuse(b []byte, rcode int) []byte {
	start := len(b)
	b = q.begin(b, rcode, 0)
	return append(b[:start], q.finish(b[start:], rcode)...)
}

// optLen is what finish appends.
const optLen = 11

// local appends the answer that a zone gives. limit is the size of what the
// client takes: what does not fit is left out, and the client told to ask again
// by TCP.
func (q *question) local(b []byte, a zone.Answer, limit int) []byte {
	start := len(b)
	b = q.begin(b, a.Rcode, flagAA)
	if q.edns {
		limit -= optLen
	}
	count := uint16(0)
	put := func(rr []byte) {
		if len(b)-start+len(rr) > limit {
			b[start+2] |= flagTC >> 8
			return
		}
		b = append(b, rr...)
		count++
	}
	var rr [maxNameLen + 32]byte
	offset := 0
	if len(a.Addrs) > 1 {
		offset = rand.IntN(len(a.Addrs))
	}
	for i := range a.Addrs {
		put(appendAddr(rr[:0], a.Addrs[(i+offset)%len(a.Addrs)], a.TTL))
	}
	if a.Name != "" {
		put(appendName(appendHead(rr[:0], dns.TypePTR, a.TTL), a.Name, 0))
	}
	for _, t := range a.SRV {
		put(appendSRV(rr[:0], t, a.TTL))
	}
	binary.BigEndian.PutUint16(b[start+6:], count)
	return append(b[:start], q.finish(b[start:], a.Rcode)...)
}

func appendHead(b []byte, rrtype uint16, ttl uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, pointer)
	b = binary.BigEndian.AppendUint16(b, rrtype)
	b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, ttl)
	return append(b, 0, 0) // length
}

func appendAddr(b []byte, a netip.Addr, ttl uint32) []byte {
	rrtype := dns.TypeAAAA
	if a.Is4() {
		rrtype = dns.TypeA
	}
	b = appendHead(b, rrtype, ttl)
	before := len(b)
	if a.Is4() {
		v4 := a.As4()
		b = append(b, v4[:]...)
	} else {
		v6 := a.As16()
		b = append(b, v6[:]...)
	}
	binary.BigEndian.PutUint16(b[before-2:], uint16(len(b)-before))
	return b
}

func appendSRV(b []byte, t zone.Target, ttl uint32) []byte {
	const priority, weight = 0, 1
	b = appendHead(b, dns.TypeSRV, ttl)
	b = binary.BigEndian.AppendUint16(b, priority)
	b = binary.BigEndian.AppendUint16(b, weight)
	b = binary.BigEndian.AppendUint16(b, t.Port)
	return appendName(b, t.Name, 6)
}

// appendName appends a name, and sets the length of its record, of whose data
// there are so many bytes before it.
func appendName(b []byte, name string, before int) []byte {
	start := len(b)
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint16(b[start-before-2:], uint16(len(b)-start+before))
	return b
}
