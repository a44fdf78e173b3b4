package iptables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
)

// What can be done with a rule, as iptables-restore reads it.
const (
	add    = "-A"
	insert = "-I"
	remove = "-D"
	check  = "-C"
)

// A rule is one line of iptables-restore, by words.
type rule struct {
	op, chain string
	spec      []string
}

func (r rule) String() string {
	words := make([]string, len(r.spec))
	for i, w := range r.spec {
		words[i] = quote(w)
	}
	return strings.Join(append([]string{r.op, quote(r.chain)}, words...), " ")
}

// to returns r with another operation.
func (r rule) to(op string) rule { return rule{op, r.chain, r.spec} }

// value returns the word after option, empty if r lacks it.
func (r rule) value(option string) string {
	for i, w := range r.spec[:max(0, len(r.spec)-1)] {
		if w == option {
			return r.spec[i+1]
		}
	}
	return ""
}

// canonical returns the rule as one text, for a rule that is given and for the same
// one as iptables -S lists it: that adds the length of a single address, and the match
// of a protocol that has options.
func (r rule) canonical() string {
	words := []string{r.chain}
	for i := 0; i < len(r.spec); i++ {
		w := r.spec[i]
		if _, protocol := nat.ParseProtocol(next(r.spec, i)); w == "-m" && protocol {
			i++
			continue
		}
		if a, err := netip.ParsePrefix(w); err == nil && a.IsSingleIP() {
			w = a.Addr().String()
		}
		words = append(words, quote(w))
	}
	return strings.Join(words, " ")
}

// next returns the word after the i-th.
func next(words []string, i int) string {
	if i+1 < len(words) {
		return words[i+1]
	}
	return "-"
}

func (r rule) mark() owner.Mark { return owner.Mark(r.value("--comment")) }

// takes reports whether r, an entry of the shared chain, takes packets that m
// would take.
func (r rule) takes(m nat.Mapping) bool {
	proto, ip := r.value("-p"), r.value("-d")
	return (proto == m.Protocol.String() || proto == fmt.Sprint(uint8(m.Protocol))) &&
		r.value("--dport") == fmt.Sprint(m.HostPort) &&
		(ip == "" || !m.HostIP.IsValid() || strings.HasPrefix(ip, m.HostIP.String()+"/"))
}

// mapping reads back the published end that an entry of the shared chain is
// for; of the target only the family is known there.
func (r rule) mapping(f *family) (m nat.Mapping, ok bool) {
	port, err := strconv.ParseUint(r.value("--dport"), 10, 16)
	if err != nil {
		return m, false
	}
	m.HostPort = uint16(port)
	if m.Protocol, ok = nat.ParseProtocol(r.value("-p")); !ok {
		return m, false
	}
	if ip, err := netip.ParsePrefix(r.value("-d")); err == nil {
		m.HostIP = ip.Addr()
	}
	m.Target = netip.AddrPortFrom(f.loopback.Addr(), 0)
	return m, true
}

// parse reads one line of iptables -S; ok is false if it is no rule.
func parse(line string) (r rule, ok bool) {
	words := split(line)
	if len(words) < 2 || words[0] != add {
		return rule{}, false
	}
	return rule{add, words[1], words[2:]}, true
}

// quote returns w as one word of iptables-restore, whatever is in it but a
// line break.
func quote(w string) string {
	if w != "" && !strings.ContainsFunc(w, special) {
		return w
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
}

func special(c rune) bool {
	return c <= ' ' || c > '~' || strings.ContainsRune(`"'\#`, c)
}

// split is the inverse of quote for the words of a line.
func split(line string) []string {
	var words []string
	var word strings.Builder
	var open, quoted, escaped bool
	for _, c := range line + " " {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, open = !quoted, true
		case c == ' ' && !quoted:
			if open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(c)
			open = true
		}
	}
	return words
}
