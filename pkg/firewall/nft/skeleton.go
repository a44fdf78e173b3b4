package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the one table of the suite, in family inet; macspoofchk has a
// second one of that name in family bridge.
const tableName = "dockyard"

// A set is one of the table's sets or maps. Its elements are all that grows.
type set struct {
	name string
	key  []nftables.SetDatatype
	data []nftables.SetDatatype // of a map; TypeVerdict for a verdict map
}

var verdicts = []nftables.SetDatatype{nftables.TypeVerdict}

var (
	name    = nftables.TypeIFName
	ifindex = nftables.TypeIFIndex // where nft takes no name: of the link of a route
	proto   = nftables.TypeInetProto
	service = nftables.TypeInetService
)

var (
	// owners is the index of what is claimed; see claim.go.
	owners = set{"owners", []nftables.SetDatatype{nftables.TypeIP6Addr, nftables.TypeMark}, nil}

	// Policies of networks, by bridge.
	isolated = set{"isolated", []nftables.SetDatatype{ifindex}, nil}                   // iif, and link to a source
	arrivals = set{"arrivals", []nftables.SetDatatype{ifindex, ifindex}, nil}          // link to the source . iif
	from     = set{"from", []nftables.SetDatatype{name}, verdicts}                     // iifname
	to       = set{"to", []nftables.SetDatatype{nftables.TypeNFProto, name}, verdicts} // nfproto . oifname
	pairs    = set{"pairs", []nftables.SetDatatype{name, name}, verdicts}              // iifname . oifname
	host     = set{"host", []nftables.SetDatatype{name}, verdicts}                     // iifname
	hairpins = set{"hairpins", []nftables.SetDatatype{name, name}, nil}                // iifname . oifname

	// tunnels are the VXLAN devices of overlay networks; see tunnel.go.
	tunnels = set{"tunnels", []nftables.SetDatatype{vniType()}, verdicts} // VNI
)

// byFamily are the sets that hold addresses or ports of one family.
type byFamily struct {
	ports, hostPorts, conditional set // published: l4proto . port; daddr . l4proto . port
	hostConditional               set
	open, snat                    set // daddr . l4proto . port of containers
	self                          set // saddr . daddr of a container that talks to itself
	masq, direct                  set // saddr; saddr . oifname
}

func (f family) sets() byFamily {
	type types = []nftables.SetDatatype
	target := types{f.addr, service}
	return byFamily{
		ports:           set{"ports" + f.suffix, types{proto, service}, target},
		hostPorts:       set{"hostports" + f.suffix, types{f.addr, proto, service}, target},
		conditional:     set{"cports" + f.suffix, types{proto, service}, verdicts},
		hostConditional: set{"chostports" + f.suffix, types{f.addr, proto, service}, verdicts},
		open:            set{"open" + f.suffix, types{f.addr, proto, service}, nil},
		snat:            set{"snat" + f.suffix, types{f.addr, proto, service}, verdicts},
		self:            set{"self" + f.suffix, types{f.addr, f.addr}, nil},
		masq:            set{"masq" + f.suffix, types{f.addr}, nil},
		direct:          set{"direct" + f.suffix, types{f.addr, name}, nil},
	}
}

// The chains that verdict maps lead to.
const (
	chainInternal     = "internal"      // neither in nor out
	chainToNAT        = "to_nat"        // in: published ports only
	chainToRouted     = "to_routed"     // in: published ports, by the container's own address too
	chainToOpen       = "to_open"       // in: all; peers by published ports only
	chainOpened       = "opened"        // a container's published ports by its own address
	chainHostInternal = "host_internal" // to the host: names only
	chainHostIsolated = "host_isolated" // to the host: nothing
	chainPublished    = "published"
	chainHairpin      = "hairpin"
	chainMasqAll      = "masq_all"
	chainGuard        = "guard"
)

// A chain is one chain of the skeleton; base chains have a hook.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    []exprs
	texts    []string // the rules in words, of a claim's chain
}

// skeleton returns every chain of the table: a constant number of rules,
// whatever the number of networks, containers and ports.
func skeleton() []chain {
	return append(append(policyChains(), natChains()...), baseChains()...)
}

// allSets returns every set of the table.
func allSets() []set {
	sets := []set{owners, isolated, arrivals, from, to, pairs, host, hairpins, tunnels}
	for _, f := range families() {
		s := f.sets()
		sets = append(sets, s.ports, s.hostPorts, s.conditional, s.hostConditional, s.open, s.snat, s.self, s.masq, s.direct)
	}
	return sets
}

func policyChains() []chain {
	samePair := rule(iifname(reg0), oifname(reg0+4), vmap(pairs))
	published := rule(ctStatusDNAT(), accept())
	var opened []exprs
	for _, f := range families() {
		opened = append(opened, rule(f.destination(), in(f.sets().open), accept()))
	}
	return []chain{
		{name: chainOpened, rules: append(opened, drop())},
		{name: chainInternal, rules: []exprs{samePair, drop()}},
		{name: chainToNAT, rules: []exprs{established(), published, samePair, drop()}},
		{name: chainToRouted, rules: []exprs{established(), published, samePair, icmp(unix.IPPROTO_ICMP), icmp(unix.IPPROTO_ICMPV6), goTo(chainOpened)}},
		{name: chainToOpen, rules: []exprs{established(), published, samePair}},
		{name: chainHostInternal, rules: []exprs{established(), dns(unix.IPPROTO_UDP), dns(unix.IPPROTO_TCP), neighbourDiscovery(), drop()}},
		{name: chainHostIsolated, rules: []exprs{drop()}},
	}
}

