package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The functions below are nft's matches and statements, named after nft's
// words, so that the skeleton reads as the nft file that it prints as. reg is
// the 32-bit register where a value goes; a concatenation is a row of them.

const reg0 = unix.NFT_REG32_00

type exprs = []expr.Any

func rule(parts ...exprs) exprs {
	var out exprs
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func meta(key expr.MetaKey, reg uint32) exprs {
	return exprs{&expr.Meta{Key: key, Register: reg}}
}

func iif(reg uint32) exprs     { return meta(expr.MetaKeyIIF, reg) }
func iifname(reg uint32) exprs { return meta(expr.MetaKeyIIFNAME, reg) }
func oifname(reg uint32) exprs { return meta(expr.MetaKeyOIFNAME, reg) }
func l4proto(reg uint32) exprs { return meta(expr.MetaKeyL4PROTO, reg) }

func equal(reg uint32, data []byte) exprs { return compare(expr.CmpOpEq, reg, data) }

func compare(op expr.CmpOp, reg uint32, data []byte) exprs {
	return exprs{&expr.Cmp{Op: op, Register: reg, Data: data}}
}

func payload(base expr.PayloadBase, offset, length, reg uint32) exprs {
	return exprs{&expr.Payload{Base: base, Offset: offset, Len: length, DestRegister: reg}}
}

// thDport loads the destination port of tcp, udp and sctp alike.
func thDport(reg uint32) exprs { return payload(expr.PayloadBaseTransportHeader, 2, 2, reg) }

// A family is what differs between IPv4 and IPv6.
type family struct {
	name         string // "ip", as nft says it
	suffix       string // of set names
	nfproto      byte
	addr         nftables.SetDatatype
	bytes        uint32
	saddr, daddr uint32 // header offsets
	multicast    netip.Prefix
}

var (
	v4 = family{"ip", "4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 4, 12, 16, netip.MustParsePrefix("224.0.0.0/4")}
	v6 = family{"ip6", "6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 16, 8, 24, netip.MustParsePrefix("ff00::/8")}
)

func families() []family { return []family{v4, v6} }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// is matches packets of the family; it must come before any of its addresses.
func (f family) is() exprs {
	return rule(meta(expr.MetaKeyNFPROTO, reg0), equal(reg0, []byte{f.nfproto}))
}

func (f family) loadSaddr() exprs {
	return payload(expr.PayloadBaseNetworkHeader, f.saddr, f.bytes, reg0)
}

func (f family) loadDaddr(reg uint32) exprs {
	return payload(expr.PayloadBaseNetworkHeader, f.daddr, f.bytes, reg)
}

// after returns the register after an address of the family at reg0.
func (f family) after() uint32 { return reg0 + f.bytes/4 }

// within matches an address that was loaded into reg against a prefix.
func within(reg uint32, p netip.Prefix) exprs { return masked(expr.CmpOpEq, reg, p) }

func masked(op expr.CmpOp, reg uint32, p netip.Prefix) exprs {
	addr := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return rule(
		exprs{&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(addr)), Mask: mask, Xor: make([]byte, len(addr))}},
		compare(op, reg, addr),
	)
}

// destination loads "daddr . l4proto . th dport" of the family.
func (f family) destination() exprs {
	return rule(f.is(), f.loadDaddr(reg0), l4proto(f.after()), thDport(f.after()+1))
}

func in(s set) exprs {
	return exprs{&expr.Lookup{SourceRegister: reg0, SetName: s.name}}
}

func notIn(s set) exprs {
	return exprs{&expr.Lookup{SourceRegister: reg0, SetName: s.name, Invert: true}}
}

// vmap takes the verdict that the map holds for what was loaded at reg0.
func vmap(s set) exprs {
	return exprs{&expr.Lookup{SourceRegister: reg0, SetName: s.name, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}}
}

// dnatTo translates to the "address . port" that the map holds.
func (f family) dnatTo(s set) exprs {
	return exprs{
		&expr.Lookup{SourceRegister: reg0, SetName: s.name, DestRegister: reg0, IsDestRegSet: true},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: reg0, RegProtoMin: f.after(), Specified: true},
	}
}

func ctState(bits uint32) exprs { return ctBits(expr.CtKeySTATE, bits) }

// ctStatusDNAT matches packets of connections whose destination was translated,
// by whomever.
func ctStatusDNAT() exprs {
	const ipsDstNAT = 1 << 5 // enum ip_conntrack_status, IPS_DST_NAT
	return ctBits(expr.CtKeySTATUS, ipsDstNAT)
}

func ctBits(key expr.CtKey, bits uint32) exprs {
	mask := binaryutil.NativeEndian.PutUint32(bits)
	zero := make([]byte, 4)
	return exprs{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: mask, Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: zero},
	}
}

// ctDirection matches packets of connections in one of their directions.
func ctDirection(d byte) exprs {
	return exprs{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: []byte{d}}}
}

const reply = 1 // enum ip_conntrack_dir, IP_CT_DIR_REPLY

func fibDaddrLocal() exprs {
	return rule(addressType(expr.Fib{FlagDADDR: true}), equal(reg0, rtnLocal))
}

// addressType loads what an address is to the host.
func addressType(of expr.Fib) exprs {
	of.Register, of.ResultADDRTYPE = reg0, true
	return exprs{&of}
}

var rtnLocal = binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)

func verdict(kind expr.VerdictKind, chain ...string) exprs {
	v := &expr.Verdict{Kind: kind}
	if len(chain) == 1 {
		v.Chain = chain[0]
	}
	return exprs{v}
}

func accept() exprs               { return verdict(expr.VerdictAccept) }
func drop() exprs                 { return verdict(expr.VerdictDrop) }
func back() exprs                 { return verdict(expr.VerdictReturn) }
func jump(chain string) exprs     { return verdict(expr.VerdictJump, chain) }
func goTo(chain string) exprs     { return verdict(expr.VerdictGoto, chain) }
func masquerade() exprs           { return exprs{&expr.Masq{FullyRandom: true}} }
func port(p uint16) []byte        { return binaryutil.BigEndian.PutUint16(p) }
func ifname(name string) []byte   { return append([]byte(name), make([]byte, 16-len(name))...) }
func pad(b []byte) []byte         { return append(b, make([]byte, (4-len(b)%4)%4)...) }
func address(a netip.Addr) []byte { return a.AsSlice() }
