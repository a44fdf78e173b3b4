package zone

import (
	"net/netip"
	"strings"
)

// Types of questions, and an Rcode (RFC 1035, RFC 3596, RFC 2782). A package that
// knows the whole protocol would cost each ADD and DEL its start.
const (
	typeA     = 1
	typePTR   = 12
	typeAAAA  = 28
	typeSRV   = 33
	typeANY   = 255
	nameError = 3
)

// An Answer is what a view says to a question.
type Answer struct {
	// Known is false where the view does not know the name: then somebody else
	// may be asked, if anybody may.
	Known bool
	// Rcode is that of success, 0, or that of a name that does not exist, 3.
	Rcode int
	TTL   uint32 // seconds
	Addrs []netip.Addr
	Name  string // of PTR, without the final dot
	SRV   []Target
}

// A Target is one answer to SRV.
type Target struct {
	Name string // without the final dot
	Port uint16
}

// Answer answers the question for a name, in lower case and without the final
// dot. It is a pure function. Of a name that is known, types that it does not
// have are empty answers, so that nobody else is asked about it. Several owners
// of a name come all, in no particular order; the caller must not change them.
func (v *View) Answer(name string, qtype uint16) Answer {
	if hosts := v.lookup(name); hosts != nil {
		return join(hosts, qtype)
	}
	if qtype == typePTR {
		return v.pointer(name)
	}
	if strings.HasPrefix(name, "_") {
		if a := v.service(name, qtype); a.Known {
			return a
		}
	}
	for _, d := range v.domains {
		if name == d {
			return Answer{Known: true}
		}
		if strings.HasSuffix(name, d) && name[len(name)-len(d)-1] == '.' {
			return Answer{Known: true, Rcode: nameError}
		}
	}
	return Answer{}
}

// lookup finds a name in all zones of the view.
func (v *View) lookup(name string) (hosts []*host) {
	for _, z := range v.zones {
		if h := z.host(name); h != nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

func join(hosts []*host, qtype uint16) Answer {
	a := Answer{Known: true, TTL: hosts[0].ttl}
	for i, h := range hosts {
		a.TTL = min(a.TTL, h.ttl)
		for _, addrs := range h.of(qtype) {
			if i == 0 && a.Addrs == nil {
				a.Addrs = addrs[:len(addrs):len(addrs)] // the usual case copies nothing
			} else {
				a.Addrs = append(a.Addrs, addrs...)
			}
		}
	}
	return a
}

func (h *host) of(qtype uint16) [][]netip.Addr {
	switch qtype {
	case typeA:
		return [][]netip.Addr{h.v4}
	case typeAAAA:
		return [][]netip.Addr{h.v6}
	case typeANY:
		return [][]netip.Addr{h.v4, h.v6}
	}
	return nil
}

// service answers for "_service._protocol.name" (RFC 2782).
func (v *View) service(name string, qtype uint16) Answer {
	service, rest, _ := strings.Cut(name[1:], ".")
	protocol, host, ok := strings.Cut(rest, ".")
	hosts := v.lookup(host)
	if !ok || !strings.HasPrefix(protocol, "_") || hosts == nil {
		return Answer{}
	}
	a := Answer{Known: true, Rcode: nameError, TTL: hosts[0].ttl}
	for _, h := range hosts {
		a.TTL = min(a.TTL, h.ttl)
		for _, t := range h.services {
			if t.Name == service && t.Protocol == protocol[1:] {
				a.Rcode = 0
				if qtype == typeSRV {
					a.SRV = append(a.SRV, Target{t.name, t.Port})
				}
			}
		}
	}
	return a
}

// pointer answers for the names of addresses (RFC 1035, section 3.5, and RFC
// 3596, section 2.5).
func (v *View) pointer(name string) Answer {
	addr, ok := parseReverse(name)
	if !ok {
		return Answer{}
	}
	for _, z := range v.zones {
		if n, ttl := z.named(addr); n != "" {
			return Answer{Known: true, Name: n, TTL: ttl}
		}
	}
	return Answer{}
}

func parseReverse(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(v4, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	const nibbles = 32
	if !ok || len(v6) != 2*nibbles-1 {
		return netip.Addr{}, false
	}
	var text strings.Builder
	for i := nibbles - 1; i >= 0; i-- {
		if i > 0 && v6[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		text.WriteByte(v6[2*i])
		if i%4 == 0 && i > 0 {
			text.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(text.String())
	return a, err == nil
}
