package nft

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// A field is what a condition compares.
type field struct {
	names []string // nft's first, then those of iptables' options
	load  exprs    // into reg0
	// parse returns the comparison of reg0 with a value.
	parse    func(value string, op expr.CmpOp) (exprs, error)
	ordered  bool // < and > mean something
	clobbers bool // the comparison changes reg0
}

// fields are those of packets of one family that come to a published port.
func fields(f family) []field {
	protocol := func(names ...string) field {
		return field{names: names, load: l4proto(reg0), parse: parseProtocol}
	}
	return slices.Concat([]field{
		{names: []string{f.name + " saddr", "-s", "--source", "--src"}, load: rule(f.is(), f.loadSaddr()), parse: f.parseAddress, clobbers: true},
		{names: []string{f.name + " daddr", "-d", "--destination", "--dst"}, load: rule(f.is(), f.loadDaddr(reg0)), parse: f.parseAddress, clobbers: true},
		{names: []string{"iifname", "meta iifname", "iif", "meta iif", "-i", "--in-interface"}, load: iifname(reg0), parse: parseLink},
		{names: []string{"oifname", "meta oifname", "oif", "meta oif"}, load: oifname(reg0), parse: parseLink},
		protocol("meta l4proto", "ip protocol", "ip6 nexthdr", "-p", "--protocol"),
		{names: []string{"meta mark", "mark"}, load: meta(expr.MetaKeyMARK, reg0), parse: parseMark},
		{names: []string{"fib saddr type"}, load: exprs{&expr.Fib{Register: reg0, FlagSADDR: true, ResultADDRTYPE: true}}, parse: parseAddressType},
		{names: []string{"fib daddr type"}, load: exprs{&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true}}, parse: parseAddressType},
	}, portFields())
}

// portFields are "tcp dport" and its like; "th dport" is of any protocol.
func portFields() (out []field) {
	for _, p := range []struct {
		name     string
		protocol nat.Protocol
	}{{"tcp", nat.TCP}, {"udp", nat.UDP}, {"sctp", nat.SCTP}, {"th", 0}} {
		var is exprs
		if p.protocol != 0 {
			is = rule(l4proto(reg0), equal(reg0, []byte{byte(p.protocol)}))
		}
		for offset, name := range []string{"sport", "dport"} {
			out = append(out, field{
				names: []string{p.name + " " + name}, ordered: true, parse: parsePort,
				load: rule(is, payload(expr.PayloadBaseTransportHeader, uint32(2*offset), 2, reg0)),
			})
		}
	}
	return out
}

func (f family) parseAddress(s string, op expr.CmpOp) (exprs, error) {
	bad := fmt.Errorf("want an address, a subnet or a range of family %s", f.name)
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		p, err := parsePrefix(s)
		if err != nil || p.Addr().Is4() != (f == v4) {
			return nil, bad
		}
		return masked(op, reg0, p), nil
	}
	a, err1 := netip.ParseAddr(first)
	b, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || a.Is4() != (f == v4) || b.Is4() != (f == v4) || b.Less(a) {
		return nil, bad
	}
	return between(op, a.AsSlice(), b.AsSlice()), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func between(op expr.CmpOp, from, to []byte) exprs {
	return exprs{&expr.Range{Op: op, Register: reg0, FromData: from, ToData: to}}
}

// parseLink takes "eth*" and iptables' "eth+" for all links whose names begin so.
func parseLink(s string, op expr.CmpOp) (exprs, error) {
	if len(s) > 15 || s == "" {
		return nil, errors.New("want a link name of 1 to 15 bytes")
	}
	if prefix := strings.TrimRight(s, "*+"); prefix != s && prefix != "" {
		return compare(op, reg0, []byte(prefix)), nil
	}
	return compare(op, reg0, ifname(s)), nil
}

func parseProtocol(s string, op expr.CmpOp) (exprs, error) {
	p, ok := nat.ParseProtocol(s)
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		p, ok = nat.Protocol(n), true
	}
	if !ok || s == "" {
		return nil, errors.New("want tcp, udp, sctp or a number of 0 to 255")
	}
	return compare(op, reg0, []byte{byte(p)}), nil
}

func parsePort(s string, op expr.CmpOp) (exprs, error) {
	first, last, isRange := strings.Cut(s, "-")
	isRange = isRange && first != "" && first[0] >= '0' && first[0] <= '9' // services have names with '-'
	if !isRange {
		first, last = s, s
	}
	a, err1 := net.LookupPort("tcp", first)
	b, err2 := net.LookupPort("tcp", last)
	if err1 != nil || err2 != nil || a > b || s == "" {
		return nil, errors.New("want a port, a range of ports or the name of a service")
	}
	if isRange {
		if op != expr.CmpOpEq && op != expr.CmpOpNeq {
			return nil, errors.New("a range is compared with == or != alone")
		}
		return between(op, port(uint16(a)), port(uint16(b))), nil
	}
	return compare(op, reg0, port(uint16(a))), nil
}

func parseMark(s string, op expr.CmpOp) (exprs, error) {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return nil, errors.New("want a number of 32 bits")
	}
	return compare(op, reg0, binaryutil.NativeEndian.PutUint32(uint32(n))), nil
}

var addressTypes = map[string]uint32{
	"local": unix.RTN_LOCAL, "unicast": unix.RTN_UNICAST, "broadcast": unix.RTN_BROADCAST,
	"anycast": unix.RTN_ANYCAST, "multicast": unix.RTN_MULTICAST,
}

func parseAddressType(s string, op expr.CmpOp) (exprs, error) {
	kind, ok := addressTypes[s]
	if !ok {
		return nil, fmt.Errorf("want one of %s", strings.Join(slices.Sorted(maps.Keys(addressTypes)), ", "))
	}
	return compare(op, reg0, binaryutil.NativeEndian.PutUint32(kind)), nil
}
