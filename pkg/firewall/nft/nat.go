package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables/expr"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// Masquerade returns the masquerading of one attachment's addresses.
func Masquerade(m nat.Masquerade) engine.Resource {
	c := claim{kind: "bridge", mark: m.Mark, witness: m.Mark.HostLink()}
	for _, p := range m.Addrs {
		a := p.Addr()
		s := familyOf(a).sets()
		for _, l := range m.Links() {
			c.elems = append(c.elems, element{set: s.direct, key: concatKey(address(a), ifname(l)), text: a.String() + " . " + l})
		}
		c.elems = append(c.elems, element{set: s.masq, key: address(a), text: a.String()})
	}
	slices.SortStableFunc(c.elems, bySet)
	return c
}

// Hairpin lets published ports of a link answer the container itself and its
// peers on the link. It is the link's, not a container's.
func Hairpin(link string) engine.Resource {
	return claim{kind: "portmap", mark: shared(link, "hairpin"), shared: true, elems: []element{hairpin(link)}}
}

func hairpin(link string) element {
	return element{set: hairpins, key: concatKey(ifname(link), ifname(link)), text: link + " . " + link}
}

// Publish returns the published ports of one attachment. Conditions must have
// passed ParseConditions.
func Publish(p nat.Publish) engine.Resource {
	b := publisher{Publish: p, claim: claim{kind: "portmap", mark: p.Mark, witness: p.Link}, opened: map[string]bool{}}
	for _, m := range p.Mappings {
		b.mapping(m)
	}
	if p.Source == nat.Hairpin {
		b.self()
	}
	if p.OwnLink() {
		b.elems = append(b.elems, hairpin(p.Link))
	}
	slices.SortStableFunc(b.elems, bySet)
	return published{b.claim, p.Mappings}
}

func bySet(a, b element) int {
	order := setOrder()
	return order[a.set.name] - order[b.set.name]
}

// setOrder is the place of each set of the table among all of them.
var setOrder = sync.OnceValue(func() map[string]int {
	order := map[string]int{}
	for i, s := range tableSets() {
		order[s.name] = i
	}
	return order
})

var tableSets = sync.OnceValue(func() []set { return append(allSets(), bridgeSets()[1:]...) }) // owners is in both

// setNamed finds a set of the table.
func setNamed(name string) (set, bool) {
	i, ok := setOrder()[name]
	if !ok {
		return set{}, false
	}
	return tableSets()[i], true
}

type publisher struct {
	nat.Publish
	claim
	opened map[string]bool // the refs of elements of open4 and open6
}

func (b *publisher) mapping(m nat.Mapping) {
	target := m.Target.Addr()
	f := familyOf(target)
	s := f.sets()
	if m.OpenOnly {
		b.container(s, m)
		return
	}
	key, text := concatKey([]byte{byte(m.Protocol)}, port(m.HostPort)), fmt.Sprintf("%s . %d", m.Protocol, m.HostPort)
	plain, conditional := s.ports, s.conditional
	if m.HostIP.IsValid() {
		key, text = append(address(m.HostIP), key...), fmt.Sprintf("%s . %s", m.HostIP, text)
		plain, conditional = s.hostPorts, s.hostConditional
	}
	object := "host port " + m.Host()
	if words := b.conditions(f); len(words) > 0 {
		name := "c" + f.suffix + "_" + b.Mark.Hash()[:24]
		b.conditionRule(name, f, words, m)
		e := vmapElement(conditional, key, text, expr.VerdictGoto, name)
		e.object = object
		b.elems = append(b.elems, e)
	} else {
		b.elems = append(b.elems, element{
			set: plain, key: key, object: object,
			value: concatKey(address(target), port(m.Target.Port())),
			text:  fmt.Sprintf("%s : %s . %d", text, target, m.Target.Port()),
		})
	}
	b.container(s, m)
}

// container opens the container's own port, once however many host ports lead
// to it.
func (b *publisher) container(s byFamily, m nat.Mapping) {
	target := m.Target.Addr()
	key := concatKey(address(target), []byte{byte(m.Protocol)}, port(m.Target.Port()))
	text := fmt.Sprintf("%s . %s . %d", target, m.Protocol, m.Target.Port())
	open := element{set: s.open, key: key, text: text}
	if b.opened[open.ref()] {
		return
	}
	b.opened[open.ref()] = true
	b.elems = append(b.elems, open)
	if m.OpenOnly {
		return // nothing is translated
	}
	switch b.Source {
	case nat.Hairpin:
		b.elems = append(b.elems, vmapElement(s.snat, key, text, expr.VerdictGoto, chainHairpin))
	case nat.All:
		b.elems = append(b.elems, vmapElement(s.snat, key, text, expr.VerdictGoto, chainMasqAll))
	}
}

// self adds each address that something leads to, once.
func (b *publisher) self() {
	seen := map[netip.Addr]bool{}
	for _, m := range b.Mappings {
		if a := m.Target.Addr(); !seen[a] && m.Maps() {
			seen[a] = true
			b.elems = append(b.elems, element{set: familyOf(a).sets().self, key: concatKey(address(a), address(a)), text: a.String() + " . " + a.String()})
		}
	}
}

func (b *publisher) conditions(f family) []string {
	if f.nfproto == v4.nfproto {
		return b.ConditionsV4
	}
	return b.ConditionsV6
}

// conditionRule adds to the attachment's own chain what maps m if the
// conditions hold.
func (b *publisher) conditionRule(name string, f family, words []string, m nat.Mapping) {
	i := slices.IndexFunc(b.chains, func(c chain) bool { return c.name == name })
	if i < 0 {
		b.chains = append(b.chains, chain{name: name})
		i = len(b.chains) - 1
	}
	alternatives, _ := parseConditions(f, words) // judged by ParseConditions
	match := rule(f.is(), l4proto(reg0), equal(reg0, []byte{byte(m.Protocol)}), thDport(reg0), equal(reg0, port(m.HostPort)))
	if m.HostIP.IsValid() {
		match = rule(match, f.loadDaddr(reg0), equal(reg0, address(m.HostIP)))
	}
	to := exprs{
		&expr.Immediate{Register: reg0, Data: address(m.Target.Addr())},
		&expr.Immediate{Register: f.after(), Data: port(m.Target.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: reg0, RegProtoMin: f.after(), Specified: true},
	}
	for _, conditions := range alternatives {
		b.chains[i].rules = append(b.chains[i].rules, rule(match, conditions, to))
	}
	b.chains[i].texts = append(b.chains[i].texts, fmt.Sprintf("%s if %s dnat to %s", m.Host(), strings.Join(words, " "), m.Target))
}

// hostPort decodes a ref of the index to the published end that it names.
func hostPort(setName string, key []byte) (hostIP netip.Addr, proto nat.Protocol, hostPort uint16, ok bool) {
	for _, f := range families() {
		s := f.sets()
		switch setName {
		case s.hostPorts.name, s.hostConditional.name:
			hostIP, _ = netip.AddrFromSlice(key[:f.bytes])
			key = key[f.bytes:]
		case s.ports.name, s.conditional.name:
		default:
			continue
		}
		return hostIP, nat.Protocol(key[0]), uint16(key[4])<<8 | uint16(key[5]), true
	}
	return hostIP, 0, 0, false
}
