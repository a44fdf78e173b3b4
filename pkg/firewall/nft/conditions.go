package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
)

// ParseConditions judges the conditions of one family ("4" or "6"). They are a
// row of matches, all of which must hold, in nft's words or in iptables':
//
//	ip saddr|daddr [!=] ADDRESS[/LENGTH]     [!] -s|-d ADDRESS[/LENGTH]
//	iifname [!=] NAME                        [!] -i NAME
//
// and "ip6" for IPv6. Nothing else is accepted, and nothing is handed to a
// shell or to nft as text.
func ParseConditions(ipv6 bool, words []string) error {
	f := v4
	if ipv6 {
		f = v6
	}
	_, err := parseConditions(f, words)
	return err
}

// OnlyIPTablesKnows reports whether conditions have an option of iptables that
// ParseConditions does not accept ("-m").
func OnlyIPTablesKnows(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		return strings.HasPrefix(w, "-") && conditionWords[w] == ""
	})
}

var conditionWords = map[string]string{
	"-s": "saddr", "--source": "saddr", "--src": "saddr",
	"-d": "daddr", "--destination": "daddr", "--dst": "daddr",
	"-i": "iifname", "--in-interface": "iifname", "iifname": "iifname",
}

func parseConditions(f family, words []string) (exprs, error) {
	var out exprs
	for len(words) > 0 {
		match, rest, err := parseCondition(f, words)
		if err != nil {
			return nil, err
		}
		out, words = append(out, match...), rest
	}
	return out, nil
}

func parseCondition(f family, words []string) (exprs, []string, error) {
	all := strings.Join(words, " ")
	op := expr.CmpOpEq
	negate := func(word string) {
		if len(words) > 0 && words[0] == word {
			op, words = expr.CmpOpNeq, words[1:]
		}
	}
	negate("!")
	var what string
	switch {
	case len(words) >= 2 && words[0] == f.name && slices.Contains([]string{"saddr", "daddr"}, words[1]):
		what, words = words[1], words[2:]
	case len(words) >= 1:
		what, words = conditionWords[words[0]], words[1:]
	}
	negate("!=")
	if what == "" || len(words) == 0 {
		return nil, nil, fmt.Errorf("%q: want matches such as %q, %q or %q", all, f.name+" saddr != SUBNET", "! -d SUBNET", "iifname LINK")
	}
	value, rest := words[0], words[1:]
	if what == "iifname" {
		if len(value) > 15 || value == "" {
			return nil, nil, fmt.Errorf("%q: want a link name of 1 to 15 bytes", value)
		}
		return rule(iifname(reg0), compare(op, reg0, ifname(value))), rest, nil
	}
	prefix, err := parsePrefix(value)
	if err != nil || prefix.Addr().Is4() != (f.nfproto == v4.nfproto) {
		return nil, nil, fmt.Errorf("%q: want an address or subnet of family %s", value, f.name)
	}
	load := f.loadDaddr(reg0)
	if what == "saddr" {
		load = f.loadSaddr()
	}
	return rule(f.is(), load, masked(op, reg0, prefix)), rest, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}
