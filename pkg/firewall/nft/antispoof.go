package nft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// An AntiSpoofing keeps a container from sending by its bridge port what is not its
// own: another's hardware or IP address, also inside of ARP and of neighbour discovery,
// and what only routers and DHCP servers send. It is elements of sets in the bridge
// table, whose rules are the same for all ports.
type AntiSpoofing struct {
	Mark    owner.Mark
	Port    string // the host's end of the container's pair
	MAC     net.HardwareAddr
	Addrs   []netip.Addr
	Allowed []AllowedAddress
}

// An AllowedAddress is one, or a prefix of them, that a container uses for others.
type AllowedAddress struct {
	Prefix netip.Prefix
	MAC    net.HardwareAddr // nil for the container's own
}

const kindAntiSpoofing = "antispoofing"

// tableOf is the table that claims of a kind are in.
func tableOf(kind string) *nftables.Table {
	if kind == kindAntiSpoofing {
		return bridgeTable()
	}
	return inet()
}

func familyOfKind(kind string) string {
	if kind == kindAntiSpoofing {
		return "bridge"
	}
	return "inet"
}

var (
	etherAddr = nftables.TypeEtherAddr
	checked   = set{"checked", []nftables.SetDatatype{name}, nil}         // iifname
	macs      = set{"macs", []nftables.SetDatatype{name, etherAddr}, nil} // iifname . ether saddr
)

// sources holds single addresses, ranges the prefixes: a set with ranges costs more
// with each element that is added, and few containers need one.
func (f family) sources() set {
	return set{"sources" + f.suffix, []nftables.SetDatatype{name, etherAddr, f.addr}, nil}
}

func (f family) ranges() set {
	return set{"ranges" + f.suffix, []nftables.SetDatatype{name, etherAddr, f.addr}, nil}
}

// ranged reports whether the keys of a set may be ranges.
func (s set) ranged() bool { return s.name == v4.ranges().name || s.name == v6.ranges().name }

func bridgeSets() []set {
	return []set{owners, checked, macs, v4.sources(), v4.ranges(), v6.sources(), v6.ranges()}
}