func natChains() []chain {
	var published, masqAll, hairpin []exprs
	for _, f := range families() {
		s := f.sets()
		service := rule(f.is(), l4proto(reg0), thDport(reg0+1))
		published = append(published,
			rule(f.destination(), vmap(s.hostConditional)),
			rule(service, vmap(s.conditional)),
			rule(f.destination(), f.dnatTo(s.hostPorts)),
			rule(service, f.dnatTo(s.ports)))
		// Bridged packets that br_netfilter shows here have no iifname; of
		// those only the container's own need another source.
		hairpin = append(hairpin, rule(f.is(), f.loadSaddr(), f.loadDaddr(f.after()), in(s.self), masquerade()))
	}
	hairpin = append(hairpin,
		rule(v4.is(), v4.loadSaddr(), within(reg0, loopback), masquerade()),
		rule(iifname(reg0), oifname(reg0+4), in(hairpins), masquerade()))
	masqAll = []exprs{masquerade()}
	return []chain{
		{name: chainPublished, rules: published},
		{name: chainHairpin, rules: hairpin},
		{name: chainMasqAll, rules: masqAll},
	}
}

// baseChains sit behind those of kube-proxy and Docker at the same hook, which
// use dstnat and srcnat themselves, so that a service address is theirs first.
func baseChains() []chain {
	var postrouting []exprs
	for _, f := range families() {
		s := f.sets()
		postrouting = append(postrouting,
			rule(ctStatusDNAT(), f.destination(), vmap(s.snat)),
			rule(f.is(), f.loadSaddr(), oifname(f.after()), in(s.direct), back()),
			rule(f.is(), f.loadDaddr(reg0), within(reg0, f.multicast), back()),
			rule(f.is(), f.loadSaddr(), in(s.masq), masquerade()))
	}
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, rules ...exprs) chain {
		return chain{name: name, kind: kind, hook: hook, priority: priority, rules: rules}
	}
	const after = 5
	return []chain{
		// Loopback addresses, and those of the host, are nobody's outside of it.
		// The kernel accepts the former from links with route_localnet, and would
		// be late: what is published at 127.0.0.1 is translated before it looks. At
		// this priority answers to a translated connection still bear the bridge's
		// address.
		base(chainGuard, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, guardPriority(),
			outsideLoopback(v4.loadSaddr(), expr.Fib{FlagSADDR: true}),
			outsideLoopback(v4.loadDaddr(reg0), expr.Fib{FlagDADDR: true}),
			rule(iif(reg0), in(isolated), addressType(expr.Fib{FlagSADDR: true}), equal(reg0, rtnLocal), drop()),
			rule(iif(reg0), notIn(isolated), astray())),
		// A container on two networks answers clients of either by its one default
		// route. So for what comes from containers it takes connection tracking to
		// tell answers from packets that begin something under a forged address.
		base("sources", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle,
			rule(iif(reg0), in(isolated), ctDirection(reply), accept()),
			rule(iif(reg0), in(isolated), astray())),
		// Internal networks are judged without regard to connections, the others
		// in the chains that the maps lead to.
		base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter,
			fromPeers(),
			rule(iifname(reg0), vmap(from)),
			rule(meta(expr.MetaKeyNFPROTO, reg0), oifname(reg0+1), vmap(to))),
		base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter,
			fromPeers(),
			rule(iifname(reg0), vmap(host))),
		base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest+after,
			rule(fibDaddrLocal(), jump(chainPublished))),
		// ::1 cannot leave the host whatever its destination becomes (RFC 4291,
		// 2.5.3), so a server of the host keeps it.
		base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest+after,
			rule(v6.is(), v6.loadDaddr(reg0), equal(reg0, loopback6.AsSlice()), back()),
			rule(fibDaddrLocal(), jump(chainPublished))),
		base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource+after, postrouting...),
	}
}

// outsideLoopback drops a loopback address, which was loaded, where the link by
// which the packet came has none. (A VRF has its own.) Of IPv6 the kernel drops
// the like before any table sees it.
func outsideLoopback(load exprs, of expr.Fib) exprs {
	of.FlagIIF = true
	return rule(iifname(reg0), compare(expr.CmpOpNeq, reg0, ifname("lo")), v4.is(), load, within(reg0, loopback),
		addressType(of), compare(expr.CmpOpNeq, reg0, rtnLocal), drop())
}

// astray drops what comes by another link than that which leads to its source, if
// that is one of a network with a policy. It asks where the source is, rather than
// whether it is by the link in question, as IPv6 finds a default route for that.
func astray() exprs {
	return rule(exprs{&expr.Fib{Register: reg0, FlagSADDR: true, ResultOIF: true}}, in(isolated),
		iif(reg0+1), notIn(arrivals), drop())
}

func established() exprs {
	return rule(ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
}

func icmp(protocol byte) exprs { return rule(l4proto(reg0), equal(reg0, []byte{protocol}), accept()) }

func dns(protocol byte) exprs {
	return rule(l4proto(reg0), equal(reg0, []byte{protocol}), thDport(reg0), equal(reg0, port(53)), accept())
}

// neighbourDiscovery accepts ICMPv6 types 133 to 136 (RFC 4861).
func neighbourDiscovery() exprs {
	return rule(l4proto(reg0), equal(reg0, []byte{unix.IPPROTO_ICMPV6}),
		payload(expr.PayloadBaseTransportHeader, 0, 1, reg0),
		compare(expr.CmpOpGte, reg0, []byte{133}), compare(expr.CmpOpLte, reg0, []byte{136}), accept())
}
