package resolver

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A key is what an answer of another server depends on.
type key struct {
	scope  string
	name   string // in lower case
	qtype  uint16
	do, cd bool
}

// A cache keeps the answers of other servers for as long as they are good.
type cache struct {
	mu      sync.RWMutex
	entries map[key]*entry
	bytes   int
}

// What the cache may hold.
const (
	maxEntries  = 10_000
	maxBytes    = 8 << 20
	maxPositive = 24 * time.Hour
	maxNegative = 5 * time.Minute
	failureTTL  = time.Second // RFC 9520, section 3.2
)

// An entry is an answer without the client's own: its ID, its flags, EDNS.
type entry struct {
	wire   []byte
	ttls   []int // where in wire
	stored time.Time
	until  time.Time
}

// newEntry makes an entry of an answer that was judged, and reports for how long
// it is good: 0 is for the one who asked alone.
func newEntry(m *dns.Msg, now time.Time) (*entry, error) {
	m.Extra = withoutOPT(m.Extra)
	m.Compress = true
	wire, err := m.Pack()
	if err == nil {
		err = new(dns.Msg).Unpack(wire) // not all that the package takes is packed well
	}
	if err != nil {
		return nil, err
	}
	return &entry{wire: wire, ttls: ttlsOf(wire), stored: now, until: now.Add(lifetime(m))}, nil
}

func withoutOPT(rrs []dns.RR) (out []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// lifetime is the least TTL, and of an answer that is none what RFC 2308, section
// 5, says.
func lifetime(m *dns.Msg) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return failureTTL
	}
	if len(m.Answer) > 0 && m.Rcode == dns.RcodeSuccess {
		least := maxPositive
		for _, rr := range m.Answer {
			least = min(least, time.Duration(rr.Header().Ttl)*time.Second)
		}
		return least
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(maxNegative, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
		}
	}
	return 0
}

// ttlsOf finds the TTLs in a message that the dns package has packed.
func ttlsOf(wire []byte) (at []int) {
	records := 0
	for i := 6; i < headerLen; i += 2 {
		records += int(binary.BigEndian.Uint16(wire[i:]))
	}
	pos := headerLen
	if binary.BigEndian.Uint16(wire[4:]) == 1 {
		pos = skipName(wire, pos) + 4
	}
	for range records {
		pos = skipName(wire, pos)
		at = append(at, pos+4)
		pos += 10 + int(binary.BigEndian.Uint16(wire[pos+8:]))
	}
	return at
}

func skipName(b []byte, at int) int {
	for b[at] != 0 {
		if b[at]&0xc0 == 0xc0 {
			return at + 2
		}
		at += int(b[at]) + 1
	}
	return at + 1
}

// get returns an entry that is still good.
func (c *cache) get(k key, now time.Time) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[k]; e != nil && now.Before(e.until) {
		return e
	}
	return nil
}

// put keeps an entry. Where there is no room, others go: first of a few those
// that are no longer good.
func (c *cache) put(k key, e *entry) {
	if !e.until.After(e.stored) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[key]*entry{}
	}
	c.drop(k)
	for len(c.entries) >= maxEntries || c.bytes+len(e.wire) > maxBytes {
		c.drop(c.victim(e.stored))
	}
	c.entries[k] = e
	c.bytes += len(e.wire)
}

func (c *cache) victim(now time.Time) (victim key) {
	const look = 8
	seen := 0
	for k, e := range c.entries { // in random order
		victim = k
		if seen++; seen == look || now.After(e.until) {
			break
		}
	}
	return victim
}

func (c *cache) drop(k key) {
	if e := c.entries[k]; e != nil {
		c.bytes -= len(e.wire)
		delete(c.entries, k)
	}
}

func (c *cache) size() (entries, bytes int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries), c.bytes
}

// answer appends what the client gets of an entry: under the name as it was
// asked for, with what is left of the TTLs.
func (e *entry) answer(b []byte, q *question, limit int, now time.Time) []byte {
	rcode := int(e.wire[3] & 0xf)
	room := limit
	if q.edns {
		room -= optLen
	}
	start := len(b)
	wire, ttls, cut := e.within(room)
	b = append(b, wire...)
	m := b[start:]
	binary.BigEndian.PutUint16(m, q.id)
	flags := binary.BigEndian.Uint16(m[2:])&^(flagTC|flagRD|flagCD|flagAA) | flagQR | flagRA | q.flags&(flagRD|flagCD)
	if !q.do && q.flags&flagAD == 0 {
		flags &^= flagAD // RFC 6840, section 5.8
	}
	if cut {
		flags |= flagTC
		binary.BigEndian.PutUint16(m[6:], uint16(len(ttls)))
		clear(m[8:headerLen])
	}
	binary.BigEndian.PutUint16(m[2:], flags)
	copy(m[headerLen:], q.name)
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, at := range ttls {
		ttl := binary.BigEndian.Uint32(m[at:])
		binary.BigEndian.PutUint32(m[at:], ttl-min(age, ttl))
	}
	return append(b[:start], q.finish(m, rcode)...)
}

// within returns as much of an entry as fits: all of it, or whole records of the
// answer, for clients that cannot ask again by TCP (musl before 1.2.4).
func (e *entry) within(room int) (wire []byte, ttls []int, cut bool) {
	if len(e.wire) <= room {
		return e.wire, e.ttls, false
	}
	end := headerLen
	if binary.BigEndian.Uint16(e.wire[4:]) == 1 {
		end = skipName(e.wire, end) + 4
	}
	for _, at := range e.ttls[:binary.BigEndian.Uint16(e.wire[6:])] {
		next := at + 6 + int(binary.BigEndian.Uint16(e.wire[at+4:]))
		if next > room {
			break
		}
		end = next
		ttls = append(ttls, at)
	}
	return e.wire[:end], ttls, true
}