// Resource returns it as a resource that the attachment owns.
func (s AntiSpoofing) Resource() engine.Resource {
	c := claim{kind: kindAntiSpoofing, mark: s.Mark, elems: []element{{set: checked, key: ifname(s.Port), text: s.Port}}}
	allowed := slices.Clone(s.Allowed)
	for _, a := range s.Addrs {
		allowed = append(allowed, AllowedAddress{Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	if slices.ContainsFunc(allowed, func(a AllowedAddress) bool { return a.Prefix.Addr().Is6() }) {
		allowed = append(allowed, AllowedAddress{Prefix: netip.PrefixFrom(linkLocal(s.MAC), 128)})
	}
	seen := map[string]bool{}
	for _, a := range append([]AllowedAddress{{}}, allowed...) {
		if a.MAC == nil {
			a.MAC = s.MAC
		}
		for _, e := range s.elements(a) {
			if !seen[e.ref()] {
				seen[e.ref()] = true
				c.elems = append(c.elems, e)
			}
		}
	}
	return c
}

func (s AntiSpoofing) elements(a AllowedAddress) []element {
	key := concatKey(ifname(s.Port), a.MAC)
	text := s.Port + " . " + a.MAC.String()
	elems := []element{{set: macs, key: key, text: text}}
	if !a.Prefix.IsValid() {
		return elems
	}
	f, addr := familyOf(a.Prefix.Addr()), a.Prefix.Masked().Addr()
	if a.Prefix.IsSingleIP() {
		return append(elems, element{set: f.sources(), key: slices.Concat(key, address(addr)), text: text + " . " + addr.String()})
	}
	last := addr.AsSlice()
	for i := a.Prefix.Bits(); i < addr.BitLen(); i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return append(elems, element{set: f.ranges(), key: slices.Concat(key, address(addr)), end: slices.Concat(key, last), text: text + " . " + a.Prefix.Masked().String()})
}

// linkLocal is the address that the kernel gives an interface (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// AntiSpoofingScope finds them by their marks.
func AntiSpoofingScope() engine.Scope { return scope(kindAntiSpoofing) }

const (
	chainChecked   = "checked" // the base chain
	chainOwn       = "own"
	chainOwnARP    = "own_arp"
	chainOwnIP     = "own_ip"
	chainOwnIP6    = "own_ip6"
	chainOwnTarget = "own_target"
	chainOwnSource = "own_source6"
)

func etherSaddr(reg uint32) exprs { return payload(expr.PayloadBaseLLHeader, 6, 6, reg) }

func network(offset, length, reg uint32) exprs {
	return payload(expr.PayloadBaseNetworkHeader, offset, length, reg)
}

func l4is(protocol byte) exprs { return rule(l4proto(reg0), equal(reg0, []byte{protocol})) }

func icmp6Type(t byte) exprs {
	return rule(l4is(unix.IPPROTO_ICMPV6), payload(expr.PayloadBaseTransportHeader, 0, 1, reg0), equal(reg0, []byte{t}))
}

func udpTo(p uint16) exprs { return rule(l4is(unix.IPPROTO_UDP), thDport(reg0), equal(reg0, port(p))) }

func etherType(t uint16) exprs {
	return rule(meta(expr.MetaKeyPROTOCOL, reg0), equal(reg0, port(t)))
}

// anyOf has a rule for single addresses and one for prefixes, behind the port and the
// hardware address.
func anyOf(f family, load, then exprs) []exprs {
	return []exprs{rule(load, in(f.sources()), then), rule(load, in(f.ranges()), then)}
}

// bridgeSkeleton is the constant rules. Frames in more VLANs than one are dropped, as
// nobody can tell what is in them.
func bridgeSkeleton() []chain {
	const (
		afterName = reg0 + 4 // of 16 bytes
		afterMAC  = afterName + 2
	)
	own := rule(iifname(reg0), etherSaddr(afterName))
	arpMAC := rule(iifname(reg0), network(8, 6, afterName))
	source := func(f family) exprs { return rule(own, network(f.saddr, f.bytes, afterMAC)) }
	target := rule(own, payload(expr.PayloadBaseTransportHeader, 8, 16, afterMAC))
	unspecified := func(f family) exprs {
		return rule(network(f.saddr, f.bytes, reg0), equal(reg0, make([]byte, f.bytes)))
	}
	arpRules := append(anyOf(v4, rule(arpMAC, network(14, 4, afterMAC)), back()),
		rule(network(6, 2, reg0), equal(reg0, port(1)), network(14, 4, reg0), equal(reg0, make([]byte, 4)), arpMAC, in(macs), back()), // a probe (RFC 5227)
		drop())
	ip := append([]exprs{rule(udpTo(68), drop())}, anyOf(v4, source(v4), back())...)
	ip = append(ip, rule(unspecified(v4), udpTo(67), back()), rule(unspecified(v4), l4is(unix.IPPROTO_IGMP), back()), drop())
	source6 := anyOf(v6, source(v6), back())
	for _, t := range []byte{131, 132, 133, 143} { // of MLD, and a router solicitation
		source6 = append(source6, rule(unspecified(v6), icmp6Type(t), back()))
	}
	return []chain{
		{name: chainOwnTarget, rules: append(anyOf(v6, target, back()), drop())},
		{name: chainOwnSource, rules: append(source6, drop())},
		{name: chainOwnARP, rules: arpRules},
		{name: chainOwnIP, rules: ip},
		{name: chainOwnIP6, rules: []exprs{
			rule(icmp6Type(134), drop()), rule(icmp6Type(137), drop()), rule(udpTo(546), drop()),
			rule(icmp6Type(136), jump(chainOwnTarget)),
			rule(unspecified(v6), icmp6Type(135), goTo(chainOwnTarget)), // duplicate address detection
			goTo(chainOwnSource),
		}},
		{name: chainOwn, rules: []exprs{
			rule(own, exprs{&expr.Lookup{SourceRegister: reg0, SetName: macs.name, Invert: true}}, drop()),
			rule(etherType(unix.ETH_P_8021Q), drop()), rule(etherType(unix.ETH_P_8021AD), drop()),
			rule(etherType(unix.ETH_P_ARP), goTo(chainOwnARP)),
			rule(etherType(unix.ETH_P_IP), goTo(chainOwnIP)),
			rule(etherType(unix.ETH_P_IPV6), goTo(chainOwnIP6)),
		}},
		{name: chainChecked, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityRaw,
			rules: []exprs{rule(iifname(reg0), in(checked), jump(chainOwn))}},
	}
}

// AntiSpoofingTable returns the constant rules.
func AntiSpoofingTable() engine.Resource { return bridgeRules{} }

type bridgeRules struct{}

func (bridgeRules) Key() string { return "nft table bridge " + tableName + " " + chainOwn }

func (bridgeRules) String() string {
	return "nft -f antispoofing.nft # table bridge " + tableName
}

func (bridgeRules) Observe(ctx context.Context) (engine.Diff, error) {
	if present, err := chainExists(ctx, bridgeTable(), chainChecked); err != nil || !present {
		return engine.Absent, err
	}
	found, err := digests(bridgeTable())
	if err != nil {
		return engine.Same, err
	}
	for _, want := range bridgeSkeleton() {
		if diff := want.compare(found[want.name]); diff != engine.Same {
			return diff, nil
		}
	}
	return engine.Same, nil
}

func (b bridgeRules) Apply(ctx context.Context) error {
	diff, err := b.Observe(ctx)
	if err != nil || diff == engine.Same {
		return err
	}
	c := writer()
	t := c.AddTable(bridgeTable())
	for _, s := range bridgeSets() {
		if err := c.AddSet(s.in(t), nil); err != nil {
			return err
		}
	}
	addChains(c, t, bridgeSkeleton())
	return c.Flush()
}

func (bridgeRules) Remove(ctx context.Context) error { return spoofTable{}.Remove(ctx) }

// BridgeFamily returns a requirement: that the kernel filters bridges with nf_tables.
func BridgeFamily() engine.Resource { return bridgeFamily{} }

type bridgeFamily struct{}

func (bridgeFamily) Key() string    { return "nf_tables bridge" }
func (bridgeFamily) String() string { return "nft list tables bridge" }

// Observe asks for a table in a transaction that cannot succeed, as only then the
// kernel says whether it would make one.
func (bridgeFamily) Observe(ctx context.Context) (engine.Diff, error) {
	if present, err := chainExists(ctx, bridgeTable(), chainChecked); err != nil || present {
		return engine.Same, err
	}
	nc := writer()
	nc.AddTable(&nftables.Table{Name: tableName + "-asked", Family: nftables.TableFamilyBridge})
	nc.DelTable(&nftables.Table{Name: tableName + "-none", Family: nftables.TableFamilyBridge})
	switch err := nc.Flush(); {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT):
		return engine.Diff("the kernel was built without nf_tables for bridges (NF_TABLES_BRIDGE), which antiSpoofing needs"), nil
	case errors.Is(err, unix.ENOENT):
		return engine.Same, nil
	default:
		return engine.Same, fmt.Errorf("nf_tables of family bridge: %w", err)
	}
}

func (bridgeFamily) Apply(context.Context) error  { return nil }
func (bridgeFamily) Remove(context.Context) error { return nil }
