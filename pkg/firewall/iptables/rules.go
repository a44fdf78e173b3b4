package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// hide is the target that translates source addresses. Ports are chosen at
// random, because two connections that choose one at once lose a packet.
var hide = []string{"MASQUERADE", "--random-fully"}

// A want is what an attachment wants in the nat table of one family.
type want struct {
	*family
	shared []rule        // of all attachments, made when missing and left behind
	chains []string      // of this attachment alone
	rules  []rule        // of this attachment alone, in the order they are made
	claims []nat.Mapping // whose host ports no other attachment may hold
}

func publishRules(f *family, p nat.Publish) want {
	w := want{family: f, claims: f.mappings(p)}
	if len(w.claims) == 0 {
		return w
	}
	names := published.chains(p.Mark)
	dnat, gate := names[0], names[1]
	w.shared = f.dispatch(p)
	w.chains = []string{dnat}
	for _, who := range f.hidden(p) {
		w.rules = append(w.rules, owned(p.Mark, dnat, who, setMark(p)...))
	}
	for _, m := range w.claims {
		w.rules = append(w.rules, owned(p.Mark, dnat, f.hostEnd(m), "DNAT", "--to-destination", m.Target.String()))
	}
	entry := dnat
	// A chain of their own lets conditions use any option, also those that the
	// other rules use themselves, each of which iptables takes only once.
	if conditions := f.conditions(p); len(conditions) > 0 {
		w.chains = append(w.chains, gate)
		w.rules = append(w.rules, owned(p.Mark, gate, conditions, dnat))
		entry = gate
	}
	for _, m := range w.claims {
		w.rules = append(w.rules, owned(p.Mark, published.shared, f.hostEnd(m), entry))
	}
	return w
}

// dispatch returns the shared rules that lead to published ports. They spare
// loopback addresses where these cannot be, or must not be, translated: ::1
// everywhere, 127.0.0.0/8 where a packet comes from outside, which would else
// reach what is published on 127.0.0.1 alone.
func (f *family) dispatch(p nat.Publish) []rule {
	local := []string{"-m", "addrtype", "--dst-type", "LOCAL", "-j", published.shared}
	outside := append([]string{"!", "-d", f.loopback.String()}, local...)
	rules := []rule{{add, "PREROUTING", outside}, {add, "OUTPUT", local}}
	if f == v6 {
		rules[1].spec = outside
	}
	if p.Source != nat.Keep && p.SetMarkChain == "" {
		// First, lest a rule that spares the bridge's subnet comes before it.
		rules = append(rules, rule{insert, "POSTROUTING", slices.Concat([]string{"-m", "mark", "--mark", markBit(p), "-j"}, hide)})
	}
	return rules
}

// hidden returns the matches of packets whose source address is translated.
func (f *family) hidden(p nat.Publish) [][]string {
	switch {
	case p.Source == nat.All:
		return [][]string{nil}
	case p.Source == nat.Hairpin && f == v4:
		return [][]string{{"-i", p.Bridge}, {"-s", f.loopback.String()}}
	case p.Source == nat.Hairpin:
		return [][]string{{"-i", p.Bridge}}
	}
	return nil
}

// setMark returns the target that has a packet masqueraded later on: the source
// address can only be changed in POSTROUTING, where the host port is forgotten.
func setMark(p nat.Publish) []string {
	if p.SetMarkChain != "" {
		return []string{p.SetMarkChain}
	}
	return []string{"MARK", "--set-xmark", markBit(p)}
}

// markBit is the bit as a value and its mask.
func markBit(p nat.Publish) string {
	bit := uint32(1) << p.MarkBit
	return fmt.Sprintf("%#x/%#x", bit, bit)
}

// hostEnd matches packets to the published end of m.
func (f *family) hostEnd(m nat.Mapping) []string {
	var spec []string
	if m.HostIP.IsValid() {
		spec = []string{"-d", m.HostIP.String()}
	}
	return append(spec, "-p", m.Protocol.String(), "--dport", fmt.Sprint(m.HostPort))
}

// mappings returns those of the family; those of one host address come first,
// so that within one attachment the special one wins over the general one.
func (f *family) mappings(p nat.Publish) []nat.Mapping {
	of := func(special bool) (ms []nat.Mapping) {
		for _, m := range p.Mappings {
			if f.has(m.Target.Addr()) && m.HostIP.IsValid() == special {
				ms = append(ms, m)
			}
		}
		return ms
	}
	return slices.Concat(of(true), of(false))
}

func (f *family) conditions(p nat.Publish) []string {
	if f == v4 {
		return p.ConditionsV4
	}
	return p.ConditionsV6
}

func masqueradeRules(f *family, m nat.Masquerade) want {
	w := want{family: f, shared: []rule{{add, "POSTROUTING", []string{"-j", masquerade.shared}}}}
	for _, addr := range f.addrs(m) {
		for _, kin := range m.Kin {
			w.rules = append(w.rules, owned(m.Mark, masquerade.shared, []string{"-s", addr.String(), "-o", kin}, "RETURN"))
		}
		w.rules = append(w.rules, owned(m.Mark, masquerade.shared, f.leaving(m, addr), hide...))
	}
	return w
}

// leaving matches packets from addr to neither the bridge nor a group.
func (f *family) leaving(m nat.Masquerade, addr netip.Addr) []string {
	return []string{"-s", addr.String(), "!", "-d", f.multicast.String(), "!", "-o", m.Bridge}
}

func (f *family) addrs(m nat.Masquerade) (addrs []netip.Addr) {
	for _, p := range m.Addrs {
		if f.has(p.Addr()) {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

func owned(m owner.Mark, chain string, match []string, target ...string) rule {
	comment := []string{"-m", "comment", "--comment", string(m), "-j"}
	return rule{add, chain, slices.Concat(match, comment, target)}
}
