package testnet

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// SharedOnly fails if, of what after has and before has not, anything but
// declared shared objects is there: bridges and links with a mark that is a
// network's, with their addresses, neighbours and routes,
// tables with their constant chains and rules, elements that belong to a bridge,
// sysctls, files; or if anything names one of the containers.
func SharedOnly(before, after Snapshot, containers ...string) error {
	var bad []string
	for _, line := range Diff(before, after) {
		if slices.ContainsFunc(containers, naming(line)) || !after.shared(line) {
			bad = append(bad, line)
		}
	}
	if bad != nil {
		return fmt.Errorf("left behind:\n\t%s", strings.Join(bad, "\n\t"))
	}
	return nil
}

// naming reports whether a line names a container: in a mark, a comment of the
// reference plugins, or a lease.
func naming(line string) func(container string) bool {
	return func(c string) bool {
		c = regexp.QuoteMeta(c)
		return regexp.MustCompile(`/` + c + `/|id: \\?"` + c + `\\?"|: ` + c + `(,|\s|$)`).MatchString(line)
	}
}

func (s Snapshot) shared(line string) bool {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' })
	sign, kind, name := words[0], words[1], strings.TrimSuffix(words[2], ":")
	switch kind {
	case "sysctl":
		return true
	case "link", "addr":
		// A bridge's MTU follows its ports (br_mtu_auto_adjust).
		return s.ofNetwork(name) && (sign == "+" || kind == "link" && slices.Contains(words, "mtu") && len(words) == 5)
	case "route", "fdb", "vlan", "neigh":
		// An overlay's route that refuses is by no link.
		return sign == "+" && (slices.Contains(words, "unreachable") ||
			slices.ContainsFunc(words, func(w string) bool { return s.ofNetwork(strings.TrimSuffix(w, ":")) }))
	case "nft":
		return sign == "+" && (name != "element" || s.sharedElement(line))
	case "iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy", "file":
		return sign == "+" // and names no container
	}
	return false
}

// ofNetwork reports whether a link is a bridge, the host's link in a VLAN of one,
// or one whose mark is a network's.
func (s Snapshot) ofNetwork(link string) bool {
	attributes := s["link "+link]
	if s.isBridge(link) || slices.ContainsFunc(attributes, func(a string) bool { return strings.HasPrefix(a, "ifalias */") }) {
		return true
	}
	bridge, _, ok := strings.Cut(link, ".")
	return ok && slices.Contains(attributes, "linkinfo.info_kind vlan") && s.ofNetwork(bridge)
}

func (s Snapshot) isBridge(link string) bool {
	return slices.Contains(s["link "+link], "linkinfo.info_kind bridge")
}

// sharedElement: the owner of what belongs to a bridge is on the network "*". A
// record of the owners goes on in elements with the same hash, not all of which
// say so.
func (s Snapshot) sharedElement(line string) bool {
	const shared = `"*/`
	if strings.Contains(line, shared) || strings.Contains(line, " */") {
		return true
	}
	object, _, _ := strings.Cut(strings.TrimPrefix(line, "+ "), ": ")
	head, _, ok := strings.Cut(object, `",`)
	if !ok || !strings.Contains(object, " owners ") {
		return false
	}
	for o, attributes := range s {
		if strings.HasPrefix(o, head) && strings.Contains(strings.Join(attributes, " "), " */") {
			return true
		}
	}
	return false
}
